package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// QueueConfig of Serve. Redis is needed; it must be a client of its own, made
// for this, because Serve adds hooks to it.
type QueueConfig struct {
	Redis redis.UniversalClient
	// Servers is how many asynq servers poll the queues of the cloud. Default 2.
	// One server fetches one task at a time, so more of them fetch faster.
	Servers int
	// Concurrency is how many deliveries run at once in each server. Default 32.
	Concurrency int
	// Poll is how often an idle server asks Redis. Default 100 ms.
	Poll time.Duration
	// Log gets what asynq has to say. The zero value discards.
	Log zerolog.Logger
}

// Serve takes deliveries from the two queues of the worker's cloud until ctx
// ends. Then it takes no more, lets running POSTs finish and settle, and
// returns; a second end of patience is the caller's.
func Serve(ctx context.Context, w *Worker, q QueueConfig) error {
	q.defaults()
	q.Redis.AddHook(safety{})
	cloud := w.Cloud.Name()
	var servers []*asynq.Server
	defer func() {
		for _, s := range servers {
			s.Stop()
		}
		for _, s := range servers {
			s.Shutdown()
		}
	}()
	for range q.Servers {
		s := asynq.NewServerFromRedisClient(q.Redis, q.server(cloud, w.PostTimeout))
		if err := s.Start(asynq.HandlerFunc(w.handle)); err != nil {
			return fmt.Errorf("start taking from the queues of cloud %s: %w", cloud, err)
		}
		servers = append(servers, s)
	}
	<-ctx.Done()
	return nil
}

func (q *QueueConfig) defaults() {
	if q.Servers == 0 {
		q.Servers = 2
	}
	if q.Concurrency == 0 {
		q.Concurrency = 32
	}
	if q.Poll == 0 {
		q.Poll = 100 * time.Millisecond
	}
}

// server sets asynq up for deliveries that are always acknowledged: nothing is
// ever archived, and what fails because the store is away comes back soon.
func (q *QueueConfig) server(cloud string, post time.Duration) asynq.Config {
	return asynq.Config{
		Concurrency:              q.Concurrency,
		Queues:                   map[string]int{tasks.Queue(cloud): 2, tasks.IntakeQueue(cloud): 1},
		StrictPriority:           true,
		TaskCheckInterval:        q.Poll,
		DelayedTaskCheckInterval: max(time.Second, 2*q.Poll),
		ShutdownTimeout:          post + 30*time.Second,
		IsFailure:                func(error) bool { return false },
		RetryDelayFunc:           func(n int, _ error, _ *asynq.Task) time.Duration { return Backoff(n+2, 0) },
		Logger:                   asynqLog{q.Log},
		LogLevel:                 asynq.WarnLevel,
	}
}

// handle is what asynq calls. An error, only when the store is away, brings the
// message back; asynq's own retry count is not used.
func (w *Worker) handle(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	err := w.Deliver(ctx, Delivery{Queue: queue, TaskID: id, Payload: t.Payload(), Trace: t.Headers()})
	if err != nil && ctx.Err() == nil {
		w.Log.Warn().Err(err).Str("queue", queue).Str("task", id).Msg("delivery comes again")
	}
	return err
}

// safety repairs two things in asynq 0.26: its retry of a completion whose first
// try failed runs on a context that is already cancelled, so the finished task
// would run again; and its dequeue loop spins on instant errors.
type safety struct{}

func (safety) DialHook(next redis.DialHook) redis.DialHook { return next }

func (safety) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(context.WithoutCancel(ctx), cmd)
		if err != nil && !errors.Is(err, redis.Nil) && !isReply(err) && cmd.Name() != "hello" { // hello is said with a lock held
			time.Sleep(errorPause)
		}
		return err
	}
}

func (safety) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

const errorPause = 200 * time.Millisecond

// isReply: an answer of asynq's own scripts, not a sign of trouble.
func isReply(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "NOSCRIPT") || strings.HasPrefix(text, "NOT FOUND") || strings.HasPrefix(text, "INTERNAL")
}

// asynqLog hands asynq's lines to zerolog. Its Fatal does not exit.
type asynqLog struct{ log zerolog.Logger }

func (a asynqLog) Debug(args ...any) { a.log.Debug().Msg(text(args)) }
func (a asynqLog) Info(args ...any)  { a.log.Info().Msg(text(args)) }
func (a asynqLog) Warn(args ...any)  { a.log.Warn().Msg(text(args)) }
func (a asynqLog) Error(args ...any) { a.log.Error().Msg(text(args)) }
func (a asynqLog) Fatal(args ...any) { a.log.Error().Msg(text(args)) }

func text(args []any) string { return "asynq: " + strings.TrimSpace(fmt.Sprint(args...)) }
