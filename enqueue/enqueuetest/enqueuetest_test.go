package enqueuetest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/vbsrestore/vbsrestore/enqueue/enqueuetest"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backupID = "2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"
	firstID  = "0198c0de-7a11-7bcd-8ef0-123456789abc"
)

func newRestores(n int) []tasks.Restore {
	rs := make([]tasks.Restore, n)
	for i := range rs {
		rs[i] = tasks.Restore{Cloud: "prod", BackupID: backupID, VolumeID: fmt.Sprintf("9a0d7c52-1f7e-4c0e-8a55-%012x", i)}
	}
	return rs
}

func TestRestoresShowsWhatWasAskedFor(t *testing.T) {
	queue := enqueuetest.New(t)
	if got := queue.Restores(t); len(got) != 0 {
		t.Errorf("asked for %+v before anything was", got)
	}
	rs := newRestores(600) // more than a batch, and more than a pipe holds
	rs[0].Trace = map[string]string{"traceparent": "00-aa-bb-01"}
	rs[599].Cloud = "east"
	if _, err := queue.Client().Restores(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	if err := queue.Client().Wake(t.Context(), "prod", []tasks.Wake{{ID: firstID, Generation: 1}}); err != nil {
		t.Fatal(err)
	}
	want := append(rs[599:600:600], rs[:599]...)
	if diff := cmp.Diff(want, queue.Restores(t)); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

func TestWaitForSeesALateRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := enqueuetest.New(t)
		time.AfterFunc(5*time.Second, func() {
			if _, err := queue.Client().Restores(t.Context(), newRestores(2)); err != nil {
				t.Error(err)
			}
		})
		start := time.Now()
		if got := queue.WaitFor(t, 2); len(got) != 2 || time.Since(start) < 5*time.Second {
			t.Errorf("got %d restores after %v", len(got), time.Since(start))
		}
	})
}

func TestWaitForGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := enqueuetest.New(t)
		probe := &fakeT{TB: t}
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			queue.WaitFor(probe, 1)
		}()
		<-done
		if took := time.Since(start).Round(time.Second); took != 10*time.Second || !strings.Contains(probe.fatal, "for 1 restores, got 0") {
			t.Errorf("said %q after %v", probe.fatal, took)
		}
	})
}

// fakeT keeps what it is told instead of failing the test.
type fakeT struct {
	testing.TB
	fatal    string
	cleanups []func()
}

func (f *fakeT) Helper()          {}
func (f *fakeT) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *fakeT) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (f *fakeT) end() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}
