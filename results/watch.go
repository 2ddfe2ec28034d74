package results

import (
	"context"
	"fmt"
	"time"
)

// A Watch is a restore with its current attempt, as the watcher judges it.
type Watch struct {
	Restore
	Last Attempt
}

const attemptColumns = `restore_id, attempt, request_id, worker, started_at, post_deadline, volume_status, volume_updated, backup_status,
	backup_updated, backup_source, src_backup_id, cloud_time, answered_at, status, code, message, cloud_request_id, answerer, executed, retry_after, outcome`

func prefixed(columns, table string) string {
	out := make([]byte, 0, 2*len(columns))
	fresh := true
	for i := range len(columns) {
		c := columns[i]
		if fresh && c != ' ' && c != '\n' && c != '\t' {
			out = append(append(out, table...), '.')
			fresh = false
		}
		out = append(out, c)
		fresh = fresh || c == ','
	}
	return string(out)
}

var watchedSQL = `SELECT ` + prefixed(restoreColumns, "r") + `, ` + prefixed(attemptColumns, "a") + `
	FROM restores r JOIN attempts a ON a.restore_id = r.id AND a.attempt = r.attempt
	WHERE r.cloud = $1 AND r.state IN ('posting','restoring','in_doubt') ORDER BY r.state_since, r.id`

// Watched returns every restore of a cloud that may be running there, with its
// current attempt, and the store's time before the rows were read: a look at
// the cloud that starts later counts as after that time.
func (s *Store) Watched(ctx context.Context, cloud string) ([]Watch, time.Time, error) {
	now := s.Now()
	rows, err := s.query(ctx, watchedSQL, cloud)
	if err != nil {
		return nil, now, fmt.Errorf("read watched restores: %w", err)
	}
	out, err := all(rows, scanWatch)
	return out, now, wrapIf("read watched restores", err)
}

func scanWatch(r scanner) (Watch, error) {
	var a Attempt
	dest, finish := a.dest()
	row, err := scanRestore(r, dest...)
	finish()
	return Watch{row, a}, err
}

func (a *Attempt) dest() (dest []any, finish func()) {
	var started, deadline, volume, backup, cloud, answered, retry int64
	dest = []any{&a.RestoreID, &a.Attempt, &a.RequestID, &a.Worker, &started, &deadline, &a.Before.VolumeStatus, &volume, &a.Before.BackupStatus,
		&backup, &a.Before.BackupSource, &a.Before.SrcBackupID, &cloud, &answered, &a.Answer.Status, &a.Answer.Code, &a.Answer.Message,
		&a.Answer.RequestID, &a.Answer.Answerer, &a.Answer.Executed, &retry, &a.Outcome}
	return dest, func() {
		a.StartedAt, a.PostDeadline, a.AnsweredAt = fromMicros(started), fromMicros(deadline), fromMicros(answered)
		a.Before.VolumeUpdated, a.Before.BackupUpdated, a.Before.CloudTime = fromMicros(volume), fromMicros(backup), fromMicros(cloud)
		a.Answer.RetryAfter = time.Duration(retry) * time.Microsecond
	}
}

// Attempts returns the attempts of one restore, first to last.
func (s *Store) Attempts(ctx context.Context, id string) ([]Attempt, error) {
	rows, err := s.query(ctx, `SELECT `+attemptColumns+` FROM attempts WHERE restore_id = $1 ORDER BY attempt`, id)
	if err != nil {
		return nil, fmt.Errorf("read attempts of restore %s: %w", id, err)
	}
	return all(rows, func(r scanner) (Attempt, error) {
		var a Attempt
		dest, finish := a.dest()
		err := r.Scan(dest...)
		finish()
		return a, err
	})
}

// RestoredSince returns another restore that succeeded on the volume after since, if any.
func (s *Store) RestoredSince(ctx context.Context, volumeID, notID string, since time.Time) (Restore, bool, error) {
	row := s.queryRow(ctx, `SELECT `+restoreColumns+` FROM restores WHERE volume_id = $1 AND id <> $2 AND state = 'succeeded'
		AND finished_at > $3 ORDER BY finished_at DESC LIMIT 1`, volumeID, notID, micros(since))
	r, err := scanRestore(row)
	if err == nil {
		return r, true, nil
	}
	return Restore{}, false, wrapIf("look for other restores of the volume", ignoreNotFound(err))
}

const unsureSQL = `SELECT ` + restoreColumns + ` FROM restores WHERE cloud = $1 AND finished_at > $2 AND finished_at > 0
	AND EXISTS (SELECT 1 FROM attempts WHERE restore_id = id AND attempts.outcome LIKE 'not executed%' AND attempts.executed <> 'no')
	AND NOT EXISTS (SELECT 1 FROM events WHERE events.restore_id = restores.id AND kind = '` + lateExecution + `')`

const lateExecution = "executed again"

// Unsure lists restores of a cloud that ended after since and had a POST taken
// for not executed by evidence alone: one held back beyond settle could still run.
func (s *Store) Unsure(ctx context.Context, cloud string, since time.Time) ([]Restore, error) {
	rows, err := s.query(ctx, unsureSQL, cloud, micros(since))
	if err != nil {
		return nil, fmt.Errorf("read restores that may run late: %w", err)
	}
	return all(rows, func(r scanner) (Restore, error) { return scanRestore(r) })
}

// ExecutedAgain records that a volume is being restored after its restore
// ended: an alarm in the restore's story and in its advice. It is recorded once.
func (s *Store) ExecutedAgain(ctx context.Context, r Restore, reason, advice, actor string) error {
	return s.write(ctx, func(t *txn) error {
		before, err := t.restore(r.ID)
		if err != nil {
			return err
		}
		row := before
		row.Advice = advice
		if err := t.save(before, &row, false); err != nil {
			return err
		}
		row.Reason = reason
		return t.moved(before, row, lateExecution, actor)
	})
}
