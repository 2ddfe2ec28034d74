package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/worker"
)

const (
	numberEvery = time.Second
	numberMost  = 1000
	showEvery   = 30 * time.Second

	showPatience = 5 * time.Second
)

// cloudLeader does what one worker does for all that serve a cloud: it watches
// restores that run, releases those whose turn it is, and tends the cloud.
// lost is called if Redis turns out to be another store's by now.
func cloudLeader(w *worker.Worker, rdb redis.UniversalClient, lost func(error)) *dispatch.Leader {
	term := &shownTerm{rdb: rdb, store: w.Store, lost: lost}
	d := &dispatch.Dispatcher{Store: w.Store, Queue: enqueue.New(rdb, enqueue.Options{}), Cloud: w.Cloud.Name(), Log: w.Log}
	return &dispatch.Leader{Store: w.Store, Lease: "cloud:" + w.Cloud.Name(), Holder: w.Name, Log: w.Log,
		Fit: w.Healthy, Elected: term.elected,
		Loops: []dispatch.Loop{worker.NewWatcher(w).Run, d.Run, w.Tend, term.run}}
}

// mainLeader does what concerns no single cloud: it numbers the events, and looks
// for queues that nobody serves.
func mainLeader(store *results.Store, name string, rdb redis.UniversalClient, log zerolog.Logger, lost func(error)) *dispatch.Leader {
	term := &shownTerm{rdb: rdb, store: store, lost: lost}
	return &dispatch.Leader{Store: store, Lease: "main", Holder: name, Log: log, Elected: term.elected,
		Loops: []dispatch.Loop{numberEvents(store, log), (&dispatch.Sweeper{Store: store, Queue: enqueue.New(rdb, enqueue.Options{}), Log: log}).Run, term.run}}
}

func numberEvents(store *results.Store, log zerolog.Logger) dispatch.Loop {
	return func(ctx context.Context, beat func()) error {
		for {
			n, err := store.NumberEvents(ctx, numberMost)
			if err == nil {
				beat()
			} else if ctx.Err() == nil {
				log.Debug().Err(err).Msg("number events")
			}
			if n == numberMost && err == nil {
				continue
			}
			if !pause(ctx, numberEvery) {
				return nil
			}
		}
	}
}

// shownTerm keeps the leader's term in Redis, also after Redis was away or
// flushed: with it a store that lost commits is recognised.
type shownTerm struct {
	rdb   redis.UniversalClient
	store *results.Store
	lost  func(error)
	term  atomic.Int64
}

func (s *shownTerm) elected(l results.Lease) { s.term.Store(l.Term) }

func (s *shownTerm) run(ctx context.Context, beat func()) error {
	for {
		// Other errors pass: it is shown again soon, and asynq tells that Redis is away.
		if err := s.show(ctx); errors.Is(err, worker.ErrOtherStore) {
			s.lost(err)
		}
		beat()
		if !pause(ctx, showEvery) {
			return nil
		}
	}
}

// show survives the end of a very short term, which was one all the same.
func (s *shownTerm) show(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showPatience)
	defer cancel()
	return worker.ShowTerm(ctx, s.rdb, s.store, s.term.Load())
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
