package results

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// Recorded says what became of a request handed to Record.
type Recorded string

const (
	RecordedNew       Recorded = "new"       // the row was inserted, waiting
	RecordedKnown     Recorded = "known"     // the same request is already there; nothing changed
	RecordedConflict  Recorded = "conflict"  // the id is taken by another request; a conflict event was stored
	RecordedDuplicate Recorded = "duplicate" // an open restore of the same pair exists: inserted as cancelled, naming it
)

const openPairSQL = `SELECT id FROM restores WHERE volume_id = $1 AND backup_id = $2
	AND state NOT IN ('succeeded','failed','cancelled') LIMIT 1`

// Record stores a request that passed its validation, if its id is new. From
// its return on the request cannot be lost. It never changes a row that is there.
func (s *Store) Record(ctx context.Context, r tasks.Restore) (Restore, Recorded, error) {
	var row Restore
	var outcome Recorded
	err := s.write(ctx, func(t *txn) (err error) {
		row, outcome, err = t.record(r)
		return err
	})
	if err != nil {
		return Restore{}, "", fmt.Errorf("record restore %s: %w", r.ID, err)
	}
	return row, outcome, nil
}

func (t *txn) record(r tasks.Restore) (Restore, Recorded, error) {
	known, err := t.restore(r.ID)
	if err == nil {
		return t.alreadyThere(known, r)
	}
	if !errors.Is(err, ErrNotFound) {
		return Restore{}, "", err
	}
	row := newRow(r, t.now)
	outcome, kind := RecordedNew, "recorded"
	var other string
	switch err := t.row(openPairSQL, r.VolumeID, r.BackupID).Scan(&other); {
	case err == nil:
		outcome, kind = RecordedDuplicate, "duplicate"
		row.State, row.FinishedAt, row.FailClass, row.Wait = Cancelled, t.now, "duplicate", ""
		row.Reason = "restore " + other + " of the same backup onto the same volume is still open"
		row.Advice = "watch that one; ask again when it has ended"
	case !errors.Is(notFound(err), ErrNotFound):
		return Restore{}, "", err
	}
	if err := t.insertRestore(row); err != nil {
		return Restore{}, "", err
	}
	row.rev = 1
	return row, outcome, t.moved(Restore{}, row, kind, r.Actor)
}

func (t *txn) alreadyThere(known Restore, r tasks.Restore) (Restore, Recorded, error) {
	if known.Hash == r.Hash() {
		return known, RecordedKnown, nil
	}
	reason := fmt.Sprintf("another request came with this id: backup %s onto volume %s of cloud %s; it was not recorded", r.BackupID, r.VolumeID, r.Cloud)
	return known, RecordedConflict, t.event(Event{Cloud: known.Cloud, RestoreID: known.ID, Kind: "conflict", Reason: reason, Actor: r.Actor})
}

func newRow(r tasks.Restore, now time.Time) Restore {
	row := Restore{ID: r.ID, Cloud: r.Cloud, ProjectID: r.ProjectID, BackupID: r.BackupID, VolumeID: r.VolumeID, Class: r.Class,
		State: Waiting, StateSince: now, Wait: WaitTurn, Reason: "recorded", Again: r.Again, NotBefore: r.NotBefore, NotAfter: r.NotAfter,
		AskedAt: r.AskedAt, CreatedAt: now, UpdatedAt: now, Labels: r.Labels, Trace: r.Trace, Actor: r.Actor, Hash: r.Hash()}
	if r.NotBefore.After(now) {
		row.Wait, row.Reason = WaitTime, "not before "+r.NotBefore.UTC().Format(time.RFC3339)
	}
	return row
}

// A Rejected message is one that no row could be made of. It is kept whole.
type Rejected struct {
	ID         string    `json:"id"`
	Queue      string    `json:"queue"`
	TaskID     string    `json:"task_id"`
	Payload    []byte    `json:"-"`
	Truncated  bool      `json:"truncated"`
	Reason     string    `json:"reason"`
	Worker     string    `json:"worker"`
	At         time.Time `json:"at"`
	ReplayedAt time.Time `json:"replayed_at,omitzero"`
}

const rejectSQL = `INSERT INTO rejected (id, queue, task_id, payload, truncated, reason, worker, at, replayed_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) ON CONFLICT (id) DO NOTHING`

// Reject keeps a message that cannot become a restore, whole up to
// tasks.MaxPayload bytes, with the reason, and stores an alarm event. The
// same message rejected again is kept once. It reports whether it was new.
func (s *Store) Reject(ctx context.Context, r Rejected) (fresh bool, err error) {
	sum := sha256.Sum256([]byte(r.Queue + "\x00" + r.TaskID + "\x00" + string(r.Payload)))
	r.ID = hex.EncodeToString(sum[:16])
	kept := hex.EncodeToString(r.Payload[:min(len(r.Payload), tasks.MaxPayload)])
	cut := len(r.Payload) > tasks.MaxPayload
	err = s.write(ctx, func(t *txn) error {
		n, err := t.exec(rejectSQL, r.ID, r.Queue, r.TaskID, kept, cut, r.Reason, r.Worker, micros(t.now))
		if fresh = n > 0; err != nil || !fresh {
			return err
		}
		cloud, _, _ := strings.Cut(r.Queue, ":")
		return t.event(Event{Cloud: cloud, Kind: "rejected", Reason: "message " + r.TaskID + " of queue " + r.Queue + ": " + r.Reason, Actor: r.Worker})
	})
	return fresh, wrapIf("keep a rejected message", err)
}

// Rejections lists rejected messages not replayed yet, oldest first, after a page
// (time At, ID), at most limit.
func (s *Store) Rejections(ctx context.Context, after Page, limit int) ([]Rejected, error) {
	rows, err := s.query(ctx, `SELECT id, queue, task_id, payload, truncated, reason, worker, at FROM rejected
		WHERE replayed_at = 0 AND (at > $1 OR at = $1 AND id > $2) ORDER BY at, id LIMIT $3`, micros(after.CreatedAt), after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list rejected messages: %w", err)
	}
	return all(rows, func(r scanner) (Rejected, error) {
		var x Rejected
		var payload string
		var at int64
		err := r.Scan(&x.ID, &x.Queue, &x.TaskID, &payload, &x.Truncated, &x.Reason, &x.Worker, &at)
		x.At = fromMicros(at)
		if err == nil {
			x.Payload, err = hex.DecodeString(payload)
		}
		return x, err
	})
}

// Replayed records the request of a rejected message that this worker can
// read after all, and marks the message as replayed, in one transaction.
func (s *Store) Replayed(ctx context.Context, id string, r tasks.Restore) (Restore, Recorded, error) {
	var row Restore
	var outcome Recorded
	err := s.write(ctx, func(t *txn) (err error) {
		n, err := t.exec(`UPDATE rejected SET replayed_at = $2 WHERE id = $1 AND replayed_at = 0`, id, micros(t.now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrMoved
		}
		row, outcome, err = t.record(r)
		return err
	})
	return row, outcome, wrapIf("replay rejected message "+id, err)
}
