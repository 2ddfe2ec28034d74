// Package results remembers what happened to every restore.
//
// A restore is a [Restore], a row. It moves through [State]s along [Arrows],
// and every move is one compare-and-set:
//
//	Record ─▶ waiting ─Release▶ queued ─Claim▶ posting ─Settle▶ restoring ─Judge▶ succeeded | failed
//
// What is in the store is the truth: the queue may be flushed, workers may be
// killed, and nothing recorded is lost. A commit is on disk before a method
// returns. Every method is safe for concurrent use, by goroutines and by
// processes. Times are the store's clock; see [Store.Now].
//
// Start with [Open], [Store.Record] and [Store.Get].
package results

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of Open. The zero value is right for production.
type Options struct {
	// MustExist refuses to make a store: ErrNoStore. Everything that only reads sets it.
	MustExist bool
	// Unsynced leaves out the fsync of each commit. Only for tests: a power cut loses commits.
	Unsynced bool
	// Wrap lets a test stand between the store and its database file. Nil: nothing.
	Wrap func(driver.Connector) driver.Connector
}

// A Store is an open result store. It is safe for concurrent use.
type Store struct {
	reader reader
	writes *sql.DB
	writer writer
	id     string
	url    string
}

// Open opens the store at a URL, making it and its folder when needed
// (unless MustExist). Supported: sqlite://PATH. The caller closes it.
func Open(ctx context.Context, storeURL string, o Options) (*Store, error) {
	path, err := sqlitePath(storeURL)
	if err != nil {
		return nil, err
	}
	if err := place(path, o.MustExist); err != nil {
		return nil, fmt.Errorf("open store %s: %w", storeURL, err)
	}
	s := &Store{url: storeURL}
	s.writes = openSQLite(writeDSN(path, o.Unsynced), 1, o.Wrap)
	s.reader.db = openSQLite(readDSN(path), 4, o.Wrap)
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", storeURL, err), s.closeDatabases())
	}
	s.writer.start(s.writes)
	return s, nil
}

// CheckURL reports whether Open understands the form of a URL. It opens nothing.
func CheckURL(storeURL string) error {
	_, err := sqlitePath(storeURL)
	return err
}

// sqlitePath understands sqlite://relative and sqlite:///absolute, percent-encoded like every URL.
func sqlitePath(storeURL string) (string, error) {
	u, err := url.Parse(storeURL)
	switch {
	case err != nil:
		return "", fmt.Errorf("store URL is not a URL; use sqlite://PATH")
	case u.Scheme == "postgres" || u.Scheme == "postgresql":
		return "", fmt.Errorf("store URL %s://…: PostgreSQL is not supported by this version; use sqlite://PATH", u.Scheme)
	case u.Scheme != "sqlite":
		return "", fmt.Errorf("store URL %q: use sqlite://PATH", storeURL)
	case u.RawQuery != "" || u.ForceQuery:
		return "", fmt.Errorf("store URL %q: no settings after ? are supported; a ? of the file's name is written %%3F", storeURL)
	case strings.Contains(storeURL, "#"):
		return "", fmt.Errorf("store URL %q: a # of the file's name is written %%23", storeURL)
	case u.User != nil:
		return "", fmt.Errorf("store URL %q: an @ of the file's name is written %%40", storeURL)
	case u.Host+u.Path == "":
		return "", fmt.Errorf("store URL %q names no file; use sqlite://PATH", storeURL)
	}
	return filepath.FromSlash(u.Host + u.Path), nil
}

func place(path string, mustExist bool) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && mustExist {
		return ErrNoStore
	}
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(filepath.Dir(path), 0o700)
	}
	return err
}

func writeDSN(path string, unsynced bool) string {
	sync := "FULL"
	if unsynced {
		sync = "OFF"
	}
	return "file:" + escapePath(path) + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(" + sync + ")&_pragma=foreign_keys(1)&_txlock=immediate"
}

func readDSN(path string) string {
	return "file:" + escapePath(path) + "?_pragma=busy_timeout(10000)&_pragma=query_only(1)"
}

func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

type sqliteConnector struct {
	dsn string
	drv driver.Driver
}

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) { return c.drv.Open(c.dsn) }
func (c sqliteConnector) Driver() driver.Driver                        { return c.drv }

func openSQLite(dsn string, conns int, wrap func(driver.Connector) driver.Connector) *sql.DB {
	var c driver.Connector = sqliteConnector{dsn, &sqlite.Driver{}}
	if wrap != nil {
		c = wrap(c)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

func (s *Store) prepare(ctx context.Context) error {
	if err := migrate(ctx, s.writes); err != nil {
		return err
	}
	fresh := uuid.Must(uuid.NewV7()).String()
	const mark = `INSERT INTO store (name, value) VALUES ('id', $1), ('term', '0') ON CONFLICT (name) DO NOTHING`
	if _, err := s.writes.ExecContext(ctx, mark, fresh); err != nil {
		return fmt.Errorf("mark the store with its id: %w", err)
	}
	return s.writes.QueryRowContext(ctx, `SELECT value FROM store WHERE name = 'id'`).Scan(&s.id)
}

// migrate brings the schema up to date. Several processes may start at once:
// who loses the race for a step finds it done when it looks again.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithVerbose(false))
		if err == nil {
			_, err = p.Up(ctx)
		}
		if err == nil || try == 5 {
			return wrapIf("bring the schema up to date", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func wrapIf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ID is the store's own id, made when the store was made.
func (s *Store) ID() string { return s.id }

// URL is what the store was opened with.
func (s *Store) URL() string { return s.url }

// Now is the store's clock. For SQLite that is the clock of this machine.
func (s *Store) Now() time.Time { return storeNow() }

func storeNow() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Close ends the writer after what it has in hand and closes the database.
func (s *Store) Close() error {
	s.writer.stop()
	return s.closeDatabases()
}

func (s *Store) closeDatabases() error {
	return errors.Join(s.reader.close(), s.writes.Close())
}

// Schema returns the store's schema as SQL text, for people.
func Schema() string {
	var b strings.Builder
	entries, _ := fs.ReadDir(migrations, "migrations") // an embedded folder is always there
	for _, e := range entries {
		text, _ := fs.ReadFile(migrations, "migrations/"+e.Name())
		b.Write(text)
	}
	return b.String()
}

// micros and fromMicros turn times into the store's BIGINT microseconds; 0 is "none".
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
