// Package enqueuetest tests programs that ask for restores: it is a Redis in the
// test's own process, and a look at what was asked for.
//
//	func TestRollbackAsksForTheNewestBackup(t *testing.T) {
//		queue := enqueuetest.New(t)
//		rollback(t.Context(), queue.Client(), "db-1") // your code
//		got := queue.Restores(t)
//		if len(got) != 1 || got[0].BackupID != newest {
//			t.Errorf("asked for %+v", got)
//		}
//	}
//
// Nothing restores anything here, and nothing takes the requests off the queue.
// There are no sockets, so it works inside a testing/synctest bubble too.
package enqueuetest

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	// patience is how long WaitFor waits.
	patience = 10 * time.Second
	// everything is more than a test asks for.
	everything = 1_000_000
)

// Redis is a Redis for one test. Its methods may be used by several goroutines,
// but those that take a t only where t.Fatal may be called.
type Redis struct {
	rdb redis.UniversalClient
}

// New returns an empty Redis that ends with the test.
func New(t testing.TB) *Redis {
	t.Helper()
	server := miniredis.NewMiniRedis()
	t.Cleanup(server.Close)
	rdb, err := enqueue.Connect(enqueue.RedisOptions{
		Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
	})
	if err != nil {
		t.Fatalf("connect to the test's redis: %v", err)
	}
	t.Cleanup(func() { rdb.Close() })
	return &Redis{rdb}
}

// Client returns a client for the code under test. It has the default options.
func (r *Redis) Client() *enqueue.Client { return enqueue.New(r.rdb, enqueue.Options{}) }

// Restores returns what was asked for so far: cloud by cloud in the order of
// their names, and within a cloud in the order of asking. A message that a worker
// would not accept fails the test.
func (r *Redis) Restores(t testing.TB) []tasks.Restore {
	t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(r.rdb)
	queues, err := inspector.Queues()
	if err != nil {
		t.Fatalf("list the queues: %v", err)
	}
	slices.Sort(queues)
	var restores []tasks.Restore
	for _, q := range queues {
		if !strings.HasSuffix(q, tasks.IntakeQueue("")) {
			continue
		}
		infos, err := inspector.ListPendingTasks(q, asynq.PageSize(everything))
		if err != nil {
			t.Fatalf("list the tasks of queue %s: %v", q, err)
		}
		for _, info := range infos {
			restores = append(restores, decode(t, info))
		}
	}
	return restores
}

func decode(t testing.TB, info *asynq.TaskInfo) tasks.Restore {
	t.Helper()
	m, err := tasks.Decode(info.Payload)
	if err != nil {
		t.Fatalf("task %s on queue %s: %v", info.ID, info.Queue, err)
	}
	if m.Restore == nil {
		t.Fatalf("task %s on queue %s is not a producer's", info.ID, info.Queue)
	}
	m.Restore.Trace = info.Headers
	return *m.Restore
}

// WaitFor waits until at least n restores have been asked for and returns them as
// [Redis.Restores] does. It fails the test after 10 s.
func (r *Redis) WaitFor(t testing.TB, n int) []tasks.Restore {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	end := time.After(patience)
	for {
		got := r.Restores(t)
		if len(got) >= n {
			return got
		}
		select {
		case <-look.C:
		case <-end:
			t.Fatalf("waited %v for %d restores, got %d", patience, n, len(got))
		}
	}
}
