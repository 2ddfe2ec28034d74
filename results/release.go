package results

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	resendAfter  = 15 * time.Second // queued so long without a claim: the queue lost it, or has no worker
	ownDelivery  = 2 * time.Second  // a row just recorded has a delivery of its own in hand
	tooManySends = 20
	sendsPause   = 10 * time.Minute
	paceHorizon  = 2.0 // seconds of POST tokens released ahead
)

// A Release is one row to wake up a worker for.
type Release struct {
	ID         string
	Generation int64
}

// Release moves due waiting rows of a cloud to queued, best class first and
// rows never tried first, as many as slots and pace can soon use, and sends
// queued rows nobody claimed for 15 s again. The caller then puts them on the
// queue; if it dies before, they are sent again.
func (s *Store) Release(ctx context.Context, cloud string, limit int) ([]Release, error) {
	var out []Release
	err := s.write(ctx, func(t *txn) error {
		c, err := t.cloud(cloud)
		if err != nil {
			return err
		}
		if out, err = t.resend(cloud, limit); err != nil {
			return err
		}
		fresh, err := t.release(c, limit-len(out))
		out = append(out, fresh...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("release restores of cloud %s: %w", cloud, err)
	}
	return out, nil
}

const lostSQL = `SELECT ` + restoreColumns + ` FROM restores WHERE cloud = $1 AND state = 'queued' AND released_at < $2 ORDER BY released_at`

func (t *txn) resend(cloud string, limit int) ([]Release, error) {
	lost, err := t.restores(limit, lostSQL, cloud, micros(t.now.Add(-resendAfter)))
	if err != nil {
		return nil, err
	}
	var out []Release
	for _, row := range lost {
		again := row
		again.Generation, again.Releases, again.ReleasedAt = row.Generation+1, row.Releases+1, t.now
		if again.Releases > tooManySends {
			if err := t.restAWhile(row, again); err != nil {
				return nil, err
			}
			continue
		}
		if err := t.save(row, &again, false); err != nil {
			return nil, err
		}
		out = append(out, Release{row.ID, again.Generation})
	}
	return out, nil
}

func (t *txn) restAWhile(before, row Restore) error {
	row.State, row.Wait, row.NotBefore, row.Releases = Waiting, WaitCloud, t.now.Add(sendsPause), 0
	row.Reason = fmt.Sprintf("woken %d times and no worker stored an outcome; next try in 10 min. Is a worker serving cloud %s?", tooManySends, row.Cloud)
	if err := t.save(before, &row, false); err != nil {
		return err
	}
	return t.moved(before, row, "no outcome", "vbsrestore")
}

const dueSQL = `SELECT ` + restoreColumns + ` FROM restores WHERE cloud = $1 AND state = 'waiting' AND class_rank = $2 AND (not_before <= $3 OR not_after > 0 AND not_after < $3)
	AND (generation > 0 OR attempt > 0 OR waits > 0 OR created_at < $4) AND id <> $5
	ORDER BY tried, created_at`

func (t *txn) release(c Cloud, limit int) ([]Release, error) {
	if c.NotBefore.After(t.now) {
		return nil, nil
	}
	if c.Paused() {
		return t.releaseProbe(c)
	}
	queued, err := t.queued(c.Name)
	if err != nil {
		return nil, err
	}
	if c.RateNow > 0 {
		limit = min(limit, max(1, int(math.Ceil(c.RateNow*paceHorizon)))-queued)
	}
	var out []Release
	for _, class := range tasks.Classes() {
		n := limit - len(out)
		if c.Cap > 0 {
			live, err := t.live(c.Name)
			if err != nil {
				return nil, err
			}
			n = min(n, 2*live.free(c, class)-queued-len(out))
		}
		fresh, err := t.releaseDue(c.Name, class.Rank(), "", n)
		if err != nil {
			return nil, err
		}
		out = append(out, fresh...)
	}
	return out, nil
}

const queuedSQL = `SELECT count(*) FROM restores WHERE cloud = $1 AND state = 'queued'`

func (t *txn) queued(cloud string) (n int, err error) {
	err = t.row(queuedSQL, cloud).Scan(&n)
	return n, err
}

// releaseProbe lets one row through the door that a good probe opened, another
// one than the row whose answer paused the cloud if there is one.
func (t *txn) releaseProbe(c Cloud) ([]Release, error) {
	if c.PausedBy != "verdict" || c.Probing != "open" {
		return nil, nil
	}
	for _, skip := range []string{c.PausedRow, ""} {
		for _, class := range tasks.Classes() {
			out, err := t.releaseDue(c.Name, class.Rank(), skip, 1)
			if err != nil {
				return nil, err
			}
			if len(out) == 1 {
				c.Probing = out[0].ID
				return out, t.saveCloud(c)
			}
		}
	}
	return nil, nil
}

func (t *txn) releaseDue(cloud string, rank int, skip string, n int) ([]Release, error) {
	if n <= 0 {
		return nil, nil
	}
	due, err := t.restores(n, dueSQL, cloud, rank, micros(t.now), micros(t.now.Add(-ownDelivery)), skip)
	if err != nil {
		return nil, err
	}
	var out []Release
	for _, before := range due {
		row := before
		row.State, row.Generation, row.Releases, row.ReleasedAt = Queued, row.Generation+1, row.Releases+1, t.now
		row.Reason = "its turn: a worker was woken"
		if err := t.save(before, &row, false); err != nil {
			return nil, err
		}
		if err := t.moved(before, row, "released", "dispatch"); err != nil {
			return nil, err
		}
		out = append(out, Release{row.ID, row.Generation})
	}
	return out, nil
}

// restores reads at most so many rows; the statement is free again when it
// returns. (SQLite plans a query anew whenever the value of a bound LIMIT changes.)
func (t *txn) restores(most int, query string, args ...any) ([]Restore, error) {
	rows, err := t.rows(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Restore
	for len(out) < most && rows.Next() {
		r, err := scanRestore(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Unsent takes back the count of wake-ups that could not be put on the queue: that
// nobody stored an outcome for them proves nothing. The rows stay queued and are
// sent again.
func (s *Store) Unsent(ctx context.Context, rows []Release) error {
	return s.write(ctx, func(t *txn) error {
		for _, r := range rows {
			const unsent = `UPDATE restores SET releases = releases - 1, rev = rev + 1 WHERE id = $1 AND state = 'queued' AND generation = $2 AND releases > 0`
			if _, err := t.exec(unsent, r.ID, r.Generation); err != nil {
				return err
			}
		}
		return nil
	})
}

// OthersDue reports whether another row of the same cloud, of this class or a
// better one, is due and waits to be released; such rows go first.
func (s *Store) OthersDue(ctx context.Context, r Restore) (bool, error) {
	const query = `SELECT EXISTS (SELECT 1 FROM restores WHERE cloud = $1 AND state = 'waiting' AND class_rank <= $2 AND not_before <= $3
		AND (generation > 0 OR attempt > 0 OR waits > 0 OR created_at < $4) AND id <> $5)`
	var due bool
	now := s.Now()
	err := s.queryRow(ctx, query, r.Cloud, r.Class.Rank(), micros(now), micros(now.Add(-ownDelivery)), r.ID).Scan(&due)
	return due, wrapIf("look for due restores", err)
}

// Blocked lists the rows of a cloud that wait for a volume to be detached or to
// become free, oldest first, at most limit.
func (s *Store) Blocked(ctx context.Context, cloud string, limit int) ([]Restore, error) {
	rows, err := s.query(ctx, `SELECT `+restoreColumns+` FROM restores WHERE cloud = $1 AND state = 'waiting'
		AND wait IN ('attached','busy') ORDER BY created_at LIMIT $2`, cloud, limit)
	if err != nil {
		return nil, fmt.Errorf("list blocked restores: %w", err)
	}
	return all(rows, func(r scanner) (Restore, error) { return scanRestore(r) })
}

// Due makes rows that [Store.Blocked] lists due now: what they waited for is
// over. A row that waits for something else by now keeps its time.
func (s *Store) Due(ctx context.Context, ids []string) error {
	return s.write(ctx, func(t *txn) error {
		for _, id := range ids {
			if _, err := t.exec(`UPDATE restores SET not_before = 0, rev = rev + 1 WHERE id = $1 AND state = 'waiting'
				AND wait IN ('attached','busy')`, id); err != nil {
				return err
			}
		}
		return nil
	})
}
