package results

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// A faulty connector stands between the store and its file: it counts COMMITs
// and lets a test decide what becomes of them.
type faulty struct {
	driver.Connector
	faults *faults
}

type faults struct {
	mu      sync.Mutex
	commits int
	begin   error                                       // instead of each BEGIN
	commit  func(number int, really func() error) error // instead of each COMMIT; nil: really
}

func (f *faults) wrap(c driver.Connector) driver.Connector { return faulty{c, f} }

// arm starts counting again, with a new way to commit.
func (f *faults) arm(commit func(int, func() error) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits, f.commit = 0, commit
}

func (f *faults) counted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commits
}

func (c faulty) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return faultyConn{conn.(fullConn), c.faults}, nil
}

// fullConn is what SQLite's connection can do and database/sql asks for.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type faultyConn struct {
	fullConn
	faults *faults
}

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (res driver.Result, err error) {
	really := func() error {
		res, err = c.fullConn.ExecContext(ctx, query, args)
		return err
	}
	return res, c.faults.exec(query, really)
}

func (f *faults) exec(query string, really func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(query, "BEGIN") && f.begin != nil {
		return f.begin
	}
	if query != "COMMIT" {
		return really()
	}
	f.commits++
	if f.commit == nil {
		return really()
	}
	return f.commit(f.commits, really)
}

func openFaulty(t *testing.T) (*Store, *faults) {
	t.Helper()
	f := &faults{}
	u := url.URL{Scheme: "sqlite", Path: filepath.Join(t.TempDir(), "store.db")}
	s, err := Open(t.Context(), u.String(), Options{Unsynced: true, Wrap: f.wrap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, f
}

func numbered(n int) tasks.Restore {
	r := tasks.Restore{ID: fmt.Sprintf("%08d-0000-7000-8000-000000000000", n), Cloud: "prod",
		BackupID: fmt.Sprintf("%08d-bbbb-4000-8000-000000000000", n), VolumeID: fmt.Sprintf("%08d-cccc-4000-8000-000000000000", n)}
	r.Normalize(time.Now())
	return r
}

func recording(n int) func(*txn) error {
	return func(t *txn) error {
		_, _, err := t.record(numbered(n))
		return err
	}
}

// together hands changes over while the writer is held up, so that they are one
// batch, and returns what became of each.
func together(t *testing.T, s *Store, changes ...func(*txn) error) []error {
	t.Helper()
	busy, goOn := make(chan struct{}), make(chan struct{})
	hold := &change{do: func(*txn) error { close(busy); <-goOn; return nil }, result: make(chan error, 1)}
	s.writer.queue <- hold
	<-busy
	batch := []*change{}
	for _, do := range changes {
		c := &change{do: do, result: make(chan error, 1)}
		s.writer.queue <- c
		batch = append(batch, c)
	}
	close(goOn)
	<-hold.result
	errs := []error{}
	for _, c := range batch {
		errs = append(errs, <-c.result)
	}
	return errs
}

func stored(t *testing.T, s *Store, n int) bool {
	t.Helper()
	_, err := s.Get(t.Context(), numbered(n).ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestManyChangesOneCommit(t *testing.T) {
	s, f := openFaulty(t)
	f.arm(nil)
	var changes []func(*txn) error
	for n := range 250 {
		changes = append(changes, recording(n))
	}
	for n, err := range together(t, s, changes...) {
		if err != nil || !stored(t, s, n) {
			t.Errorf("change %d: %v, stored %t", n, err, stored(t, s, n))
		}
	}
	if got := f.counted(); got != 4 { // the one that held the writer up; 100, 100, 50
		t.Errorf("%d commits; want 4", got)
	}
}

// What one change does wrong is its own affair.
func TestBadChangeHurtsNoOther(t *testing.T) {
	errBad := errors.New("changed its mind")
	afterWriting := func(what func() error) func(*txn) error {
		return func(t *txn) error {
			return errors.Join(recording(99)(t), what())
		}
	}
	for name, bad := range map[string]struct {
		do      func(*txn) error
		commits int
	}{
		"refuses before it wrote": {func(*txn) error { return errBad }, 2},
		"fails after it wrote":    {afterWriting(func() error { return errBad }), 4},
		"panics":                  {func(*txn) error { panic(errBad.Error()) }, 4},
		"panics after it wrote":   {afterWriting(func() error { panic(errBad.Error()) }), 4},
		"wrong SQL":               {func(t *txn) error { _, err := t.exec("changed its mind"); return errors.Join(err, errBad) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := openFaulty(t)
			f.arm(nil)
			errs := together(t, s, recording(1), recording(2), bad.do, recording(3))
			for i, err := range errs {
				if (i == 2) != (err != nil) {
					t.Errorf("change %d: %v", i, err)
				}
			}
			if errs[2] == nil || !strings.Contains(errs[2].Error(), errBad.Error()) {
				t.Errorf("the bad change: %v", errs[2])
			}
			if !stored(t, s, 1) || !stored(t, s, 2) || !stored(t, s, 3) || stored(t, s, 99) {
				t.Errorf("stored: %t %t %t, of the bad one: %t", stored(t, s, 1), stored(t, s, 2), stored(t, s, 3), stored(t, s, 99))
			}
			if got := f.counted(); got != bad.commits {
				t.Errorf("%d commits; want %d", got, bad.commits)
			}
		})
	}
}

var errDisk = errors.New("disk I/O error")

func TestFailedCommitIsTriedRowByRow(t *testing.T) {
	s, f := openFaulty(t)
	f.arm(func(n int, really func() error) error {
		if n == 2 || n == 4 { // the batch; then the second row
			return errDisk
		}
		return really()
	})
	errs := together(t, s, recording(1), recording(2), recording(3))
	if errs[0] != nil || !errors.Is(errs[1], errDisk) || errs[2] != nil {
		t.Errorf("errors %v; want only the second", errs)
	}
	if !stored(t, s, 1) || stored(t, s, 2) || !stored(t, s, 3) {
		t.Errorf("stored: %t %t %t", stored(t, s, 1), stored(t, s, 2), stored(t, s, 3))
	}
	if _, outcome, err := s.Record(t.Context(), numbered(2)); outcome != RecordedNew || err != nil {
		t.Errorf("asked again: %s, %v", outcome, err)
	}
}

// The commit reached the disk and only its answer was lost: nothing is done
// twice, and a claim is not believed.
func TestCommitWithALostAnswer(t *testing.T) {
	s, f := openFaulty(t)
	if _, err := s.EnsureCloud(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	row, _, err := s.Record(t.Context(), numbered(1))
	if err != nil {
		t.Fatal(err)
	}
	f.arm(func(n int, really func() error) error {
		if err := really(); err != nil || n != 2 {
			return err
		}
		return errDisk
	})
	c := Claim{ID: row.ID, From: []State{Waiting}, ObservedAt: s.Now(), PostTimeout: time.Minute}
	errs := together(t, s, recording(2), func(t *txn) error { _, err := t.claim(c); return err })
	var refusal *Refusal
	if errs[0] != nil || !errors.As(errs[1], &refusal) || refusal.Wait != WaitTurn {
		t.Errorf("%v; want the record known and the claim refused", errs)
	}
	if row, err = s.Get(t.Context(), row.ID); err != nil || row.State != Posting || row.Attempt != 1 {
		t.Errorf("%+v, %v; the watcher must find it posting", row, err)
	}
	if events, err := s.Story(t.Context(), numbered(2).ID); err != nil || len(events) != 1 {
		t.Errorf("recorded once, but events %+v, %v", events, err)
	}
}

func TestSingleCommitFails(t *testing.T) {
	s, f := openFaulty(t)
	f.arm(func(int, func() error) error { return errDisk })
	if _, _, err := s.Record(t.Context(), numbered(1)); !errors.Is(err, errDisk) || !strings.Contains(err.Error(), numbered(1).ID) {
		t.Errorf("Record = %v; want %v, naming the restore", err, errDisk)
	}
	f.arm(nil)
	if stored(t, s, 1) {
		t.Error("a row is there although its commit failed")
	}
	if _, _, err := s.Record(t.Context(), numbered(2)); err != nil {
		t.Errorf("the writer did not recover: %v", err)
	}
}

func TestBeginFails(t *testing.T) {
	s, f := openFaulty(t)
	f.mu.Lock()
	f.begin = errDisk
	f.mu.Unlock()
	if _, _, err := s.Record(t.Context(), numbered(1)); !errors.Is(err, errDisk) {
		t.Errorf("Record = %v; want %v", err, errDisk)
	}
	f.mu.Lock()
	f.begin = nil
	f.mu.Unlock()
	if _, _, err := s.Record(t.Context(), numbered(1)); err != nil {
		t.Errorf("the writer did not recover: %v", err)
	}
}

func TestWriteAfterClose(t *testing.T) {
	s, _ := openFaulty(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if _, _, err := s.Record(t.Context(), numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Record = %v; want %v", err, ErrClosed)
	}
}

// Close waits for what was handed over.
func TestCloseFinishesWhatItHas(t *testing.T) {
	s, _ := openFaulty(t)
	errs := make(chan error, 50)
	var wg sync.WaitGroup
	for n := range cap(errs) {
		wg.Go(func() {
			_, _, err := s.Record(t.Context(), numbered(n))
			errs <- err
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("Record = %v; want success or %v", err, ErrClosed)
		}
	}
}

func TestWriteWithAnEndedContext(t *testing.T) {
	s, _ := openFaulty(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Record(ctx, numbered(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Record = %v; want context.Canceled", err)
	}
	if stored(t, s, 1) {
		t.Error("recorded for somebody who had gone")
	}
}

// Every statement that runs often finds its rows by an index.
func TestFrequentQueriesScanNoTable(t *testing.T) {
	s, _ := openFaulty(t)
	for name, query := range map[string]string{"live": liveSQL, "lost": lostSQL, "due": dueSQL, "watched": watchedSQL, "open pair": openPairSQL,
		"list": listSQL, "queued": queuedSQL, "doubts": doubtsSQL, "unnumbered": unnumberedSQL, "last number": lastNumberSQL} {
		var args []any
		for i := 1; strings.Contains(query, fmt.Sprintf("$%d", i)); i++ {
			args = append(args, "1")
		}
		rows, err := s.query(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(name, err)
		}
		plan, err := all(rows, func(r scanner) (string, error) {
			var a, b, c int
			var step string
			return step, r.Scan(&a, &b, &c, &step)
		})
		if err != nil {
			t.Fatal(name, err)
		}
		for _, step := range plan {
			if strings.HasPrefix(step, "SCAN") && step != "SCAN events USING INDEX events_unnumbered" { // holds nothing else
				t.Errorf("%s: %q", name, plan)
			}
		}
	}
}
