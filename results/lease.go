package results

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A Lease says who does a job that one process should do at a time. Nothing
// breaks when two do it for a moment: every step is a compare-and-set.
type Lease struct {
	Name      string    `json:"name"`
	Holder    string    `json:"holder"`
	Term      int64     `json:"term"` // grows with every change of holder, over all leases of the store
	TakenAt   time.Time `json:"taken_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

const leaseSQL = `SELECT name, holder, term, taken_at, expires_at FROM leases WHERE name = $1`

func scanLease(r scanner) (Lease, error) {
	var l Lease
	var taken, expires int64
	err := notFound(r.Scan(&l.Name, &l.Holder, &l.Term, &taken, &expires))
	l.TakenAt, l.ExpiresAt = fromMicros(taken), fromMicros(expires)
	return l, err
}

// Lease takes or renews a lease for ttl. It reports false, and whose it is,
// while somebody else holds it.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (Lease, bool, error) {
	var l Lease
	var mine bool
	err := s.write(ctx, func(t *txn) (err error) {
		l, mine, err = t.lease(name, holder, ttl)
		return err
	})
	return l, mine, wrapIf("take lease "+name, err)
}

func (t *txn) lease(name, holder string, ttl time.Duration) (Lease, bool, error) {
	l, err := scanLease(t.row(leaseSQL, name))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return l, false, err
	}
	if err == nil && l.Holder != holder && l.ExpiresAt.After(t.now) {
		return l, false, nil
	}
	if l.Holder != holder || err != nil {
		l.Name, l.Holder, l.TakenAt = name, holder, t.now
		if l.Term, err = t.nextTerm(); err != nil {
			return l, false, err
		}
	}
	l.ExpiresAt = t.now.Add(ttl)
	const upsert = `INSERT INTO leases (name, holder, term, taken_at, expires_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO UPDATE SET holder = $2, term = $3, taken_at = $4, expires_at = $5`
	_, err = t.exec(upsert, name, holder, l.Term, micros(l.TakenAt), micros(l.ExpiresAt))
	return l, err == nil, err
}

func (t *txn) nextTerm() (int64, error) {
	var text string
	if err := t.row(`SELECT value FROM store WHERE name = 'term'`).Scan(&text); err != nil {
		return 0, err
	}
	term, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the store's term %q is not a number", text)
	}
	_, err = t.exec(`UPDATE store SET value = $1 WHERE name = 'term'`, strconv.FormatInt(term+1, 10))
	return term + 1, err
}

// GiveUp lets go of a lease that holder has, so that another can take it at once.
func (s *Store) GiveUp(ctx context.Context, name, holder string) error {
	return s.write(ctx, func(t *txn) error {
		_, err := t.exec(`UPDATE leases SET holder = '', expires_at = 0 WHERE name = $1 AND holder = $2`, name, holder)
		return err
	})
}

// Leases lists all leases by name.
func (s *Store) Leases(ctx context.Context) ([]Lease, error) {
	rows, err := s.query(ctx, `SELECT name, holder, term, taken_at, expires_at FROM leases ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	return all(rows, scanLease)
}

// Term is the newest term the store has given out.
func (s *Store) Term(ctx context.Context) (int64, error) {
	var text string
	if err := s.queryRow(ctx, `SELECT value FROM store WHERE name = 'term'`).Scan(&text); err != nil {
		return 0, fmt.Errorf("read the store's term: %w", err)
	}
	return strconv.ParseInt(text, 10, 64)
}

// RaiseTerm lifts the store's term to at least min, after it was found behind.
func (s *Store) RaiseTerm(ctx context.Context, min int64) error {
	return s.write(ctx, func(t *txn) error {
		_, err := t.exec(`UPDATE store SET value = $1 WHERE name = 'term' AND CAST(value AS BIGINT) < $2`, strconv.FormatInt(min, 10), min)
		return err
	})
}
