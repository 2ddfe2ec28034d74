package enqueue

import (
	"context"
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// The recorder relies on what asynq's client sends. This test fails if a new
// asynq sends anything else.
func TestRecorderLeavesWhatAsynqItselfLeaves(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		r := newRestores(1)[0]
		r.ID = firstID
		r.Trace = map[string]string{"traceparent": "00-aa-bb-01"}
		rs := []tasks.Restore{r}
		normalize(rs)
		items, err := prepare(rs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(s.rdb, Options{}).send(t.Context(), items); err != nil {
			t.Fatal(err)
		}
		ours := dump(t, s)
		if err := s.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		task := asynq.NewTaskWithHeaders(tasks.TypeRestore, items[0].payload, items[0].headers)
		client := asynq.NewClientFromRedisClient(s.rdb)
		if _, err := client.EnqueueContext(t.Context(), task, items[0].options()...); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(dump(t, s), ours); diff != "" || len(ours) != 3 {
			t.Errorf("%d keys, want 3 (-asynq +recorder):\n%s", len(ours), diff)
		}
	})
}

// dump returns all keys and values but times.
func dump(t *testing.T, s server) map[string]any {
	t.Helper()
	keys, err := s.rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for _, k := range keys {
		all[k] = value(t, s, k)
	}
	return all
}

func value(t *testing.T, s server, key string) any {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	switch kind := s.rdb.Type(ctx, key).Val(); kind {
	case "hash":
		h := s.rdb.HGetAll(ctx, key).Val()
		if h["pending_since"] == "" {
			t.Errorf("%s has no pending_since: %v", key, h)
		}
		delete(h, "pending_since")
		return h
	case "list":
		return s.rdb.LRange(ctx, key, 0, -1).Val()
	case "set":
		return s.rdb.SMembers(ctx, key).Val()
	default:
		t.Errorf("%s is a %s", key, kind)
		return nil
	}
}

func BenchmarkRestores(b *testing.B) {
	client := benchClient(b)
	const n = 10_000
	for b.Loop() {
		b.StopTimer()
		rs := newRestores(n)
		b.StartTimer()
		if _, err := client.Restores(b.Context(), rs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "restores/s")
}

func BenchmarkOneByOne(b *testing.B) {
	client := benchClient(b)
	r := newRestores(1)[0]
	for b.Loop() {
		if _, err := client.Restore(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "restores/s")
}

func benchClient(b *testing.B) *Client {
	b.Helper()
	rdb, err := Connect(RedisOptions{URL: "unix://" + startRedis(b).socket})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { rdb.Close() })
	return New(rdb, Options{})
}

func TestStageLosesAnswers(t *testing.T) {
	m := miniredis.RunT(t)
	s := newServer(t, func() (net.Conn, error) { return net.Dial("tcp", m.Addr()) })
	s.line.Lose(1000, 0)
	if err := s.rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("the answer was not lost")
	}
}
