package results

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	observationAge = 10 * time.Second // a claim on an older look at the cloud is refused
	paceBurst      = time.Second      // POST tokens saved up at most so long
)

// A Claim is the intent to POST: everything that must be on disk before one
// byte of the POST leaves.
type Claim struct {
	ID          string
	Attempt     int     // attempts so far, as read; the claimed one is Attempt+1
	From        []State // the states the claimer may take it from
	Worker      string
	RequestID   string
	Before      Before
	ObservedAt  time.Time // store time at which the observation began
	PostTimeout time.Duration

	ProjectID, VolumeName, BackupName string
	VolumeGiB, BackupGiB              int
}

// A Refusal is a claim that may not be made now, and why. Nothing was written.
type Refusal struct {
	Wait   Wait      // what to wait for; WaitTurn: somebody else has the row, just stop
	Until  time.Time // when to look again; zero: as soon as there is room, or by the caller's backoff if held
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// Claim moves a restore to posting: attempt + 1, pre-state, deadline, durable on
// return. It refuses with a *Refusal when the row moved, the cloud is paused or
// held, no slot or POST token is free, the observation is old, or another
// restore holds the volume or the backup. After any other error the outcome is
// unknown and nothing may be sent: the watcher settles the row.
func (s *Store) Claim(ctx context.Context, c Claim) (Restore, error) {
	var row Restore
	err := s.write(ctx, func(t *txn) (err error) {
		row, err = t.claim(c)
		return err
	})
	if err != nil {
		var r *Refusal
		if errors.As(err, &r) {
			return Restore{}, r
		}
		return Restore{}, fmt.Errorf("claim restore %s: %w", c.ID, err)
	}
	return row, nil
}

func (t *txn) claim(c Claim) (Restore, error) {
	before, err := t.restore(c.ID)
	if err != nil {
		return Restore{}, err
	}
	if !slices.Contains(c.From, before.State) || before.Attempt != c.Attempt {
		return Restore{}, &Refusal{Wait: WaitTurn, Reason: "the row moved: " + string(before.State)}
	}
	cloud, err := t.cloud(before.Cloud)
	if err != nil {
		return Restore{}, err
	}
	if refusal, err := t.refuses(before, cloud, c); refusal != nil || err != nil {
		return Restore{}, errors.Join(err, asError(refusal))
	}
	row := claimed(before, c, t.now)
	if err := t.save(before, &row, false); err != nil {
		return Restore{}, takenBySomeone(err)
	}
	if err := t.insertAttempt(row, c); err != nil {
		return Restore{}, err
	}
	if err := t.takeToken(cloud, row.ID); err != nil {
		return Restore{}, err
	}
	return row, t.moved(before, row, "posting", c.Worker)
}

func asError(r *Refusal) error {
	if r == nil {
		return nil
	}
	return r
}

func claimed(row Restore, c Claim, now time.Time) Restore {
	row.State, row.Attempt, row.Wait, row.Waits = Posting, row.Attempt+1, "", 0
	row.Reason = fmt.Sprintf("attempt %d: sending the restore POST", row.Attempt)
	row.PostDeadline, row.SettledAt, row.AcceptedAt, row.WatchDeadline = now.Add(c.PostTimeout), time.Time{}, time.Time{}, time.Time{}
	row.Accepted, row.SeenRunning, row.Overdue = false, false, false
	row.VolumeGoneAt, row.BackupGoneAt, row.FailClass, row.Advice = time.Time{}, time.Time{}, "", ""
	row.ProjectID, row.VolumeName, row.BackupName = c.ProjectID, c.VolumeName, c.BackupName
	row.VolumeGiB, row.BackupGiB = c.VolumeGiB, c.BackupGiB
	return row
}

func takenBySomeone(err error) error {
	switch takenIndex(err) {
	case "volume":
		return &Refusal{Wait: WaitHeld, Reason: "another restore is at work on this volume"}
	case "backup":
		return &Refusal{Wait: WaitHeld, Reason: "another restore reads this backup; the cloud restores a backup to one volume at a time"}
	}
	return err
}

// refuses says why the claim may not be made now; nil lets it pass.
func (t *txn) refuses(row Restore, cloud Cloud, c Claim) (*Refusal, error) {
	if r := cloud.refuses(row, t.now); r != nil {
		return r, nil
	}
	switch {
	case row.NotBefore.After(t.now):
		return &Refusal{WaitTime, row.NotBefore, "not before " + row.NotBefore.Format(time.RFC3339)}, nil
	case t.now.Sub(c.ObservedAt) > observationAge:
		return &Refusal{WaitTurn, time.Time{}, "the observation is older than 10 s"}, nil
	}
	if cloud.Cap == 0 {
		return nil, nil
	}
	live, err := t.live(row.Cloud)
	return live.refuses(cloud, row.Class), err
}

func (c Cloud) refuses(row Restore, now time.Time) *Refusal {
	switch {
	case c.PausedBy != "" && c.Probing != row.ID:
		return &Refusal{WaitPaused, time.Time{}, "cloud " + c.Name + " is paused: " + c.Reason}
	case c.NotBefore.After(now):
		return &Refusal{WaitPace, c.NotBefore, "the cloud asked for a pause until " + c.NotBefore.Format(time.TimeOnly)}
	case c.RateNow > 0 && c.NextPostAt.After(now.Add(paceBurst)):
		return &Refusal{WaitPace, c.NextPostAt.Add(-paceBurst), fmt.Sprintf("pace: %.3g POSTs a second", c.RateNow)}
	}
	return nil
}

// A census counts the live restores of a cloud.
type census struct{ total, drills int }

const liveSQL = `SELECT count(*), count(*) FILTER (WHERE class = 'drill') FROM restores
	WHERE cloud = $1 AND state IN ('posting','restoring')`

func (t *txn) live(cloud string) (census, error) {
	var n census
	err := t.row(liveSQL, cloud).Scan(&n.total, &n.drills)
	return n, err
}

func (n census) refuses(c Cloud, class tasks.Class) *Refusal {
	if n.free(c, class) > 0 {
		return nil
	}
	return &Refusal{WaitSlot, time.Time{}, fmt.Sprintf("no free slot: %d restores are live, the cap is %d", n.total, c.Cap)}
}

// free is how many more restores of a class may be live: urgent up to the cap,
// direct and campaign one less, drills two at most of that.
func (n census) free(c Cloud, class tasks.Class) int {
	room := max(1, c.Cap-1) - n.total
	switch class {
	case tasks.ClassUrgent:
		return c.Cap - n.total
	case tasks.ClassDrill:
		return min(room, 2-n.drills)
	}
	return room
}

func (t *txn) takeToken(c Cloud, id string) error {
	if c.Rate == 0 {
		return nil
	}
	interval := time.Duration(float64(time.Second) / c.RateNow)
	c.NextPostAt = later(c.NextPostAt, t.now).Add(interval)
	return t.saveCloud(c)
}

const insertAttemptSQL = `INSERT INTO attempts (restore_id, attempt, request_id, worker, started_at, post_deadline, volume_status, volume_updated,
	backup_status, backup_updated, backup_source, src_backup_id, cloud_time, answered_at, status, code, message, cloud_request_id, answerer, executed,
	retry_after, outcome)
	VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,0,0,'','','','','',0,'')`

func (t *txn) insertAttempt(r Restore, c Claim) error {
	_, err := t.exec(insertAttemptSQL, r.ID, r.Attempt, c.RequestID, c.Worker, micros(t.now), micros(r.PostDeadline), c.Before.VolumeStatus,
		micros(c.Before.VolumeUpdated), c.Before.BackupStatus, micros(c.Before.BackupUpdated), c.Before.BackupSource, c.Before.SrcBackupID,
		micros(c.Before.CloudTime))
	return err
}

// Admits reports whether a row could be claimed now, from what the store knows:
// pause, hold, pace and slots of its cloud, its own not_before. It writes
// nothing and is asked before the cloud is looked at; Claim asks again.
func (s *Store) Admits(ctx context.Context, row Restore) (*Refusal, error) {
	c, err := s.Cloud(ctx, row.Cloud)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	if r := c.refuses(row, now); r != nil {
		return r, nil
	}
	if row.NotBefore.After(now) {
		return &Refusal{WaitTime, row.NotBefore, "not before " + row.NotBefore.Format(time.RFC3339)}, nil
	}
	if c.Cap == 0 {
		return nil, nil
	}
	var n census
	if err := s.queryRow(ctx, liveSQL, row.Cloud).Scan(&n.total, &n.drills); err != nil {
		return nil, fmt.Errorf("count live restores: %w", err)
	}
	return n.refuses(c, row.Class), nil
}
