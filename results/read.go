package results

import (
	"context"
	"database/sql"
	"sync"
)

// reader keeps one prepared statement for each query text: all queries are
// constants, and preparing costs more than running them.
type reader struct {
	db    *sql.DB
	stmts sync.Map // query text → *sql.Stmt
}

func (s *Store) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := s.reader.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (s *Store) queryRow(ctx context.Context, query string, args ...any) scanner {
	stmt, err := s.reader.prepared(ctx, query)
	if err != nil {
		return failedRow{err}
	}
	return stmt.QueryRowContext(ctx, args...)
}

// prepared returns the statement of a query, preparing it at most a few times.
// No lock is held meanwhile: a slow database must not make others wait.
func (r *reader) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := r.stmts.Load(query); ok {
		return s.(*sql.Stmt), nil
	}
	s, err := r.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if first, there := r.stmts.LoadOrStore(query, s); there {
		s.Close()
		return first.(*sql.Stmt), nil
	}
	return s, nil
}

// close closes the statements with their database.
func (r *reader) close() error {
	for _, s := range r.stmts.Range {
		s.(*sql.Stmt).Close()
	}
	return r.db.Close()
}
