package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/results"
)

const (
	leaseName = "cloud:prod"
	tryEvery  = 5 * time.Second
	leaseLife = 15 * time.Second
	stuck     = time.Minute
	look      = 10 * time.Millisecond // how often until looks
)

// A fleet is a store and the processes that want to lead.
type fleet struct {
	t     *testing.T
	url   string
	store *results.Store // the test's own view
	mu    sync.Mutex
	now   []string // who leads now: whose loop runs
	most  int      // how many did at the same time
	terms []int64  // as they were told to Elected
}

func inFleet(t *testing.T, run func(t *testing.T, f *fleet)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		url := newURL(t)
		run(t, &fleet{t: t, url: url, store: open(t, url)})
	})
}

// A process is one that wants to lead, with its own way to the store.
type process struct {
	dispatch.Leader
	fleet *fleet
	unfit bool // guarded by fleet.mu
	log   logbook
	end   context.CancelFunc
	gone  chan struct{}
}

// process makes a process whose one loop works.
func (f *fleet) process(name string) *process {
	p := &process{fleet: f, gone: make(chan struct{})}
	p.Leader = dispatch.Leader{Store: open(f.t, f.url), Lease: leaseName, Holder: name, Log: zerolog.New(&p.log),
		Elected: f.elected, Loops: []dispatch.Loop{f.job(name, 0)}}
	p.Fit = func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !p.unfit
	}
	return p
}

// job is a loop that beats every second and takes so long to end.
func (f *fleet) job(name string, end time.Duration) dispatch.Loop {
	return func(ctx context.Context, beat func()) error {
		f.enter(name)
		defer f.leave(name)
		for ctx.Err() == nil {
			beat()
			wait(ctx, time.Second)
		}
		time.Sleep(end)
		return nil
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (f *fleet) enter(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = append(f.now, name)
	f.most = max(f.most, len(f.now))
}

func (f *fleet) leave(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = slices.DeleteFunc(f.now, func(n string) bool { return n == name })
}

func (f *fleet) elected(l results.Lease) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.terms = append(f.terms, l.Term)
}

func (f *fleet) leading() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(f.now)), " and ")
}

// start runs a process until stop, or the test's end.
func (p *process) start() *process {
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	go func() {
		defer close(p.gone)
		if err := p.Run(ctx); err != nil {
			p.fleet.t.Errorf("Run = %v", err)
		}
	}()
	p.fleet.t.Cleanup(p.stop)
	synctest.Wait()
	return p
}

func (p *process) stop() { p.end(); <-p.gone }

// die ends a process like kill -9: nothing of it reaches the store any more.
func (p *process) die() {
	p.Store.Close()
	p.stop()
}

func (p *process) setFit(fit bool) {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	p.unfit = !fit
}

// wantLeading compares who leads now and whose the lease is.
func (f *fleet) wantLeading(name string) {
	f.t.Helper()
	f.wantRunning(name)
	if got := f.holder(); got != name {
		f.t.Errorf("the lease is %q's, want %q's", got, name)
	}
}

// wantRunning compares whose loops run.
func (f *fleet) wantRunning(names string) {
	f.t.Helper()
	synctest.Wait()
	if got := f.leading(); got != names {
		f.t.Errorf("loops of %q run, want of %q", got, names)
	}
}

// holder is whose the lease is.
func (f *fleet) holder() string {
	leases, err := f.store.Leases(f.t.Context())
	must(f.t)(leases, err)
	for _, l := range leases {
		if l.ExpiresAt.After(f.store.Now()) {
			return l.Holder
		}
	}
	return ""
}

// until waits until somebody leads, or with "" nobody, and returns how long that took.
func (f *fleet) until(name string) time.Duration {
	f.t.Helper()
	start := time.Now()
	for f.leading() != name {
		if time.Since(start) > 5*time.Minute {
			f.t.Fatalf("after %s %q leads, want %q", time.Since(start), f.leading(), name)
		}
		time.Sleep(look)
	}
	f.wantLeading(name)
	return time.Since(start)
}

func (f *fleet) wantMost(n int) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most != n {
		f.t.Errorf("%d loops ran at the same time, want %d", f.most, n)
	}
}

// wantTerms checks how often somebody was elected, and that the terms grow.
func (f *fleet) wantTerms(n int) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.terms) != n || !slices.IsSorted(f.terms) || len(slices.Compact(slices.Clone(f.terms))) != n {
		f.t.Errorf("elected with the terms %v, want %d that grow", f.terms, n)
	}
}

// between checks a time that depends on where in its round a process was.
func between(t *testing.T, what string, took, low, high time.Duration) {
	t.Helper()
	if took < low || took > high+look {
		t.Errorf("%s took %s, want %s to %s", what, took, low, high)
	}
}

func TestOneOfTwoLeads(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.process("a").start()
		f.process("b").start()
		for range 5 * 12 {
			f.wantLeading("a")
			time.Sleep(tryEvery)
		}
		f.wantMost(1)
		f.wantTerms(1)
	})
}

func TestTheOtherTakesOverAtOnceFromOneThatStops(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a").start()
		f.process("b").start()
		time.Sleep(time.Minute + time.Second)
		a.stop()
		f.wantLeading("") // given up, not run out
		between(t, "taking over", f.until("b"), 0, tryEvery)
		f.wantMost(1)
		f.wantTerms(2)
	})
}

func TestTheOtherTakesOverFromOneThatDies(t *testing.T) {
	for name, offset := range map[string]time.Duration{
		"while the other looks just before the lease runs out": 4900 * time.Millisecond,
		"while the other looks just after":                     100 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				a := f.process("a").start()
				time.Sleep(offset)
				f.process("b").start()
				time.Sleep(4*tryEvery - offset + time.Millisecond) // a has just renewed
				a.die()
				if f.holder() != "a" {
					t.Error("the dead process has given its lease up")
				}
				between(t, "taking over", f.until("b"), leaseLife-time.Second, leaseLife+tryEvery)
				f.wantMost(1)
				f.wantTerms(2)
			})
		})
	}
}

func TestAnUnfitProcessDoesNotLead(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a")
		a.setFit(false)
		a.start()
		time.Sleep(time.Minute + time.Second)
		f.wantLeading("")
		f.wantTerms(0)
		a.setFit(true)
		between(t, "leading after it became fit", f.until("a"), 0, tryEvery)
		time.Sleep(time.Minute)
		a.setFit(false)
		between(t, "giving up after it became unfit", f.until(""), 0, tryEvery)
		time.Sleep(time.Minute)
		f.wantLeading("")
		a.setFit(true)
		f.until("a")
		f.wantTerms(2)
	})
}

func TestTheOtherTakesOverFromOneThatBecomesUnfit(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a").start()
		f.process("b").start()
		time.Sleep(time.Minute)
		a.setFit(false)
		between(t, "taking over", f.until("b"), 0, 2*tryEvery)
		a.setFit(true)
		time.Sleep(time.Minute)
		f.wantLeading("b")
		f.wantMost(1)
	})
}

func TestALoopWithoutAFinishedRoundCostsTheLease(t *testing.T) {
	const works = 17 * time.Second
	for name, broken := range map[string]struct {
		loop  dispatch.Loop
		works time.Duration
		log   string
	}{
		"it hangs from the start": {loop: func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }},
		"it hangs after a while": {works: works, loop: func(ctx context.Context, beat func()) error {
			for range works / time.Second {
				wait(ctx, time.Second)
				beat()
			}
			<-ctx.Done()
			return nil
		}},
		"its rounds go wrong": {loop: func(ctx context.Context, _ func()) error {
			for ctx.Err() == nil {
				wait(ctx, time.Second)
			}
			return nil
		}},
		"it ends with an error": {log: "error: leader's loop ended", loop: func(context.Context, func()) error { return errors.New("broken") }},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, func(t *testing.T, f *fleet) {
				a := f.process("a")
				a.Loops = append(a.Loops, broken.loop, f.job("a's other", 0))
				a.start()
				started := time.Now()
				time.Sleep(time.Second) // not in step with a, which tries again as well
				f.process("b").start()
				f.until("b")
				between(t, "taking over", time.Since(started), broken.works+stuck, broken.works+stuck+2*tryEvery)
				time.Sleep(2 * stuck)
				f.wantLeading("b")
				f.wantMost(2) // a's two loops that work
				f.wantTerms(2)
				said := a.log.lines(t)
				if !slices.Contains(said, "warn: no round finished for a minute; somebody else may try") || broken.log != "" && !slices.Contains(said, broken.log) {
					t.Errorf("the process said %q", said)
				}
			})
		})
	}
}

// A process that lost its lease ends what it does before it leads again, and
// leaves the new holder alone.
func TestALostLeaseEndsTheLoops(t *testing.T) {
	const ending = 20 * time.Second
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a")
		a.Loops = []dispatch.Loop{f.job("a", 0), f.job("a's slow", ending)}
		a.start()
		must(t)(nil, f.store.GiveUp(t.Context(), leaseName, "a"))
		f.take("other", time.Minute)
		time.Sleep(tryEvery + time.Second)
		f.wantRunning("a's slow")
		time.Sleep(ending)
		f.wantRunning("")
		if got := f.holder(); got != "other" {
			t.Errorf("the lease is %q's, want the other's", got)
		}
		time.Sleep(time.Minute)
		f.wantRunning("a and a's slow")
		f.wantMost(2)
		f.wantTerms(2)
	})
}

// A lease that is free again does not make a process start its loops twice.
func TestALeaderWaitsForItsOldLoops(t *testing.T) {
	const ending = 20 * time.Second
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a")
		a.Loops = []dispatch.Loop{f.job("a", ending)}
		a.start()
		time.Sleep(time.Second)
		a.setFit(false)
		time.Sleep(tryEvery)
		a.setFit(true)
		time.Sleep(2 * ending)
		f.wantLeading("a")
		f.wantMost(1)
		f.wantTerms(2)
	})
}

func (f *fleet) take(holder string, life time.Duration) {
	f.t.Helper()
	if l, mine, err := f.store.Lease(f.t.Context(), leaseName, holder, life); err != nil || !mine {
		f.t.Fatalf("%s takes the lease: %+v, %v", holder, l, err)
	}
}

func TestNothingRunsWhenRunReturns(t *testing.T) {
	const ending = 20 * time.Second
	inFleet(t, func(t *testing.T, f *fleet) {
		a := f.process("a")
		a.Loops = []dispatch.Loop{f.job("a", 0), f.job("a's slow", ending)}
		a.start()
		time.Sleep(time.Second)
		asked := time.Now()
		a.stop()
		if got := f.leading(); got != "" {
			t.Errorf("%q still runs", got)
		}
		if took := time.Since(asked); took != ending {
			t.Errorf("Run returned after %s, want the %s of the slowest loop", took, ending)
		}
		f.wantLeading("")
	})
}

func TestAProcessThatDoesNotLeadStopsAtOnce(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		f.process("a").start()
		b := f.process("b").start()
		time.Sleep(time.Second)
		asked := time.Now()
		b.stop()
		if took := time.Since(asked); took != 0 {
			t.Errorf("Run returned after %s", took)
		}
		f.wantLeading("a")
	})
}

func TestEachElectionHasAGreaterTerm(t *testing.T) {
	inFleet(t, func(t *testing.T, f *fleet) {
		a, b := f.process("a").start(), f.process("b").start()
		for range 5 {
			a.setFit(false)
			f.until("b")
			a.setFit(true)
			b.setFit(false)
			f.until("a")
			b.setFit(true)
		}
		f.wantMost(1)
		f.wantTerms(11)
	})
}
