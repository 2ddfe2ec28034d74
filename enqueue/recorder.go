package enqueue

import (
	"context"
	"fmt"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// call is one run of asynq's enqueue script that was recorded instead of sent.
type call struct {
	sha, source string
	keys        []string
	args        []any
}

// recorder stands between an asynq client and Redis and writes down what the
// client would send. asynq has no call for many tasks; this makes one out of its
// own call for one task, so that the tasks are exactly asynq's.
//
// It answers what enqueueing one task asks for, SADD and the script, and nothing
// else. It is not safe for concurrent use.
type recorder struct {
	redis.UniversalClient // nil
	sha                   string
	calls                 []call
	queues                []call // keys[0] is the set, args the members
}

// EvalSha claims not to know the script, which makes asynq show its source.
func (r *recorder) EvalSha(ctx context.Context, sha string, _ []string, _ ...any) *redis.Cmd {
	r.sha = sha
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.ErrNoScript)
	return cmd
}

// Eval records the call and answers "new".
func (r *recorder) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	r.calls = append(r.calls, call{r.sha, source, keys, args})
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}

// SAdd records the announcement of a queue.
func (r *recorder) SAdd(ctx context.Context, key string, members ...any) *redis.IntCmd {
	r.queues = append(r.queues, call{keys: []string{key}, args: members})
	return redis.NewIntCmd(ctx)
}

// record lets asynq make one call for each item.
func record(ctx context.Context, items []item) (*recorder, error) {
	rec := &recorder{calls: make([]call, 0, len(items))}
	client := asynq.NewClientFromRedisClient(rec)
	for _, it := range items {
		task := asynq.NewTaskWithHeaders(tasks.TypeRestore, it.payload, it.headers)
		if _, err := client.EnqueueContext(ctx, task, it.options()...); err != nil {
			return nil, fmt.Errorf("make task %s: %w", it.taskID, err)
		}
	}
	return rec, nil
}
