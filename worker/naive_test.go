package worker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"

	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// TestANaiveHandlerFailsTheSimulation is the sabotage check: a handler that
// POSTs, lets the queue retry any error and writes the outcome afterwards must
// restore twice and report wrongly in the same world, else the world is too kind.
func TestANaiveHandlerFailsTheSimulation(t *testing.T) {
	const fleets = 4
	doubled, wrong := 0, 0
	for seed := range uint64(fleets) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, w := naiveFleet(t, seed)
				doubled, wrong = doubled+d, wrong+w
			})
		})
	}
	t.Logf("naive handler: %d of %d restored more than once, %d reported wrongly", doubled, fleets*fleetVolumes, wrong)
	if doubled == 0 || wrong == 0 {
		t.Errorf("doubled %d, wrong %d: the simulated faults do not hurt a naive handler", doubled, wrong)
	}
}

func naiveFleet(t *testing.T, seed uint64) (doubled, wrong int) {
	w := newWorld(t, simulator.Config{Volumes: fleetVolumes, Seed: seed, GiBPerSecond: 4, Capacity: 4, Faults: standardMix()})
	f := &fleet{world: w, cap: fleetCap}
	said := map[string]bool{} // volume → reported restored
	servers := []*asynq.Server{naiveServer(t, w, said), naiveServer(t, w, said)}
	for _, p := range w.cloud.Pairs() {
		w.ask(p)
	}
	time.Sleep(3 * time.Minute)
	servers[0].Shutdown() // one rolling restart, and nothing else wrong with the machines
	servers[0] = naiveServer(t, w, said)
	time.Sleep(20 * time.Minute)
	for _, s := range servers {
		s.Shutdown()
	}
	runs := map[string]int{}
	fine := map[string]bool{}
	for _, e := range f.cloud.Executions() {
		runs[e.VolumeID]++
		fine[e.VolumeID] = e.Outcome == "available"
	}
	for _, p := range w.cloud.Pairs() {
		if runs[p.VolumeID] > 1 {
			doubled++
		}
		if said[p.VolumeID] != fine[p.VolumeID] {
			wrong++
		}
	}
	w.close()
	return doubled, wrong
}

// naiveServer is what one would write first.
func naiveServer(t *testing.T, w *world, said map[string]bool) *asynq.Server {
	client, err := w.open(t.Context(), w.cloud)
	must(t, err)
	rdb := w.client(&link{redis: w.redis})
	t.Cleanup(func() { rdb.Close() })
	s := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: 4, Queues: map[string]int{tasks.IntakeQueue(cloudName): 1},
		Logger: quiet{}, LogLevel: asynq.FatalLevel, RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 5 * time.Second }})
	handler := func(ctx context.Context, task *asynq.Task) error {
		m, err := tasks.Decode(task.Payload())
		if err != nil {
			return err
		}
		post := vbs.Post{BackupID: m.Restore.BackupID, VolumeID: m.Restore.VolumeID, RequestID: "req-" + tasks.NewID(), NotAfter: time.Now().Add(30 * time.Second)}
		if _, err := client.Restore(ctx, post); err != nil {
			return err
		}
		w.mu.Lock()
		said[m.Restore.VolumeID] = true
		w.mu.Unlock()
		return nil
	}
	must(t, s.Start(asynq.HandlerFunc(handler)))
	return s
}

type quiet struct{}

func (quiet) Debug(...any) {}
func (quiet) Info(...any)  {}
func (quiet) Warn(...any)  {}
func (quiet) Error(...any) {}
func (quiet) Fatal(...any) {}
