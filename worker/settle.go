package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

const (
	watchBase   = 30 * time.Minute
	watchPerGiB = time.Minute
	settleAgain = 10 * time.Second // at most between two tries to store an answer
)

// settle stores what the POST's answer means, trying as long as this process has
// its store open. If it dies before, the row stays posting and the watcher
// settles it from the cloud's side.
func (w *Worker) settle(ctx context.Context, row results.Restore, a vbs.Accepted, err error) {
	m := w.settlement(row, a, err)
	for try := 1; ; try++ {
		failed := w.move(ctx, m)
		if failed == nil {
			return
		}
		hopeless := errors.Is(failed, results.ErrClosed) || errors.Is(failed, results.ErrNotFound) || errors.As(failed, new(*results.ArrowError))
		if try == 1 || hopeless {
			w.Log.Error().Err(failed).Str("restore", row.ID).Int("attempt", row.Attempt).Msg("answer not stored yet")
		}
		if hopeless {
			return
		}
		time.Sleep(min(Backoff(try, 0), settleAgain))
	}
}

func (w *Worker) settlement(row results.Restore, a vbs.Accepted, err error) results.Move {
	ruling := Decide(err)
	m := results.Move{ID: row.ID, From: []results.State{results.Posting}, Attempt: row.Attempt, Actor: w.Name, Outcome: string(ruling.Act),
		Answer: answerOf(a, err), Costs: ruling.Costs, Kind: string(ruling.Act),
		Effect: results.Effect{Slow: ruling.Slow, Hold: ruling.Hold}}
	switch ruling.Act {
	case Accept:
		m.To, m.Accepted, m.Effect.Accepted = results.Restoring, true, true
		m.Reason = fmt.Sprintf("accepted by the cloud (%d); the volume is being written", a.Status)
		m.WatchDeadline = w.Store.Now().Add(watchTime(row))
		m.Seen = nameOf(row, a)
	case Observe, Busy:
		m.To, m.Costs = "", false // counted when it is judged
		m.Reason = inWords(err) + "; not believed, the watcher looks at the volume"
	case Again:
		m.To, m.Wait, m.Reason = results.Waiting, results.WaitBackoff, "not executed: "+inWords(err)
		m.NotBefore = w.Store.Now().Add(Backoff(row.Attempt, 0))
	case Throttle:
		m.To, m.Wait, m.Reason = results.Waiting, results.WaitPace, "not executed: "+inWords(err)
		m.NotBefore = w.Store.Now().Add(Backoff(1, ruling.Hold))
	case Refuse:
		m.To, m.Reason, m.FailClass, m.Advice = results.Failed, "refused: "+inWords(err), ruling.Class, ruling.Advice
	case PauseAll:
		m.To, m.Wait, m.Reason = results.Waiting, results.WaitPaused, "the cloud refuses everything: "+inWords(err)
		m.Effect.Pause = inWords(err) + "; " + ruling.Advice
	}
	return m
}

func nameOf(row results.Restore, a vbs.Accepted) *results.Sighting {
	return &results.Sighting{VolumeName: a.VolumeName, KeepVolume: true, KeepBackup: true, VolumeUpdated: row.SeenVolume, BackupUpdated: row.SeenBackup, At: row.SeenAt}
}

// watchTime is the latest sensible duration of a restore of this size.
func watchTime(row results.Restore) time.Duration {
	return watchBase + time.Duration(row.BackupGiB)*watchPerGiB
}

func answerOf(a vbs.Accepted, err error) *results.Answer {
	if err == nil {
		return &results.Answer{Status: a.Status, RequestID: a.RequestID, Answerer: vbs.Cinder.String(), Executed: "yes", Message: malformed(a)}
	}
	e := asError(err)
	return &results.Answer{Status: e.Status, Code: e.Code, Message: firstOf(e.Message, errText(e.Err)), RequestID: e.RequestID,
		Answerer: e.Answerer.String(), Executed: e.Executed.String(), RetryAfter: e.RetryAfter}
}

func malformed(a vbs.Accepted) string {
	if a.Malformed {
		return "accepted, with a body that is not JSON"
	}
	return "accepted"
}
