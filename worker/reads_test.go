package worker

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
)

const pacedCloud = "paced"

// A paced world is a store with one cloud, and a Redis.
type paced struct {
	t     *testing.T
	redis *miniredis.Miniredis
	store *results.Store
}

func newPaced(t *testing.T, perSecond float64) *paced {
	p := &paced{t: t, redis: miniredis.NewMiniRedis(), store: newStore(t)}
	if _, err := p.store.EnsureCloud(t.Context(), pacedCloud); err != nil {
		t.Fatal(err)
	}
	p.set(perSecond)
	t.Cleanup(func() { p.redis.Close() })
	return p
}

func newStore(t *testing.T) *results.Store {
	t.Helper()
	s, err := results.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "store.db"), results.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (p *paced) set(perSecond float64) {
	if _, err := p.store.SetCloud(p.t.Context(), pacedCloud, "test", "test", results.CloudSettings{ReadRate: &perSecond}); err != nil {
		p.t.Fatal(err)
	}
}

// reads are those of one more process.
func (p *paced) reads() *Reads {
	return NewReads(p.client(), p.store, pacedCloud)
}

func (p *paced) client() redis.UniversalClient {
	c, err := enqueue.Connect(enqueue.RedisOptions{URL: "redis://127.0.0.1:6379", Dialer: p.dial})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

func (p *paced) dial(context.Context, string, string) (net.Conn, error) { return p.redis.Dial() }

// passes counts what gets through a door in that time, from so many hands.
func passes(t *testing.T, lasting time.Duration, hands int, doors ...func(context.Context) error) int {
	ctx, cancel := context.WithTimeout(t.Context(), lasting)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for _, door := range doors {
		for range hands {
			wg.Go(func() {
				for door(ctx) == nil && ctx.Err() == nil {
					mu.Lock()
					n++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return n
}

func within(t *testing.T, what string, got, low, high int) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %d, want %d to %d", what, got, low, high)
	}
}

// TestReadsHoldThePaceOfTheFleet: two processes share one rate.
func TestReadsHoldThePaceOfTheFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 10)
		n := passes(t, 10*time.Second, 2, p.reads().watcher, p.reads().watcher)
		within(t, "GETs in 10 s at 10 a second, and a burst of one second", n, 90, 111)
	})
}

// TestReadsOfDeliveriesLeaveTheWatcherItsShare: deliveries alone never use the
// whole rate up, so that the watcher finds a place however many they are.
func TestReadsOfDeliveriesLeaveTheWatcherItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 10)
		n := passes(t, 10*time.Second, 3, p.reads().delivery, p.reads().delivery)
		within(t, "GETs of deliveries in 10 s at nine tenths of 10 a second", n, 80, 101)
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 10)
		busy, watch := p.reads(), p.reads()
		var delivered int
		var wg sync.WaitGroup
		wg.Go(func() { delivered = passes(t, 10*time.Second, 5, busy.delivery) })
		watched := passes(t, 10*time.Second, 1, watch.watcher)
		wg.Wait()
		within(t, "GETs of a watcher beside five busy deliveries in 10 s, of which a tenth is its own", watched, 10, 100)
		within(t, "GETs of both in 10 s", delivered+watched, 90, 111)
	})
}

// TestReadsFollowTheStore: a changed rate counts within a second, without restart.
func TestReadsFollowTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 2)
		r := p.reads()
		within(t, "at 2 a second", passes(t, 10*time.Second, 2, r.watcher), 18, 23)
		p.set(20)
		time.Sleep(1100 * time.Millisecond)
		within(t, "at 20 a second", passes(t, 10*time.Second, 2, r.watcher), 190, 222)
	})
}

// TestReadsWithoutRedis: each process counts for itself.
func TestReadsWithoutRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 10)
		a, b := p.reads(), p.reads()
		p.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
		n := passes(t, 10*time.Second, 2, a.watcher)
		within(t, "GETs of one process in 10 s", n, 95, 111)
		n = passes(t, 10*time.Second, 2, a.watcher, b.watcher)
		within(t, "GETs of two processes in 10 s", n, 190, 222)
	})
}

// TestReadsWithoutALimit: rate 0 asks nobody, and no Reads at all is no limit.
func TestReadsWithoutALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(t, 0)
		r, began := p.reads(), time.Now()
		for range 1000 {
			if err := errors.Join(r.watcher(t.Context()), r.delivery(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("2000 unlimited GETs waited %s", took)
		}
		if keys := p.redis.Keys(); len(keys) != 0 {
			t.Errorf("without a limit Redis holds %v", keys)
		}
	})
	var none *Reads
	if err := errors.Join(none.watcher(t.Context()), none.delivery(t.Context())); err != nil {
		t.Errorf("no Reads: %v", err)
	}
}

// TestReadsEndWithTheirContext: nobody waits for a place longer than he wants to.
func TestReadsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newPaced(t, 0.1).reads()
		if err := r.watcher(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := r.watcher(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("after %s: %v, want the deadline after 3s", time.Since(began), err)
		}
	})
}
