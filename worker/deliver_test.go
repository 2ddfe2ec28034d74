package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
)

func TestARestoreGoesThroughTheWholePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, simulator.Config{Volumes: 3, Seed: 1})
		defer w.close()
		w.start()
		pair := w.cloud.Pairs()[0]
		id := w.ask(pair)
		row := w.until(id, 10*time.Minute, results.Succeeded)
		if row.VolumeName != name(w, pair) || row.Proof != results.ProofStatus || row.Attempt != 1 {
			t.Errorf("got name %q, proof %q, %d attempts, want the volume's, status, 1\n%s", row.VolumeName, row.Proof, row.Attempt, w.story(id))
		}
		if n := len(w.executions(id)); n != 1 {
			t.Errorf("the cloud executed it %d times, want once", n)
		}
	})
}

func name(w *world, p simulator.Pair) string {
	for _, v := range w.cloud.Volumes() {
		if v.ID == p.VolumeID {
			return v.Name
		}
	}
	return ""
}
