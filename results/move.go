package results

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Move is one step of a restore, written by whoever has the evidence for it.
type Move struct {
	ID      string
	From    []State // states it may be taken from; anything else is ErrMoved
	Attempt int     // the attempt it speaks of; another one is ErrMoved
	To      State   // "" leaves the state as it is

	Kind      string // of the event, such as "accepted"
	Actor     string // worker, or person
	Person    bool   // a person decided: opens the arrows that need one
	Reason    string
	Wait      Wait
	NotBefore time.Time // of a waiting row; zero: at once
	FailClass string
	Advice    string
	Proof     Proof
	Outcome   string // of the attempt: accepted, refused, not executed, adopted …

	Answer   *Answer // the answer to the attempt's POST: stored with it
	Costs    bool    // the attempt counts against the budget
	Unproven bool    // "not executed" by evidence only: from now on look once more before every POST
	Accepted bool    // the cloud has it
	Running  bool    // it was seen running
	Overdue  bool
	Quiet    bool // no event: nothing a reader would want to know

	WatchDeadline time.Time
	Seen          *Sighting
	Effect        Effect
}

// A Sighting is what a look at the cloud leaves in the row.
type Sighting struct {
	VolumeName, BackupName string
	VolumeGiB, BackupGiB   int
	VolumeUpdated          time.Time // cloud time
	BackupUpdated          time.Time
	At                     time.Time // store time
	VolumeGoneAt           time.Time
	BackupGoneAt           time.Time
	KeepVolume, KeepBackup bool // leave the gone times as they are
}

// Move applies m, or returns ErrMoved when the row is elsewhere by now. The
// restore, its attempt, its event and what its answer means for the cloud are
// one transaction. An answer that comes too late to move the row is kept with
// its attempt all the same.
func (s *Store) Move(ctx context.Context, m Move) (Restore, error) {
	var row Restore
	var tooLate bool
	err := s.write(ctx, func(t *txn) (err error) {
		row, err = t.move(m)
		if tooLate = errors.Is(err, errAnswerKept); tooLate {
			return nil
		}
		return err
	})
	if err == nil && tooLate {
		return row, ErrMoved
	}
	if err != nil && !errors.Is(err, ErrMoved) {
		err = fmt.Errorf("move restore %s to %s: %w", m.ID, m.To, err)
	}
	return row, err
}

// errAnswerKept is ErrMoved with something written that must be committed.
var errAnswerKept = errors.New("the answer came late and was kept")

func (t *txn) move(m Move) (Restore, error) {
	before, err := t.restore(m.ID)
	if err != nil {
		return Restore{}, err
	}
	if !slices.Contains(m.From, before.State) || before.Attempt != m.Attempt {
		return t.lateAnswer(before, m)
	}
	row := m.applyTo(before, t.now)
	if err := t.save(before, &row, m.Person); err != nil {
		return before, keepsWaiting(err)
	}
	if err := t.finishAttempt(row, m); err != nil {
		return before, err
	}
	if err := t.apply(m.Effect, row); err != nil {
		return before, err
	}
	if row.State == InDoubt && before.State != InDoubt {
		if err := t.tooManyDoubts(row); err != nil {
			return before, err
		}
	}
	if err := t.freeOthers(before, row); err != nil {
		return before, err
	}
	if m.Quiet {
		return row, nil
	}
	return row, t.moved(before, row, m.Kind, m.Actor)
}

const freeOthersSQL = `UPDATE restores SET not_before = 0, rev = rev + 1 WHERE state = 'waiting' AND wait = 'held'
	AND (backup_id = $1 OR volume_id = $2)`

// freeOthers makes rows due that waited for this one to let go of the volume or
// the backup.
func (t *txn) freeOthers(before, row Restore) error {
	held := before.State == Posting || before.State == Restoring || before.State == Verifying || before.State == InDoubt
	if !held || !row.State.Final() && row.State != Waiting && row.State != InDoubt {
		return nil
	}
	_, err := t.exec(freeOthersSQL, row.BackupID, row.VolumeID)
	return err
}

// keepsWaiting: an in_doubt row that cannot come back because another restore
// holds its backup stays where it is; the watcher tries again.
func keepsWaiting(err error) error {
	if takenIndex(err) != "" {
		return ErrMoved
	}
	return err
}

func (m Move) applyTo(row Restore, now time.Time) Restore {
	before := row.State
	if m.To != "" {
		row.State = m.To
	}
	row.Wait, row.NotBefore = "", time.Time{}
	if row.State == Waiting {
		row.Wait, row.NotBefore = m.Wait, m.NotBefore
		row.Waits++
	}
	row.Reason, row.FailClass, row.Advice, row.Proof = m.Reason, m.FailClass, m.Advice, m.Proof
	if m.Costs {
		row.Spent++
	}
	row.Unproven = row.Unproven || m.Unproven
	row.Overdue = m.Overdue
	if m.Answer != nil {
		row.SettledAt = now
	}
	if m.Accepted && !row.Accepted {
		row.Accepted, row.AcceptedAt = true, now
	}
	row.SeenRunning = row.SeenRunning || m.Running
	if !m.WatchDeadline.IsZero() {
		row.WatchDeadline = m.WatchDeadline
	}
	if row.State != before {
		row.Releases = 0
	}
	m.Seen.applyTo(&row)
	return row
}

func (s *Sighting) applyTo(row *Restore) {
	if s == nil {
		return
	}
	keep(&row.VolumeName, s.VolumeName)
	keep(&row.BackupName, s.BackupName)
	if s.VolumeGiB > 0 {
		row.VolumeGiB = s.VolumeGiB
	}
	if s.BackupGiB > 0 {
		row.BackupGiB = s.BackupGiB
	}
	if !s.KeepVolume {
		row.VolumeGoneAt = s.VolumeGoneAt
	}
	if !s.KeepBackup {
		row.BackupGoneAt = s.BackupGoneAt
	}
	row.SeenVolume, row.SeenBackup, row.SeenAt = s.VolumeUpdated, s.BackupUpdated, s.At
}

func keep(to *string, from string) {
	if from != "" {
		*to = from
	}
}

const answerSQL = `UPDATE attempts SET answered_at = $3, status = $4, code = $5, message = $6, cloud_request_id = $7, answerer = $8, executed = $9,
	retry_after = $10, outcome = $11 WHERE restore_id = $1 AND attempt = $2 AND answered_at = 0`

const outcomeSQL = `UPDATE attempts SET outcome = $3 WHERE restore_id = $1 AND attempt = $2`

func (t *txn) finishAttempt(row Restore, m Move) error {
	if m.Answer != nil {
		return t.storeAnswer(answerSQL, row.ID, row.Attempt, *m.Answer, m.Outcome)
	}
	if m.Outcome == "" {
		return nil
	}
	_, err := t.exec(outcomeSQL, row.ID, row.Attempt, m.Outcome)
	return err
}

func (t *txn) storeAnswer(query, id string, attempt int, a Answer, outcome string) error {
	_, err := t.exec(query, id, attempt, micros(t.now), a.Status, a.Code, a.Message, a.RequestID, a.Answerer, a.Executed,
		a.RetryAfter.Microseconds(), outcome)
	return err
}

const lateAnswerSQL = `UPDATE attempts SET answered_at = $3, status = $4, code = $5, message = $6, cloud_request_id = $7, answerer = $8,
	executed = $9, retry_after = $10, outcome = outcome || CASE WHEN outcome = '' THEN '' ELSE '; ' END || 'answered late: ' || $11 WHERE restore_id = $1 AND attempt = $2 AND answered_at = 0`

// lateAnswer keeps the answer to an attempt whose row was judged meanwhile. A late
// 202 is believed: the cloud has the restore, so the row must not be sent again.
func (t *txn) lateAnswer(row Restore, m Move) (Restore, error) {
	if m.Answer == nil {
		return row, ErrMoved
	}
	if err := t.storeAnswer(lateAnswerSQL, m.ID, m.Attempt, *m.Answer, m.Outcome); err != nil {
		return row, err
	}
	if err := t.apply(m.Effect, row); err != nil {
		return row, err
	}
	if m.Accepted && row.Attempt == m.Attempt && !row.Accepted && !row.State.Final() {
		known, err := t.acceptedLate(row, m)
		if err == nil || takenIndex(err) == "" {
			return known, err
		}
		// Another restore holds the volume or the backup: it stays a note, and the
		// row is judged once more before anything is sent for it again.
	}
	late := row
	if m.Accepted && !row.Accepted || m.Attempt < row.Attempt && m.Accepted {
		late.Advice = fmt.Sprintf("the cloud accepted attempt %d after all, though it was judged as not executed: look at the volume, it may be written twice", m.Attempt)
		if err := t.save(row, &late, false); err != nil {
			return row, err
		}
	}
	late.Reason = fmt.Sprintf("the answer to attempt %d came after it was judged: %d %s", m.Attempt, m.Answer.Status, m.Answer.Message)
	if err := t.moved(row, late, "late answer", m.Actor); err != nil {
		return row, err
	}
	return row, errAnswerKept
}

func (t *txn) acceptedLate(row Restore, m Move) (Restore, error) {
	known := row
	known.Accepted, known.AcceptedAt, known.SettledAt, known.WatchDeadline = true, t.now, t.now, m.WatchDeadline
	if row.State == Waiting || row.State == Queued {
		known.State, known.Wait, known.NotBefore = Restoring, "", time.Time{}
		known.Reason = "its 202 came late: the cloud has it; not sent again"
	}
	if err := t.save(row, &known, false); err != nil {
		return row, err
	}
	return known, t.moved(row, known, "accepted late", m.Actor)
}

const (
	doubtsThatPause = 5
	doubtWindow     = 30 * time.Minute
)

const doubtsSQL = `SELECT count(*) FROM restores WHERE cloud = $1 AND state = 'in_doubt' AND state_since > $2`

// tooManyDoubts pauses a cloud that leaves one restore after the other in doubt.
// Nothing but a person can tell whether it is trustworthy again.
func (t *txn) tooManyDoubts(row Restore) error {
	var n int
	if err := t.row(doubtsSQL, row.Cloud, micros(t.now.Add(-doubtWindow))).Scan(&n); err != nil || n < doubtsThatPause {
		return err
	}
	c, err := t.cloud(row.Cloud)
	if err != nil || c.PausedBy == "person" {
		return ignoreNotFound(err)
	}
	c.PausedBy, c.PausedAt, c.Actor, c.Probing = "person", t.now, "vbsrestore", ""
	c.Reason = fmt.Sprintf("%d restores fell in doubt within 30 minutes; look at them (restore list --state in_doubt), then resume", n)
	if err := t.saveCloud(c); err != nil {
		return err
	}
	return t.event(Event{Cloud: c.Name, Kind: "cloud paused", Reason: c.Reason, Actor: "vbsrestore"})
}

func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Saw updates what a look at the cloud leaves in the row, without a move and
// without an event. ErrMoved when the row is elsewhere by now.
func (s *Store) Saw(ctx context.Context, r Restore, seen Sighting, running bool) error {
	return s.write(ctx, func(t *txn) error {
		before, err := t.restore(r.ID)
		if err != nil {
			return err
		}
		if before.State != r.State || before.Attempt != r.Attempt {
			return ErrMoved
		}
		row := before
		seen.applyTo(&row)
		row.SeenRunning = row.SeenRunning || running
		return t.save(before, &row, false)
	})
}
