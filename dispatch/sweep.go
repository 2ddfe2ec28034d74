package dispatch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const sweepEvery = time.Minute

// A Sweeper alarms when requests wait in a queue that no worker of this store
// serves: a misspelt cloud, or a worker that was forgotten. They are not lost.
type Sweeper struct {
	Store *results.Store
	Queue *enqueue.Client
	// Log gets one line when such a queue is found and one when it is served or empty.
	Log zerolog.Logger

	alarmed map[string]bool
}

// Run sweeps once a minute until ctx ends. While Redis is away there is nothing to
// find; that is no reason to give a lease up.
func (s *Sweeper) Run(ctx context.Context, beat func()) error {
	for ctx.Err() == nil {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Debug().Err(err).Msg("sweep queues")
		}
		beat()
		pause(ctx, sweepEvery/2) // a minute without a beat would cost the lease
		beat()
		pause(ctx, sweepEvery/2)
	}
	return nil
}

func (s *Sweeper) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	pending, err := s.Queue.Pending(ctx)
	if err != nil {
		return err
	}
	served, err := s.served(ctx)
	if err != nil {
		return err
	}
	if s.alarmed == nil {
		s.alarmed = map[string]bool{}
	}
	for queue, n := range pending {
		cloud, ours := cloudOf(queue)
		if !ours {
			continue
		}
		if err := s.tell(ctx, queue, cloud, n, n > 0 && !served[cloud]); err != nil {
			return err
		}
	}
	return nil
}

// cloudOf is the cloud whose producers write into a queue.
func cloudOf(queue string) (cloud string, ours bool) {
	cloud, _, ours = strings.Cut(queue, ":")
	return cloud, ours && tasks.IntakeQueue(cloud) == queue
}

func (s *Sweeper) served(ctx context.Context) (map[string]bool, error) {
	leases, err := s.Store.Leases(ctx)
	served := map[string]bool{}
	for _, l := range leases {
		if cloud, ok := strings.CutPrefix(l.Name, "cloud:"); ok && l.ExpiresAt.After(s.Store.Now()) {
			served[cloud] = true
		}
	}
	return served, err
}

func (s *Sweeper) tell(ctx context.Context, queue, cloud string, n int64, unserved bool) error {
	if unserved == s.alarmed[queue] {
		return nil
	}
	s.alarmed[queue] = unserved
	if !unserved {
		s.Log.Info().Str("queue", queue).Msg("queue is served or empty again")
		return nil
	}
	reason := fmt.Sprintf("%d requests wait in queue %s, and no worker of this store serves cloud %s", n, queue, cloud)
	s.Log.Error().Str("queue", queue).Str("cloud", cloud).Int64("pending", n).Msg("requests wait for a cloud that no worker serves")
	return s.Store.Alarm(ctx, cloud, "nobody serves", reason)
}
