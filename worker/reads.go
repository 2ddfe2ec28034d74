package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/vbsrestore/vbsrestore/results"
)

// watcherShare of the read rate is kept free for the watcher: a running restore
// is looked at before a new one is begun.
const watcherShare = 0.1

// Reads paces the GETs of all workers of a cloud, counted in Redis. While Redis
// cannot be asked each process counts for itself: deliveries come through Redis
// too, so only the one watcher is left to read then.
type Reads struct {
	limiter *redis_rate.Limiter
	store   *results.Store
	cloud   string

	mu    sync.Mutex
	rate  float64
	until time.Time // the rate is read from the store again then
	local *rate.Limiter
	alone time.Time // until then Redis is not asked: it did not answer
}

// NewReads paces by the read rate that the cloud's row in the store has.
func NewReads(rdb redis.UniversalClient, store *results.Store, cloud string) *Reads {
	return &Reads{limiter: redis_rate.NewLimiter(rdb), store: store, cloud: cloud, local: rate.NewLimiter(rate.Inf, 1)}
}

// watcher waits for a place for one GET of the watcher.
func (r *Reads) watcher(ctx context.Context) error {
	return r.wait(ctx, "watch", 1)
}

// delivery waits for a place for one GET of a delivery.
func (r *Reads) delivery(ctx context.Context) error {
	if r == nil {
		return nil
	}
	if err := r.wait(ctx, "deliver", 1-watcherShare); err != nil {
		return err
	}
	return r.wait(ctx, "watch", 1)
}

func (r *Reads) wait(ctx context.Context, key string, share float64) error {
	if r == nil {
		return nil
	}
	limit := r.limit(ctx) * share
	for limit > 0 {
		delay := r.ask(ctx, key, limit)
		if delay <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
	return nil
}

// ask takes a place and returns 0, or how long to wait before asking again.
func (r *Reads) ask(ctx context.Context, key string, perSecond float64) time.Duration {
	ms := max(1, int(math.Round(1000/perSecond)))
	limit := redis_rate.Limit{Rate: 1, Period: time.Duration(ms) * time.Millisecond, Burst: max(1, int(perSecond))}
	if r.isAlone() {
		return r.askLocally(perSecond)
	}
	short, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	res, err := r.limiter.Allow(short, "vbsrestore:reads:"+r.cloud+":"+key, limit)
	if err != nil {
		r.goAlone()
		return r.askLocally(perSecond)
	}
	if res.Allowed > 0 {
		return 0
	}
	return max(res.RetryAfter, time.Millisecond)
}

const (
	redisPatience = 300 * time.Millisecond // a GET never waits longer for Redis
	aloneFor      = 5 * time.Second
)

func (r *Reads) isAlone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.alone)
}

func (r *Reads) goAlone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone = time.Now().Add(aloneFor)
}

func (r *Reads) askLocally(perSecond float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local.SetLimit(rate.Limit(perSecond))
	place := r.local.Reserve()
	if delay := place.Delay(); delay > 0 {
		place.Cancel()
		return delay
	}
	return 0
}

func (r *Reads) limit(ctx context.Context) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.until) {
		if c, err := r.store.Cloud(ctx, r.cloud); err == nil {
			r.rate, r.until = c.ReadRate, time.Now().Add(time.Second)
		}
	}
	return r.rate
}
