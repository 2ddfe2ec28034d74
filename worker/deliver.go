package worker

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// A Delivery is one message, as the queue hands it over.
type Delivery struct {
	Queue   string
	TaskID  string
	Payload []byte
	Trace   map[string]string // the task's headers
}

// Deliver does what a message asks for, as far as it may be done now, and
// returns nil: the message has done its work, whatever became of the restore.
// Everything that has to wait waits in the store. An error means that the store
// could not be reached; then the message must come again.
func (w *Worker) Deliver(ctx context.Context, d Delivery) error {
	row, direct, err := w.record(ctx, d)
	if err != nil || row.ID == "" {
		return err
	}
	admitted, err := w.admit(ctx, row, direct)
	if err != nil || !admitted {
		return err
	}
	seen, ok, err := w.observe(ctx, row)
	if err != nil || !ok {
		return err
	}
	return w.restore(ctx, row, seen)
}

// record turns the message into a row. direct: the message is the producer's own.
func (w *Worker) record(ctx context.Context, d Delivery) (row results.Restore, direct bool, err error) {
	m, err := tasks.Decode(d.Payload)
	switch {
	case err != nil:
		return row, false, w.reject(ctx, d, err.Error())
	case m.Wake != nil:
		row, err = w.awake(ctx, d, *m.Wake)
		return row, false, err
	case m.Restore.Cloud != w.Cloud.Name():
		return row, false, w.reject(ctx, d, "it is for cloud "+m.Restore.Cloud+", which does not belong on this queue")
	}
	m.Restore.Trace = d.Trace
	row, err = w.recordRequest(ctx, *m.Restore)
	return row, true, err
}

func (w *Worker) recordRequest(ctx context.Context, r tasks.Restore) (results.Restore, error) {
	row, outcome, err := w.Store.Record(ctx, r)
	if err != nil {
		return results.Restore{}, err
	}
	switch outcome {
	case results.RecordedConflict:
		w.Log.Warn().Str("restore", r.ID).Str("volume", r.VolumeID).Msg("another request has this id; not recorded")
		return results.Restore{}, nil
	case results.RecordedDuplicate:
		w.logMove(row, "duplicate request")
		return results.Restore{}, nil
	case results.RecordedNew:
		w.logMove(row, "recorded")
	}
	return row, nil
}

// awake finds the row of dispatch's message. Such a message without a row is of
// another store: it is kept, never turned into a restore.
func (w *Worker) awake(ctx context.Context, d Delivery, wake tasks.Wake) (results.Restore, error) {
	row, err := w.Store.Get(ctx, wake.ID)
	switch {
	case errors.Is(err, results.ErrNotFound):
		return results.Restore{}, w.reject(ctx, d, "restore "+wake.ID+" is not in this store; do two stores use this Redis?")
	case err != nil:
		return results.Restore{}, err
	case row.Cloud != w.Cloud.Name():
		return results.Restore{}, w.reject(ctx, d, "restore "+wake.ID+" is of cloud "+row.Cloud)
	}
	return row, nil
}

func (w *Worker) reject(ctx context.Context, d Delivery, reason string) error {
	fresh, err := w.Store.Reject(ctx, results.Rejected{Queue: d.Queue, TaskID: d.TaskID, Payload: d.Payload, Reason: reason, Worker: w.Name})
	if fresh {
		w.Log.Error().Str("queue", d.Queue).Str("task", d.TaskID).Str("reason", reason).Msg("message rejected and kept")
	}
	return err
}

// admit asks the store whether the row may be worked on now. The row's state is
// the permission, not the message: queued, by whatever message; waiting, only by
// the producer's own first one, and only if nobody else's turn is before it.
func (w *Worker) admit(ctx context.Context, row results.Restore, direct bool) (bool, error) {
	mine := row.State == results.Queued || row.State == results.Waiting && direct && firstTime(row)
	if !mine {
		return false, nil
	}
	if !row.NotAfter.IsZero() && w.Store.Now().After(row.NotAfter) {
		return false, w.fail(ctx, row, "late", "its time is over: it was wanted before "+row.NotAfter.Format(time.RFC3339),
			"ask again if it is still wanted: vbsrestore restore retry "+row.ID)
	}
	refusal, err := w.Store.Admits(ctx, row)
	if err == nil && refusal == nil && row.State == results.Waiting {
		refusal, err = w.queueUp(ctx, row)
	}
	if err != nil || refusal != nil {
		return false, errors.Join(err, w.letWait(ctx, row, refusal))
	}
	return true, nil
}

// queueUp lets a row that comes straight from its producer wait behind those
// that are due already.
func (w *Worker) queueUp(ctx context.Context, row results.Restore) (*results.Refusal, error) {
	due, err := w.Store.OthersDue(ctx, row)
	if err != nil || !due {
		return nil, err
	}
	return &results.Refusal{Wait: results.WaitTurn, Reason: "others were due before it"}, nil
}

// firstTime: never released, never tried, never sent back.
func firstTime(row results.Restore) bool {
	single := row.Class == tasks.ClassUrgent || row.Class == tasks.ClassDirect
	return single && row.Generation == 0 && row.Attempt == 0 && row.Waits == 0
}

// restore claims the row, sends the one POST and settles it. The deadline counts
// from before the claim, on this process's own clocks.
func (w *Worker) restore(ctx context.Context, row results.Restore, seen sight) error {
	deadline := time.Now().Add(w.PostTimeout)
	claim := seen.claim(row)
	claim.Worker, claim.PostTimeout, claim.RequestID = w.Name, w.PostTimeout, "req-"+uuid.NewString()
	claimed, err := w.Store.Claim(ctx, claim)
	var refusal *results.Refusal
	if errors.As(err, &refusal) {
		return w.letWait(ctx, row, refusal)
	}
	if err != nil {
		return err
	}
	// From here on neither a shutdown nor a lost queue may cut the POST off or
	// lose its answer. If the process dies, the watcher settles the row.
	ctx = context.WithoutCancel(ctx)
	answer, err := w.Cloud.Restore(ctx, vbs.Post{BackupID: row.BackupID, VolumeID: row.VolumeID, RequestID: claim.RequestID, NotAfter: deadline})
	w.settle(ctx, claimed, answer, err)
	return nil
}

// letWait puts a row back to waiting with the reason, at no cost.
func (w *Worker) letWait(ctx context.Context, row results.Restore, r *results.Refusal) error {
	if r == nil || r.Wait == results.WaitTurn && row.State == results.Queued {
		return nil // somebody else has it, or dispatch sends it again in a moment
	}
	until := r.Until
	if until.IsZero() && r.Wait == results.WaitHeld { // woken when the other one ends
		until = w.Store.Now().Add(Backoff(row.Waits+1, 0))
	}
	return w.move(ctx, results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, To: results.Waiting, Kind: "waits",
		Actor: w.Name, Reason: r.Reason, Wait: r.Wait, NotBefore: until, Quiet: row.State == results.Waiting && row.Wait == r.Wait})
}

func (w *Worker) fail(ctx context.Context, row results.Restore, class, reason, advice string) error {
	return w.move(ctx, results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, To: results.Failed, Kind: "failed",
		Actor: w.Name, Reason: reason, FailClass: class, Advice: advice})
}

// move writes a move and logs it; losing the race for the row is normal.
func (w *Worker) move(ctx context.Context, m results.Move) error {
	row, err := w.Store.Move(ctx, m)
	if errors.Is(err, results.ErrMoved) {
		return nil
	}
	if err != nil {
		return err
	}
	if !m.Quiet {
		w.logMove(row, m.Kind)
	}
	return nil
}
