package results

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"modernc.org/sqlite"
)

const (
	batchRows = 100
	queueRows = 4 * batchRows
)

var (
	// ErrClosed says that the store was closed by this process.
	ErrClosed   = errors.New("the store is closed")
	errNotBegun = errors.New("no transaction could be begun")
)

// A writer commits changes for all goroutines of a process: whatever waits
// while one commit is on its way to the disk goes into the next one together.
type writer struct {
	queue chan *change
	done  chan struct{}
	mu    sync.RWMutex
	shut  bool
}

type change struct {
	do     func(*txn) error
	result chan error
}

func (w *writer) start(db *sql.DB) {
	w.queue = make(chan *change, queueRows)
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		p := &pen{db: db}
		defer p.drop()
		for c := range w.queue {
			p.commit(w.gather(c))
		}
	}()
}

func (w *writer) gather(first *change) []*change {
	batch := []*change{first}
	for len(batch) < batchRows {
		select {
		case c, open := <-w.queue:
			if !open {
				return batch
			}
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

func (w *writer) stop() {
	w.mu.Lock()
	already := w.shut
	w.shut = true
	w.mu.Unlock()
	if !already {
		close(w.queue)
	}
	<-w.done
}

// write runs do in a transaction and returns when it is on disk, or refused.
// Once handed over it is waited for: the caller always knows what happened,
// but for an error of the database itself, after which nobody does.
func (s *Store) write(ctx context.Context, do func(*txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{do: do, result: make(chan error, 1)}
	s.writer.mu.RLock()
	if s.writer.shut {
		s.writer.mu.RUnlock()
		return ErrClosed
	}
	s.writer.queue <- c
	s.writer.mu.RUnlock()
	return <-c.result
}

// A pen holds the writer's connection and its prepared statements.
type pen struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// A txn is one open transaction, as a change sees it.
type txn struct {
	pen   *pen
	now   time.Time
	dirty bool // this change has written something
}

func (p *pen) commit(batch []*change) {
	results, err := p.try(batch)
	if err != nil && len(batch) > 1 && !errors.Is(err, errNotBegun) {
		for _, c := range batch { // one of them spoiled it: each on its own
			p.commit([]*change{c})
		}
		return
	}
	for i, c := range batch {
		if err != nil {
			c.result <- err
			continue
		}
		c.result <- results[i]
	}
}

// try runs all changes in one transaction. A change that refuses before it
// wrote anything does not hurt the others; one that fails after that does.
func (p *pen) try(batch []*change) ([]error, error) {
	ctx := context.Background() // a commit is finished whoever stopped waiting for it
	if err := p.begin(ctx); err != nil {
		return nil, errors.Join(errNotBegun, err)
	}
	results := make([]error, len(batch))
	for i, c := range batch {
		t := &txn{pen: p, now: storeNow()}
		results[i] = safely(c.do, t)
		if results[i] != nil && t.dirty {
			return nil, errors.Join(results[i], p.rollback(ctx))
		}
	}
	if _, err := p.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return nil, errors.Join(fmt.Errorf("commit: %w", err), p.rollback(ctx))
	}
	return results, nil
}

func safely(do func(*txn) error, t *txn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.dirty = true
			err = fmt.Errorf("a change of the store panicked: %v", p)
		}
	}()
	return do(t)
}

func (p *pen) begin(ctx context.Context) error {
	if p.conn == nil {
		conn, err := p.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("connect to the store: %w", err)
		}
		p.conn, p.stmts = conn, map[string]*sql.Stmt{}
	}
	if _, err := p.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		p.drop()
		return fmt.Errorf("begin: %w", err)
	}
	return nil
}

// rollback gives the connection up as well: its state is not worth trusting.
func (p *pen) rollback(ctx context.Context) error {
	_, err := p.conn.ExecContext(ctx, "ROLLBACK")
	p.drop()
	if isNoTransaction(err) {
		return nil
	}
	return err
}

func (p *pen) drop() {
	if p.conn == nil {
		return
	}
	for _, s := range p.stmts {
		s.Close()
	}
	p.conn.Close()
	p.conn, p.stmts = nil, nil
}

func (p *pen) stmt(query string) (*sql.Stmt, error) {
	if s := p.stmts[query]; s != nil {
		return s, nil
	}
	s, err := p.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	p.stmts[query] = s
	return s, nil
}

func (t *txn) exec(query string, args ...any) (rows int64, err error) {
	s, err := t.pen.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	if rows, err = res.RowsAffected(); rows > 0 {
		t.dirty = true
	}
	return rows, err
}

func (t *txn) row(query string, args ...any) scanner {
	s, err := t.pen.stmt(query)
	if err != nil {
		return failedRow{err}
	}
	return s.QueryRowContext(context.Background(), args...)
}

func (t *txn) rows(query string, args ...any) (*sql.Rows, error) {
	s, err := t.pen.stmt(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.Background(), args...)
}

// A scanner is a row of the database, as database/sql gives it.
type scanner interface{ Scan(...any) error }

type failedRow struct{ err error }

func (f failedRow) Scan(...any) error { return f.err }

// takenIndex names which uniqueness a write would have broken: "volume", "backup", "id" or "".
func takenIndex(err error) string {
	var e *sqlite.Error
	if !errors.As(err, &e) || e.Code() != 2067 && e.Code() != 1555 { // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY
		return ""
	}
	return indexNamed(e.Error())
}

func isNoTransaction(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == 1 // SQLITE_ERROR: cannot rollback, no transaction is active
}
