package results

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Cancel ends a restore that nothing was sent for yet. One whose POST may be on
// the wire, or that the cloud already runs, cannot be cancelled: the error says so.
func (s *Store) Cancel(ctx context.Context, id, actor, reason string) (Restore, error) {
	return s.act(ctx, id, actor, "cancelled", func(row *Restore, _ time.Time) error {
		if row.State != Waiting && row.State != Queued {
			return cannotCancel(*row)
		}
		row.State, row.Wait, row.Reason, row.FailClass = Cancelled, "", "cancelled: "+reason, "cancelled"
		if row.Unproven {
			row.Reason += " (its last attempt ended without proof; look at the volume)"
		}
		return nil
	})
}

func cannotCancel(row Restore) error {
	switch {
	case row.State.Final():
		return &ActError{row.ID, row.State, "it has already ended", "nothing to do"}
	case row.State == InDoubt:
		return &ActError{row.ID, row.State, "nobody knows whether the cloud has executed it", "look at the evidence: vbsrestore restore resolve " + row.ID}
	}
	return &ActError{row.ID, row.State, "its POST is on the wire or the cloud already runs it; the API has no way to stop a restore", "wait for it: vbsrestore restore show " + row.ID}
}

// An ActError is a person's act that the state of a restore does not allow.
type ActError struct {
	ID    string
	State State
	Why   string
	Hint  string
}

func (e *ActError) Error() string {
	return fmt.Sprintf("restore %s is %s: %s", e.ID, e.State, e.Why)
}

// Retry lets a person send a failed or cancelled restore again, under the same
// id. Its attempts are kept; budget and not_after count from now.
func (s *Store) Retry(ctx context.Context, id, actor, reason string) (Restore, error) {
	return s.act(ctx, id, actor, "retried", func(row *Restore, now time.Time) error {
		if row.State != Failed && row.State != Cancelled {
			return &ActError{row.ID, row.State, "only a failed or cancelled restore can be retried", "vbsrestore restore show " + row.ID}
		}
		backToWaiting(row, now, reason)
		return nil
	})
}

func backToWaiting(row *Restore, now time.Time, reason string) {
	if !row.NotAfter.IsZero() {
		row.NotAfter = now.Add(row.NotAfter.Sub(row.AskedAt))
	}
	row.State, row.Wait, row.Reason, row.NotBefore = Waiting, WaitTurn, "retried: "+reason, time.Time{}
	row.Spent, row.Waits, row.Releases, row.AskedAt, row.Overdue = 0, 1, 0, now, false
	row.FailClass, row.Advice, row.Proof, row.FinishedAt = "", "", ProofNone, time.Time{}
	row.VolumeGoneAt, row.BackupGoneAt = time.Time{}, time.Time{}
	row.Unproven = row.Unproven && !row.Accepted && !row.SeenRunning // what became of an accepted one is known
	row.Accepted, row.SeenRunning = false, false
}

// A Resolution is what a person concludes about a restore in doubt.
type Resolution string

const (
	ResolveRestored Resolution = "restored" // the volume holds the backup: succeeded, proof "person"
	ResolveFailed   Resolution = "failed"   // it does not, and is not to be tried again
	ResolveRetry    Resolution = "retry"    // it was not executed: send it again, after a fresh look at the cloud
)

// Resolve ends a doubt by a person's decision. Retry needs freshLook: the
// cloud was read after the person decided and shows volume and backup at rest.
func (s *Store) Resolve(ctx context.Context, id, actor, reason string, as Resolution, freshLook bool) (Restore, error) {
	if strings.TrimSpace(reason) == "" {
		return Restore{}, fmt.Errorf("resolve restore %s: a reason is needed", id)
	}
	return s.act(ctx, id, actor, "resolved", func(row *Restore, now time.Time) error {
		if row.State != InDoubt {
			return &ActError{row.ID, row.State, "only a restore in doubt can be resolved", "vbsrestore restore show " + row.ID}
		}
		return resolve(row, now, reason, as, freshLook)
	})
}

func resolve(row *Restore, now time.Time, reason string, as Resolution, freshLook bool) error {
	switch as {
	case ResolveRestored:
		row.State, row.Proof, row.Reason, row.Wait = Succeeded, ProofPerson, "a person looked: "+reason, ""
	case ResolveFailed:
		row.State, row.FailClass, row.Reason, row.Wait = Failed, "resolved", "a person looked: "+reason, ""
	case ResolveRetry:
		if !freshLook {
			return &ActError{row.ID, row.State, "it may be sent again only after a fresh look shows volume and backup available", "vbsrestore restore resolve " + row.ID}
		}
		backToWaiting(row, now, reason)
		row.Unproven = false
	default:
		return fmt.Errorf("resolve as %q: use restored, failed or retry", as)
	}
	return nil
}

func (s *Store) act(ctx context.Context, id, actor, kind string, change func(*Restore, time.Time) error) (Restore, error) {
	var row Restore
	err := s.write(ctx, func(t *txn) error {
		before, err := t.restore(id)
		if err != nil {
			return fmt.Errorf("restore %s: %w", id, err)
		}
		row = before
		if err := change(&row, t.now); err != nil {
			return err
		}
		if err := t.save(before, &row, true); err != nil {
			return err
		}
		return t.moved(before, row, kind, actor)
	})
	return row, err
}
