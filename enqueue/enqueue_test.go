package enqueue

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestRestoreReachesTheIntakeQueue(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		r := newRestores(1)[0]
		r.ID, r.NotBefore = firstID, time.Now().Add(time.Hour)
		r.Trace = map[string]string{"traceparent": "00-aa-bb-01", "tracestate": strings.Repeat("x", 513), "baggage": "b"}
		receipt, err := New(s.rdb, Options{}).Restore(t.Context(), r)
		if want := (Receipt{ID: firstID, Queue: "prod:in"}); err != nil || receipt != want {
			t.Fatalf("got %+v, %v; want %+v", receipt, err, want)
		}
		info := s.pending(t, "prod:in")[0]
		if info.ID != firstID || info.Type != "vbs:restore" || info.MaxRetry != 1<<20 || info.Timeout != 5*time.Minute || info.Retention != 0 {
			t.Errorf("task %+v", info)
		}
		if diff := cmp.Diff(map[string]string{"traceparent": "00-aa-bb-01"}, info.Headers); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		m, err := tasks.Decode(info.Payload)
		if err != nil || m.Restore.VolumeID != r.VolumeID || !m.Restore.NotBefore.Equal(r.NotBefore.Truncate(time.Microsecond)) {
			t.Errorf("message %+v, %v", m.Restore, err)
		}
	})
}

func TestAskingAgainDoublesNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{Batch: 7})
		rs := newRestores(20)
		if _, err := client.Restores(t.Context(), rs[:10]); err != nil {
			t.Fatal(err)
		}
		receipts, err := client.Restores(t.Context(), rs)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range receipts {
			if r != (Receipt{ID: rs[i].ID, Queue: "prod:in", Existed: i < 10}) {
				t.Errorf("receipt %d: %+v", i, r)
			}
		}
		var got, want []string
		for _, info := range s.pending(t, "prod:in") {
			got = append(got, info.ID)
		}
		for _, r := range rs {
			want = append(want, r.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("queue (-want +got):\n%s", diff)
		}
	})
}

func TestLostAnswersDoubleNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{Batch: 50})
		rs := newRestores(201)
		if _, err := client.Restore(t.Context(), rs[200]); err != nil { // warms the line up
			t.Fatal(err)
		}
		s.line.Lose(1, 1)
		receipts, err := client.Restores(t.Context(), rs[:200])
		if err != nil {
			t.Fatal(err)
		}
		again := slices.IndexFunc(receipts, func(r Receipt) bool { return r.Existed })
		if again < 0 || slices.ContainsFunc(receipts, func(r Receipt) bool { return r.Queue == "" }) {
			t.Errorf("no answer was lost, or a receipt is missing: %+v", receipts)
		}
		if n := len(s.pending(t, "prod:in")); n != 201 {
			t.Errorf("%d tasks, want 201", n)
		}
	})
}

func TestLostAnswerToOneRestoreIsASuccess(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{})
		rs := newRestores(2)
		if _, err := client.Restore(t.Context(), rs[0]); err != nil {
			t.Fatal(err)
		}
		s.line.Lose(1, 0)
		receipt, err := client.Restore(t.Context(), rs[1])
		if err != nil || !receipt.Existed || receipt.Queue != "prod:in" {
			t.Errorf("got %+v, %v", receipt, err)
		}
		if n := len(s.pending(t, "prod:in")); n != 2 {
			t.Errorf("%d tasks, want 2", n)
		}
	})
}

func TestBrokenLineLeavesReceiptsToGoOnWith(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{Batch: 10})
		rs := newRestores(30)
		_, err := client.Restores(t.Context(), rs[:10])
		if err != nil {
			t.Fatal(err)
		}
		s.line.Lose(1000, 0)
		receipts, err := client.Restores(t.Context(), rs)
		if err == nil || !strings.Contains(err.Error(), "redis has confirmed 0 of 30") || receipts[29] != (Receipt{ID: rs[29].ID}) {
			t.Errorf("got %v, last receipt %+v", err, receipts[29])
		}
		one, err := client.Restore(t.Context(), rs[0])
		if err == nil || one != (Receipt{ID: rs[0].ID}) {
			t.Errorf("got %+v, %v", one, err)
		}
		s.line.Lose(0, 0)
		if _, err := client.Restores(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		if n := len(s.pending(t, "prod:in")); n != 30 {
			t.Errorf("%d tasks, want 30", n)
		}
	})
}

func TestNothingIsSentUnlessAllIsValid(t *testing.T) {
	rdb, err := Connect(RedisOptions{Dialer: func(context.Context, string, string) (net.Conn, error) {
		t.Error("Redis was called")
		return nil, net.ErrClosed
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	client := New(rdb, Options{})

	rs := newRestores(40)
	rs[3].VolumeID = "vdb"
	rs[5].ID, rs[7].ID = firstID, firstID
	_, err = client.Restores(t.Context(), rs)
	var field *tasks.FieldError
	if !errors.As(err, &field) || field.Field != "volume_id" ||
		!strings.Contains(err.Error(), "restore 3: volume_id: ") || !strings.Contains(err.Error(), "restore 7: id: ") {
		t.Errorf("got %v", err)
	}
	if _, err := client.Restores(t.Context(), make([]tasks.Restore, 1000)); strings.Count(err.Error(), "volume_id") != maxProblems {
		t.Errorf("not %d problems: %v", maxProblems, err)
	}
	if _, err := client.Restore(t.Context(), tasks.Restore{}); !errors.As(err, &field) {
		t.Errorf("got %v", err)
	}
	if err := client.Wake(t.Context(), "prod", []tasks.Wake{{ID: firstID}}); !errors.As(err, &field) || field.Field != "generation" {
		t.Errorf("got %v", err)
	}
	if err := client.Wake(t.Context(), "", []tasks.Wake{{ID: firstID, Generation: 1}}); err == nil {
		t.Error("a wake-up of no cloud was accepted")
	}
}

func TestTwinsThatAgreeAreOne(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		rs := append(newRestores(1), newRestores(1)...)
		rs[0].ID, rs[1].ID = firstID, firstID
		receipts, err := New(s.rdb, Options{}).Restores(t.Context(), rs)
		if err != nil || receipts[0].Existed || !receipts[1].Existed {
			t.Errorf("got %+v, %v", receipts, err)
		}
	})
}

func TestWakeGoesAheadOfProducers(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{})
		wakes := []tasks.Wake{{ID: firstID, Generation: 1}, {ID: firstID, Generation: 2}}
		for range 2 {
			if err := client.Wake(t.Context(), "prod", wakes); err != nil {
				t.Fatal(err)
			}
		}
		infos := s.pending(t, "prod")
		if len(infos) != 2 || infos[0].ID != firstID+":1" || infos[1].ID != firstID+":2" {
			t.Fatalf("tasks %+v", infos)
		}
		m, err := tasks.Decode(infos[1].Payload)
		if diff := cmp.Diff(&wakes[1], m.Wake); err != nil || diff != "" {
			t.Errorf("error %v, wake-up (-want +got):\n%s", err, diff)
		}
	})
}

func TestFlushedRedisIsToldTheQueuesAgain(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		client := New(s.rdb, Options{})
		for range 2 {
			rs := newRestores(2)
			rs[1].Cloud = "other"
			if _, err := client.Restores(t.Context(), rs); err != nil {
				t.Fatal(err)
			}
			queues, err := asynq.NewInspectorFromRedisClient(s.rdb).Queues()
			slices.Sort(queues)
			if diff := cmp.Diff([]string{"other:in", "prod:in"}, queues); err != nil || diff != "" {
				t.Errorf("error %v, queues (-want +got):\n%s", err, diff)
			}
			if err := s.rdb.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// pipelines lets a test meddle with every pipeline.
type pipelines func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error

func (pipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (p pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "hello" {
			return next(ctx, cmds)
		}
		return p(ctx, cmds, next)
	}
}

func TestScriptLostInTheMiddleIsTaughtAgain(t *testing.T) {
	for flushes, want := range map[int]string{2: "", 3: "NOSCRIPT"} {
		eachServer(t, func(t *testing.T, s server) {
			left := flushes
			s.rdb.AddHook(pipelines(func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
				if left > 0 {
					left--
					cmds = slices.Insert(slices.Clone(cmds), 3, redis.Cmder(redis.NewStatusCmd(ctx, "script", "flush")))
				}
				return next(ctx, cmds)
			}))
			receipts, err := New(s.rdb, Options{}).Restores(t.Context(), newRestores(20))
			if want == "" {
				if err != nil || slices.ContainsFunc(receipts, func(r Receipt) bool { return r.Queue == "" || r.Existed }) {
					t.Errorf("got %+v, %v", receipts, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func TestCancelledCallStopsAfterTheRunningBatch(t *testing.T) {
	eachServer(t, func(t *testing.T, s server) {
		ctx, cancel := context.WithCancel(t.Context())
		s.rdb.AddHook(pipelines(func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
			defer cancel()
			return next(ctx, cmds)
		}))
		receipts, err := New(s.rdb, Options{Batch: 4}).Restores(ctx, newRestores(10))
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "redis has confirmed 4 of 10") {
			t.Errorf("got %v", err)
		}
		for i, r := range receipts {
			if (r.Queue != "") != (i < 4) {
				t.Errorf("receipt %d: %+v", i, r)
			}
		}
	})
}
