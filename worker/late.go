package worker

import (
	"context"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

const (
	unsureFor   = 6 * time.Hour    // how long after its end a restore is looked after for a late execution
	unsureEvery = 30 * time.Second // how often at first; ever more seldom later
	unsureRare  = 10 * time.Minute
)

// unsure lists restores that have ended, but had a POST which was taken for not
// executed by evidence alone. If a gateway holds such a POST back for longer than
// settle and until after the end, it cannot be stopped; but it is seen and told.
func (x *Watcher) unsure(ctx context.Context, began time.Time) []results.Restore {
	if began.Before(x.unsureAt) {
		return nil
	}
	x.unsureAt = began.Add(unsureEvery)
	rows, err := x.worker.Store.Unsure(ctx, x.worker.Cloud.Name(), began.Add(-unsureFor))
	if err != nil && ctx.Err() == nil {
		x.worker.Log.Warn().Err(err).Msg("look for late executions")
	}
	return rows
}

// alarm tells of ended restores whose volume is being restored once more, or was,
// and not by us.
func (x *Watcher) alarm(ctx context.Context, unsure []results.Restore, running map[string]vbs.Volume, held map[string]bool, began time.Time) {
	for _, r := range unsure {
		if held[r.VolumeID] {
			continue
		}
		_, again := running[r.VolumeID]
		if !again && began.Before(x.lateAt[r.ID]) {
			continue
		}
		x.lateAt[r.ID] = began.Add(min(max(unsureEvery, began.Sub(r.FinishedAt)/4), unsureRare))
		if again = again || x.worker.ranAgain(ctx, r); again {
			x.tellLate(ctx, r)
		}
	}
}

// ranAgain: volume and backup moved after the end, close together and at rest, as
// the end of a restore leaves them.
func (w *Worker) ranAgain(ctx context.Context, r results.Restore) bool {
	s, err := w.look(ctx, r, w.Reads.delivery)
	if err != nil || s.goneV || s.goneB || r.SeenVolume.IsZero() {
		return false
	}
	lag := s.backup.Updated.Sub(s.volume.Updated)
	if !s.volume.Updated.After(r.SeenVolume) || !s.backup.Updated.After(r.SeenBackup) || lag < 0 || lag > endWindow {
		return false
	}
	_, ours, err := w.Store.RestoredSince(ctx, r.VolumeID, r.ID, r.FinishedAt)
	return err == nil && !ours
}

func (x *Watcher) tellLate(ctx context.Context, r results.Restore) {
	reason := "the volume was restored again after the end, and not by vbsrestore: a POST held back by the cloud's gateway beyond settle, or somebody else"
	advice := "data written after " + r.FinishedAt.Format(time.RFC3339) + " may be overwritten; raise settle above the gateway's time-out: vbsrestore cloud set " + r.Cloud + " --settle …"
	if err := x.worker.Store.ExecutedAgain(ctx, r, reason, advice, x.worker.Name); err != nil {
		x.worker.Log.Warn().Err(err).Str("restore", r.ID).Msg("note a late execution")
		return
	}
	x.worker.Log.Error().Str("restore", r.ID).Str("volume", r.VolumeID).Str("volume_name", r.VolumeName).Msg("volume restored again after its restore ended")
}

func volumesOf(rows []results.Watch) map[string]bool {
	held := make(map[string]bool, len(rows))
	for _, r := range rows {
		held[r.VolumeID] = true
	}
	return held
}
