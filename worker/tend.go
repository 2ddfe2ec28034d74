package worker

import (
	"context"
	"errors"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
)

const (
	tendEvery    = 5 * time.Second
	unblockEvery = 30 * time.Second
	replayEvery  = time.Minute
	unblockMost  = 5000
	replayPage   = 100
	fewVolumes   = 3 // up to so many are read singly, more by one listing
)

// Tend does the leader's small jobs until ctx ends: it probes a cloud that a
// verdict paused, looks whether attached and busy volumes became free, and
// replays rejected messages that this worker can read.
func (w *Worker) Tend(ctx context.Context, beat func()) error {
	var unblocked, replayed time.Time
	for {
		err := w.probe(ctx)
		if now := time.Now(); now.Sub(unblocked) >= unblockEvery {
			err, unblocked = errors.Join(err, w.unblock(ctx)), now
		}
		if now := time.Now(); now.Sub(replayed) >= replayEvery {
			err, replayed = errors.Join(err, w.replay(ctx)), now
		}
		if err == nil {
			beat()
		} else if ctx.Err() == nil {
			w.Log.Debug().Err(err).Msg("tend the cloud")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tendEvery):
		}
	}
}

// probe reads once from a paused cloud when the time has come; an answer opens
// the door for one restore, and if that is accepted the pause is over.
func (w *Worker) probe(ctx context.Context) error {
	c, err := w.Store.Cloud(ctx, w.Cloud.Name())
	if err != nil || c.PausedBy != "verdict" || w.Store.Now().Before(c.ProbeAt) {
		return err
	}
	err = w.Cloud.Ping(ctx)
	w.noteRead(ctx, err)
	reason := "the cloud answers again; one restore may go"
	if err != nil {
		reason = "the cloud still refuses: " + inWords(err)
	}
	_, err = w.Store.Probed(ctx, c.Name, err == nil, reason)
	return err
}

// unblock makes rows due whose volume is free now: one listing for all of them.
func (w *Worker) unblock(ctx context.Context) error {
	rows, err := w.Store.Blocked(ctx, w.Cloud.Name(), unblockMost)
	if err != nil || len(rows) == 0 {
		return err
	}
	free, err := w.freeVolumes(ctx, rows)
	if err != nil {
		return err
	}
	var due []string
	for _, r := range rows {
		if free[r.VolumeID] {
			due = append(due, r.ID)
		}
	}
	if len(due) == 0 {
		return nil
	}
	return w.Store.Due(ctx, due)
}

func (w *Worker) freeVolumes(ctx context.Context, rows []results.Restore) (map[string]bool, error) {
	free := map[string]bool{}
	if len(rows) > fewVolumes {
		for v, err := range w.Cloud.EachVolume(ctx, vbs.VolumeQuery{Status: statusAvailable}) {
			if err != nil {
				return nil, err
			}
			free[v.ID] = true
		}
		return free, nil
	}
	for _, r := range rows {
		if err := w.Reads.delivery(ctx); err != nil {
			return nil, err
		}
		v, err := w.Cloud.Volume(ctx, r.VolumeID)
		if err != nil && !vbs.IsGone(err) {
			return nil, err
		}
		free[r.VolumeID] = err != nil || v.Status != "in-use" && len(v.Attachments) == 0
	}
	return free, nil
}

// replay records rejected messages that this worker understands after all: an
// older worker met a newer message, or one of a cloud it did not serve.
func (w *Worker) replay(ctx context.Context) error {
	var at results.Page
	for {
		kept, err := w.Store.Rejections(ctx, at, replayPage)
		if err != nil {
			return err
		}
		for _, r := range kept {
			if err := w.replayOne(ctx, r); err != nil {
				return err
			}
			at = results.Page{CreatedAt: r.At, ID: r.ID}
		}
		if len(kept) < replayPage {
			return nil
		}
	}
}

func (w *Worker) replayOne(ctx context.Context, r results.Rejected) error {
	m, err := tasks.Decode(r.Payload)
	if err != nil || r.Truncated || m.Restore == nil || m.Restore.Cloud != w.Cloud.Name() {
		return nil // still not for us
	}
	row, outcome, err := w.Store.Replayed(ctx, r.ID, *m.Restore)
	if err != nil && !errors.Is(err, results.ErrMoved) {
		return err
	}
	if outcome == results.RecordedNew {
		w.logMove(row, "rejected message replayed")
	}
	return nil
}
