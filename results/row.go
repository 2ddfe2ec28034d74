package results

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const restoreColumns = `id, rev, cloud, project_id, backup_id, volume_id, backup_name, volume_name, backup_gib, volume_gib, class,
	state, state_since, wait, reason, fail_class, advice, proof, attempt, spent, waits, generation, releases, accepted, seen_running,
	unproven, overdue, again, not_before, not_after, asked_at, created_at, updated_at, released_at, post_deadline, settled_at, accepted_at,
	watch_deadline, finished_at, volume_gone_at, backup_gone_at, seen_volume, seen_backup, seen_at, hash, labels, trace, actor`

const insertRestoreSQL = `INSERT INTO restores (` + restoreColumns + `, class_rank, tried)
	VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34,$35,$36,
	$37,$38,$39,$40,$41,$42,$43,$44,$45,$46,$47,$48,$49,$50)`

// updateRestoreSQL writes what may change, if nobody changed the row since it was read.
const updateRestoreSQL = `UPDATE restores SET rev = $2 + 1, project_id = $3, volume_id = $4, backup_name = $5, volume_name = $6,
	backup_gib = $7, volume_gib = $8, state = $9, state_since = $10, wait = $11, reason = $12, fail_class = $13, advice = $14, proof = $15,
	attempt = $16, spent = $17, waits = $18, generation = $19, releases = $20, accepted = $21, seen_running = $22, unproven = $23,
	overdue = $24, not_before = $25, not_after = $26, asked_at = $27, updated_at = $28, released_at = $29, post_deadline = $30,
	settled_at = $31, accepted_at = $32, watch_deadline = $33, finished_at = $34, volume_gone_at = $35, backup_gone_at = $36,
	seen_volume = $37, seen_backup = $38, seen_at = $39, tried = $40, again = $41
	WHERE id = $1 AND rev = $2`

func scanRestore(r scanner, more ...any) (Restore, error) {
	var x Restore
	var times [17]int64
	var labels, trace string
	dest := []any{&x.ID, &x.rev, &x.Cloud, &x.ProjectID, &x.BackupID, &x.VolumeID, &x.BackupName, &x.VolumeName, &x.BackupGiB, &x.VolumeGiB,
		&x.Class, &x.State, &times[0], &x.Wait, &x.Reason, &x.FailClass, &x.Advice, &x.Proof, &x.Attempt, &x.Spent, &x.Waits, &x.Generation,
		&x.Releases, &x.Accepted, &x.SeenRunning, &x.Unproven, &x.Overdue, &x.Again}
	for i := 1; i < len(times); i++ {
		dest = append(dest, &times[i])
	}
	dest = append(dest, &x.Hash, &labels, &trace, &x.Actor)
	if err := r.Scan(append(dest, more...)...); err != nil {
		return Restore{}, notFound(err)
	}
	for i, t := range x.times() {
		*t = fromMicros(times[i])
	}
	return x, errors.Join(fromJSON(labels, &x.Labels), fromJSON(trace, &x.Trace))
}

// times lists the row's times in the order of restoreColumns.
func (x *Restore) times() []*time.Time {
	return []*time.Time{&x.StateSince, &x.NotBefore, &x.NotAfter, &x.AskedAt, &x.CreatedAt, &x.UpdatedAt, &x.ReleasedAt, &x.PostDeadline,
		&x.SettledAt, &x.AcceptedAt, &x.WatchDeadline, &x.FinishedAt, &x.VolumeGoneAt, &x.BackupGoneAt, &x.SeenVolume, &x.SeenBackup, &x.SeenAt}
}

func (t *txn) insertRestore(x Restore) error {
	_, err := t.exec(insertRestoreSQL, x.ID, 1, x.Cloud, x.ProjectID, x.BackupID, x.VolumeID, x.BackupName, x.VolumeName, x.BackupGiB, x.VolumeGiB,
		x.Class, x.State, micros(x.StateSince), x.Wait, x.Reason, x.FailClass, x.Advice, x.Proof, x.Attempt, x.Spent, x.Waits, x.Generation,
		x.Releases, x.Accepted, x.SeenRunning, x.Unproven, x.Overdue, x.Again, micros(x.NotBefore), micros(x.NotAfter), micros(x.AskedAt),
		micros(x.CreatedAt), micros(x.UpdatedAt), micros(x.ReleasedAt), micros(x.PostDeadline), micros(x.SettledAt), micros(x.AcceptedAt),
		micros(x.WatchDeadline), micros(x.FinishedAt), micros(x.VolumeGoneAt), micros(x.BackupGoneAt), micros(x.SeenVolume), micros(x.SeenBackup),
		micros(x.SeenAt), x.Hash, toJSON(x.Labels), toJSON(x.Trace), x.Actor, x.Class.Rank(), tried(x))
	return err
}

// tried sorts rows that were sent back behind rows never tried.
func tried(x Restore) int {
	if x.Attempt > 0 {
		return 1
	}
	return 0
}

const getRestoreSQL = `SELECT ` + restoreColumns + ` FROM restores WHERE id = $1`

func (t *txn) restore(id string) (Restore, error) {
	return scanRestore(t.row(getRestoreSQL, id))
}

// save writes the changed row: the one compare-and-set every change of a
// restore goes through. It refuses an arrow that the table does not have, and
// a row that someone else changed since before was read. Afterwards x is the
// row as it is stored.
func (t *txn) save(before Restore, x *Restore, person bool) error {
	if x.State != before.State {
		if !mayMove(before.State, x.State, person) {
			return &ArrowError{before.State, x.State}
		}
		x.StateSince, x.FinishedAt = t.now, time.Time{}
		if x.State.Final() {
			x.FinishedAt = t.now
		}
	}
	x.UpdatedAt = t.now
	n, err := t.exec(updateRestoreSQL, x.ID, before.rev, x.ProjectID, x.VolumeID, x.BackupName, x.VolumeName, x.BackupGiB, x.VolumeGiB, x.State,
		micros(x.StateSince), x.Wait, x.Reason, x.FailClass, x.Advice, x.Proof, x.Attempt, x.Spent, x.Waits, x.Generation, x.Releases, x.Accepted,
		x.SeenRunning, x.Unproven, x.Overdue, micros(x.NotBefore), micros(x.NotAfter), micros(x.AskedAt), micros(x.UpdatedAt), micros(x.ReleasedAt),
		micros(x.PostDeadline), micros(x.SettledAt), micros(x.AcceptedAt), micros(x.WatchDeadline), micros(x.FinishedAt), micros(x.VolumeGoneAt),
		micros(x.BackupGoneAt), micros(x.SeenVolume), micros(x.SeenBackup), micros(x.SeenAt), tried(*x), x.Again)
	if err == nil && n == 0 {
		return ErrMoved
	}
	x.rev = before.rev + 1
	return err
}

const insertEventSQL = `INSERT INTO events (id, seq, hash, at, cloud, restore_id, attempt, kind, from_state, to_state, reason, actor)
	VALUES ($1, NULL, '', $2, $3, $4, $5, $6, $7, $8, $9, $10)`

func (t *txn) event(e Event) error {
	_, err := t.exec(insertEventSQL, uuid.Must(uuid.NewV7()).String(), micros(t.now), e.Cloud, e.RestoreID, e.Attempt, e.Kind, e.From, e.To, e.Reason, e.Actor)
	return err
}

// moved records the move from before to x as an event.
func (t *txn) moved(before, x Restore, kind, actor string) error {
	return t.event(Event{Cloud: x.Cloud, RestoreID: x.ID, Attempt: x.Attempt, Kind: kind, From: before.State, To: x.State, Reason: x.Reason, Actor: actor})
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

func indexNamed(message string) string {
	switch {
	case strings.Contains(message, "restores.volume_id"):
		return "volume"
	case strings.Contains(message, "restores.backup_id"):
		return "backup"
	case strings.Contains(message, "restores.id"):
		return "id"
	}
	return ""
}

func toJSON(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	b, _ := json.Marshal(m) // a map of strings always marshals
	return string(b)
}

func fromJSON(text string, m *map[string]string) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return fmt.Errorf("read stored labels: %w", err)
	}
	return nil
}
