package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/results"
)

const (
	leaseLife  = 15 * time.Second
	leaseRenew = 5 * time.Second
	stuckAfter = 60 * time.Second
)

// A Loop is one job of a leader. It runs until its context ends and calls beat
// after each round that worked.
type Loop func(ctx context.Context, beat func()) error

// A Leader runs loops while it holds a lease.
type Leader struct {
	Store  *results.Store
	Lease  string // the job's name, such as "cloud:prod"
	Holder string // this process's name, unique
	Loops  []Loop
	// Fit reports whether this process may lead now. A worker that cannot see its
	// cloud is not. Nil: always.
	Fit func() bool
	// Elected is called with the lease when this process takes it over.
	Elected func(results.Lease)
	Log     zerolog.Logger
}

// Run tries for the lease until ctx ends, and gives it up then. While it has it,
// the loops run; they are stopped when it is lost, or when one of them has
// not finished a round for a minute.
func (l *Leader) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if l.fit() {
			if lease, mine := l.take(ctx); mine {
				l.lead(ctx, lease)
			}
		}
		pause(ctx, leaseRenew)
	}
	return nil
}

func (l *Leader) fit() bool { return l.Fit == nil || l.Fit() }

func (l *Leader) take(ctx context.Context) (results.Lease, bool) {
	lease, mine, err := l.Store.Lease(ctx, l.Lease, l.Holder, leaseLife)
	if err != nil && ctx.Err() == nil {
		l.Log.Warn().Err(err).Str("lease", l.Lease).Msg("lease not taken")
	}
	return lease, mine && err == nil
}

func (l *Leader) lead(ctx context.Context, lease results.Lease) {
	l.Log.Info().Str("lease", l.Lease).Int64("term", lease.Term).Msg("leading")
	if l.Elected != nil {
		l.Elected(lease)
	}
	term, stop := context.WithCancel(ctx)
	defer stop()
	hearts := make([]heart, len(l.Loops))
	var loops sync.WaitGroup
	for i, loop := range l.Loops {
		hearts[i].beat()
		loops.Go(func() {
			if err := loop(term, hearts[i].beat); err != nil && term.Err() == nil {
				l.Log.Error().Err(err).Str("lease", l.Lease).Msg("leader's loop ended")
			}
		})
	}
	l.hold(ctx, hearts)
	stop()
	loops.Wait()
	l.giveUp(context.WithoutCancel(ctx))
}

// A heart tells when a loop last finished a round.
type heart struct{ at atomic.Int64 }

func (h *heart) beat()         { h.at.Store(time.Now().UnixNano()) }
func (h *heart) stopped() bool { return time.Since(time.Unix(0, h.at.Load())) > stuckAfter }

// hold renews the lease until it is lost, given up, or ctx ends.
func (l *Leader) hold(ctx context.Context, hearts []heart) {
	for {
		pause(ctx, leaseRenew)
		if ctx.Err() != nil || !l.fit() {
			return
		}
		if anyStopped(hearts) {
			l.Log.Warn().Str("lease", l.Lease).Msg("no round finished for a minute; somebody else may try")
			return
		}
		if _, mine := l.take(ctx); !mine {
			return
		}
	}
}

func anyStopped(hearts []heart) bool {
	for i := range hearts {
		if hearts[i].stopped() {
			return true
		}
	}
	return false
}

func (l *Leader) giveUp(ctx context.Context) {
	if err := l.Store.GiveUp(ctx, l.Lease, l.Holder); err != nil {
		l.Log.Warn().Err(err).Str("lease", l.Lease).Msg("lease not given up; it runs out by itself")
	}
	l.Log.Info().Str("lease", l.Lease).Msg("no longer leading")
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
