package results_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const cloud = "prod"

var sameRow = cmp.Options{cmpopts.IgnoreUnexported(results.Restore{}, results.Cloud{})}

// TestMain lets the test binary be its own child process: see TestKilledAfterRecord.
func TestMain(m *testing.M) {
	if u := os.Getenv("RESULTS_TEST_RECORD_INTO"); u != "" {
		recordUntilKilled(u)
	}
	os.Exit(m.Run())
}

// inBubble runs f with a fresh store of one cloud without cap and pace, in fake
// time and beside the other tests.
func inBubble(t *testing.T, f func(*testing.T, *results.Store)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newURL(t), results.Options{})
		ensureCloud(t, s, 0, 0)
		f(t, s)
	})
}

func newURL(t testing.TB) string { return urlOf(filepath.Join(t.TempDir(), "store.db")) }

func urlOf(path string) string { return (&url.URL{Scheme: "sqlite", Path: path}).String() }

func open(t testing.TB, storeURL string, o results.Options) *results.Store {
	t.Helper()
	o.Unsynced = true
	s, err := results.Open(context.Background(), storeURL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ensureCloud(t testing.TB, s *results.Store, limit int, rate float64) {
	t.Helper()
	must(t)(s.EnsureCloud(context.Background(), cloud))
	must(t)(s.SetCloud(context.Background(), cloud, "test", "for the test", results.CloudSettings{Cap: &limit, Rate: &rate}))
}

// must ends the test on the error of a call with two results.
func must(t testing.TB) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Ids of the n-th restore, backup and volume.
func restoreID(n int) string { return fmt.Sprintf("%08x-0000-7000-8000-%012x", n, 0xabc000+n) }
func backupID(n int) string  { return fmt.Sprintf("%08x-bbbb-4000-8000-000000000000", n) }
func volumeID(n int) string  { return fmt.Sprintf("%08x-cccc-4000-8000-000000000000", n) }

// request asks for the n-th restore: backup n onto volume n.
func request(n int) tasks.Restore { return requestOf(n, n, n, tasks.ClassDirect) }

func requestOf(n, backup, volume int, class tasks.Class) tasks.Restore {
	r := tasks.Restore{ID: restoreID(n), Cloud: cloud, BackupID: backupID(backup), VolumeID: volumeID(volume), Class: class, Actor: "anna"}
	r.Normalize(time.Now())
	return r
}

func record(t testing.TB, s *results.Store, r tasks.Restore) results.Restore {
	t.Helper()
	row, outcome, err := s.Record(context.Background(), r)
	if err != nil || outcome != results.RecordedNew {
		t.Fatalf("Record = %q, %v; want new", outcome, err)
	}
	return row
}

func get(t testing.TB, s *results.Store, id string) results.Restore {
	t.Helper()
	row, err := s.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func getCloud(t testing.TB, s *results.Store) results.Cloud {
	t.Helper()
	c, err := s.Cloud(context.Background(), cloud)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// claimOf is a claim that nothing but the store's state can refuse.
func claimOf(s *results.Store, row results.Restore) results.Claim {
	return results.Claim{ID: row.ID, Attempt: row.Attempt, From: []results.State{results.Waiting, results.Queued}, Worker: "w1", RequestID: "req-1",
		Before: results.Before{VolumeStatus: "available", BackupStatus: "available"}, ObservedAt: s.Now(), PostTimeout: time.Minute,
		ProjectID: "p", VolumeName: "disk", BackupName: "nightly", VolumeGiB: 20, BackupGiB: 10}
}

func claim(t testing.TB, s *results.Store, row results.Restore) results.Restore {
	t.Helper()
	row, err := s.Claim(context.Background(), claimOf(s, row))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// step is a move of row as it is now.
func step(row results.Restore, to results.State) results.Move {
	return results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, To: to, Kind: "step", Actor: "w1"}
}

func move(t testing.TB, s *results.Store, m results.Move) results.Restore {
	t.Helper()
	row, err := s.Move(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// routes lead from waiting to each state.
var routes = map[results.State][]results.State{
	results.Waiting:   {},
	results.Queued:    {results.Queued},
	results.Preparing: {results.Preparing},
	results.Posting:   {results.Posting},
	results.Restoring: {results.Posting, results.Restoring},
	results.Verifying: {results.Posting, results.Restoring, results.Verifying},
	results.InDoubt:   {results.Posting, results.InDoubt},
	results.Succeeded: {results.Posting, results.Restoring, results.Succeeded},
	results.Failed:    {results.Failed},
	results.Cancelled: {results.Cancelled},
}

// lead brings a waiting row to a state; a POST is claimed as a worker would.
func lead(t testing.TB, s *results.Store, row results.Restore, to results.State) results.Restore {
	t.Helper()
	for _, next := range routes[to] {
		if next == results.Posting {
			row = claim(t, s, row)
		} else {
			row = move(t, s, step(row, next))
		}
	}
	return row
}

// recordIn records a request and brings its row to a state.
func recordIn(t testing.TB, s *results.Store, r tasks.Restore, to results.State) results.Restore {
	t.Helper()
	return lead(t, s, record(t, s, r), to)
}

// tamper changes the database behind the store's back.
func tamper(t testing.TB, s *results.Store, statement string, args ...any) {
	t.Helper()
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", u.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.Exec(statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n == 0 || err != nil {
		t.Fatalf("%s: changed nothing (%v)", statement, err)
	}
}

func story(t testing.TB, s *results.Store, id string) []results.Event {
	t.Helper()
	events, err := s.Story(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func kinds(events []results.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.Kind)
	}
	return out
}

func ids[T results.Restore | results.Release](rows []T) []string {
	var out []string
	for _, r := range rows {
		switch r := any(r).(type) {
		case results.Restore:
			out = append(out, r.ID)
		case results.Release:
			out = append(out, r.ID)
		}
	}
	return out
}

// A tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Errorf(string, ...any)
}

func diff(t tester, what string, want, got any, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
