package results

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

const eventColumns = `id, seq, hash, at, cloud, restore_id, attempt, kind, from_state, to_state, reason, actor`

func scanEvent(r scanner) (Event, error) {
	var e Event
	var seq sql.NullInt64
	var at int64
	err := r.Scan(&e.ID, &seq, &e.Hash, &at, &e.Cloud, &e.RestoreID, &e.Attempt, &e.Kind, &e.From, &e.To, &e.Reason, &e.Actor)
	e.Seq, e.At = seq.Int64, fromMicros(at)
	return e, err
}

const lastNumberSQL = `SELECT seq, hash FROM events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT 1`

const unnumberedSQL = `SELECT ` + eventColumns + ` FROM events WHERE seq IS NULL ORDER BY at, id LIMIT $1`

// NumberEvents gives the next events, at most limit, their numbers and chains
// their hashes. The leader calls it; it returns how many it numbered.
func (s *Store) NumberEvents(ctx context.Context, limit int) (n int, err error) {
	err = s.write(ctx, func(t *txn) (err error) {
		n, err = t.numberEvents(limit)
		return err
	})
	return n, wrapIf("number events", err)
}

func (t *txn) numberEvents(limit int) (int, error) {
	var seq int64
	var hash string
	err := t.row(lastNumberSQL).Scan(&seq, &hash)
	if err := ignoreNotFound(notFound(err)); err != nil {
		return 0, err
	}
	rows, err := t.rows(unnumberedSQL, limit)
	if err != nil {
		return 0, err
	}
	fresh, err := all(rows, scanEvent)
	if err != nil {
		return 0, err
	}
	for _, e := range fresh {
		seq++
		e.Seq = seq
		hash = chain(hash, e)
		if _, err := t.exec(`UPDATE events SET seq = $2, hash = $3 WHERE id = $1`, e.ID, seq, hash); err != nil {
			return 0, err
		}
	}
	return len(fresh), nil
}

// chain is the hash of an event and of all before it.
func chain(before string, e Event) string {
	e.Hash = before
	text, _ := json.Marshal(e) // an Event always marshals
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// CheckEvents recomputes the chain over all numbered events and returns the
// number of the first that was changed afterwards, or 0.
func (s *Store) CheckEvents(ctx context.Context) (broken int64, err error) {
	hash := ""
	for after := int64(0); ; {
		batch, err := s.Events(ctx, after, 1000)
		if err != nil || len(batch) == 0 {
			return 0, err
		}
		for _, e := range batch {
			want := e.Hash
			if hash = chain(hash, e); hash != want || e.Seq != after+1 {
				return e.Seq, nil
			}
			after = e.Seq
		}
	}
}

// Events returns numbered events after a number, in order, at most limit.
func (s *Store) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	rows, err := s.query(ctx, `SELECT `+eventColumns+` FROM events WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return all(rows, scanEvent)
}

// Story returns every event of one restore in order, numbered or not.
func (s *Store) Story(ctx context.Context, id string) ([]Event, error) {
	rows, err := s.query(ctx, `SELECT `+eventColumns+` FROM events WHERE restore_id = $1 ORDER BY at, id`, id)
	if err != nil {
		return nil, fmt.Errorf("read the events of restore %s: %w", id, err)
	}
	return all(rows, scanEvent)
}

// CloudEvents returns the newest events of a cloud that concern no single restore, newest first.
func (s *Store) CloudEvents(ctx context.Context, cloud string, limit int) ([]Event, error) {
	rows, err := s.query(ctx, `SELECT `+eventColumns+` FROM events WHERE cloud = $1
		AND kind IN ('cloud set','cloud paused','cloud resumed','throttled','pace restored','probe answered','probe failed','store lost commits','rejected','nobody serves')
		ORDER BY at DESC, id DESC LIMIT $2`, cloud, limit)
	if err != nil {
		return nil, fmt.Errorf("read the events of cloud %s: %w", cloud, err)
	}
	return all(rows, scanEvent)
}

// all collects rows and closes them.
func all[T any](rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var out []T
	for rows.Next() {
		x, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

// Alarm stores an event about a cloud, which need not have a row.
func (s *Store) Alarm(ctx context.Context, cloud, kind, reason string) error {
	err := s.write(ctx, func(t *txn) error {
		return t.event(Event{Cloud: cloud, Kind: kind, Reason: reason, Actor: "vbsrestore"})
	})
	return wrapIf("store an alarm", err)
}
