package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/worker"
)

// late lets the next restore POST be executed at once and answered d later.
func (w *world) late(d time.Duration) {
	w.cloud.Script("POST restore", simulator.Fault{Kind: simulator.Late, After: d})
}

// posted waits until a restore POST has reached the cloud.
func (w *world) posted() {
	w.t.Helper()
	for range 600 {
		if w.cloud.Calls()["POST restore"] > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatal("no restore POST within a minute")
}

// messages are the tasks that the queues still hold, in whatever state.
func (w *world) messages() (keys []string) {
	for _, k := range w.redis.Keys() {
		if strings.HasPrefix(k, "asynq:{") && strings.Contains(k, "}:t:") {
			keys = append(keys, k)
		}
	}
	return keys
}

// once checks that one delivery did the work, and that no message is left over.
func (w *world) once(id string) {
	w.t.Helper()
	row := w.want(id, results.Succeeded, 1)
	if calls := w.cloud.Calls()["POST restore"]; row.Attempt != 1 || calls != 1 {
		w.t.Errorf("%d attempts and %d POSTs, want one\n%s", row.Attempt, calls, w.story(id))
	}
	time.Sleep(3 * time.Minute)
	if left := w.messages(); len(left) != 0 {
		w.t.Errorf("the queues still hold %v", left)
	}
}

// TestBlipAtCompletion: Redis goes away just when the delivery wants to say that
// it is done, for less and for more than a lease.
func TestBlipAtCompletion(t *testing.T) {
	for _, lasting := range []time.Duration{4 * time.Second, 40 * time.Second} {
		t.Run(lasting.String(), func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				w.late(10 * time.Second)
				p := w.start()
				id := w.ask(w.cloud.Pairs()[0])
				w.posted()
				time.Sleep(9800 * time.Millisecond)
				p.link.cutOff()
				time.Sleep(lasting)
				p.link.heal()
				w.once(id)
			})
		})
	}
}

// TestBlipAtCompletionIsOneDelivery: asynq gives up a completion whose first try
// failed, and the finished message would come again; ours is completed later. A
// blip longer than the lease brings it again, and finds nothing to do.
func TestBlipAtCompletionIsOneDelivery(t *testing.T) {
	for lasting, most := range map[time.Duration]int64{500 * time.Millisecond: 1, 15 * time.Second: 1, 40 * time.Second: 2} {
		t.Run(lasting.String(), func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				w.late(10 * time.Second)
				l := w.lone(t)
				defer l.end()
				id := w.ask(w.cloud.Pairs()[0])
				w.posted()
				time.Sleep(9800 * time.Millisecond)
				l.link.cutOff()
				time.Sleep(lasting)
				l.link.heal()
				time.Sleep(4 * time.Minute)
				if n := l.count.delivered.Load(); n < 1 || n > most {
					t.Errorf("delivered %d times, want at most %d", n, most)
				}
				if row := w.until(id, time.Second, results.Restoring); row.Attempt != 1 || w.cloud.Calls()["POST restore"] != 1 {
					t.Errorf("%d attempts, calls %v, want one POST", row.Attempt, w.cloud.Calls())
				}
			})
		})
	}
}

// TestPartitionDuringThePOST: a worker is cut off from Redis while its POST runs,
// its lease ends and another gets the message. The state in the store stops it.
func TestPartitionDuringThePOST(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		w.late(50 * time.Second)
		a := w.start()
		id := w.ask(w.cloud.Pairs()[0])
		w.posted()
		w.start()
		a.link.cutOff()
		time.Sleep(5 * time.Minute)
		a.link.heal()
		w.once(id)
		attempts, err := w.store.Attempts(t.Context(), id)
		must(t, err)
		if got := attempts[0]; got.AnsweredAt.IsZero() || got.Answer.Status != http.StatusAccepted {
			t.Errorf("the answer to the POST is %+v, want its 202 in spite of the lost lease", got.Answer)
		}
	})
}

// TestCrashDuringThePOST: kill -9 while the POST runs. Its answer is lost, the
// message comes again, and the restore is found running.
func TestCrashDuringThePOST(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		w.late(20 * time.Second)
		a := w.start()
		id := w.ask(w.cloud.Pairs()[0])
		w.posted()
		time.Sleep(time.Second)
		a.kill()
		w.start()
		w.once(id)
	})
}

// TestShutdownWaitsForTheRunningPOST: SIGTERM in mid-POST takes nothing new, and
// ends only when the answer is stored.
func TestShutdownWaitsForTheRunningPOST(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		w.late(40 * time.Second)
		a := w.start()
		id := w.ask(w.cloud.Pairs()[0])
		w.posted()
		began := time.Now()
		a.stop()
		other := w.ask(w.cloud.Pairs()[1])
		<-a.gone
		if took := time.Since(began); took < 39*time.Second || took > 50*time.Second {
			t.Errorf("the shutdown took %s, want that of the answer", took)
		}
		row, err := w.store.Get(t.Context(), id)
		must(t, err)
		if row.State != results.Restoring || !row.Accepted || row.SettledAt.IsZero() {
			t.Errorf("after the shutdown the restore is %s, accepted %v\n%s", row.State, row.Accepted, w.story(id))
		}
		if row, err := w.store.Get(t.Context(), other); err == nil && row.Attempt > 0 {
			t.Errorf("during the shutdown another restore was sent")
		}
		w.start()
		if row := w.want(id, results.Succeeded, 1); row.Attempt != 1 {
			t.Errorf("%d attempts, want one", row.Attempt)
		}
		w.want(other, results.Succeeded, 1)
	})
}

// A lone server is Serve without watcher and dispatcher, on a store that can be
// taken away and a Redis whose commands are counted.
type lone struct {
	world *world
	store *power
	link  *link
	count *commandCount
	end   func()
}

func (w *world) lone(t *testing.T) *lone {
	l := &lone{world: w, store: newPower(), link: &link{redis: w.redis}, count: &commandCount{}}
	l.store.link = &link{redis: w.redis}
	ctx, cancel := context.WithCancel(t.Context())
	store, err := results.Open(ctx, w.url, results.Options{Unsynced: true, MustExist: true, Wrap: l.store.wrap})
	must(t, err)
	client, err := w.open(ctx, w.cloud)
	must(t, err)
	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: "redis://127.0.0.1:6379", Dialer: l.link.dial})
	must(t, err)
	rdb.AddHook(l.count)
	one, err := worker.New(ctx, worker.Config{Name: "lone", Store: store, Cloud: client, Log: w.log})
	must(t, err)
	served := make(chan error)
	go func() {
		served <- worker.Serve(ctx, one, worker.QueueConfig{Redis: rdb, Servers: 1, Concurrency: 4, Poll: time.Second, Log: zerolog.Nop()})
	}()
	l.end = func() {
		cancel()
		must(t, <-served)
		rdb.Close()
		must(t, store.Close())
	}
	return l
}

// away takes the store away, or gives it back.
func (l *lone) away(gone bool) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.store.dead = gone
}

// A commandCount counts commands, and the messages that they delivered. A loop
// without a pause is slowed down, as virtual time would stand still for it.
type commandCount struct{ n, delivered atomic.Int64 }

func (*commandCount) DialHook(n redis.DialHook) redis.DialHook { return n }
func (c *commandCount) ProcessHook(n redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if c.n.Add(1) > 10_000 {
			time.Sleep(time.Second)
		}
		err := n(ctx, cmd)
		if err == nil && isDequeue(cmd.Args()) {
			c.delivered.Add(1)
		}
		return err
	}
}

// isDequeue recognises asynq's script that takes a message: its first key is the
// list of pending ones. It gives nil, an error of go-redis, when there is none.
func isDequeue(args []any) bool {
	if len(args) < 4 || !strings.HasPrefix(fmt.Sprint(args[0]), "eval") {
		return false
	}
	return strings.HasSuffix(fmt.Sprint(args[3]), "}:pending")
}

func (*commandCount) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return n
}

// TestStoreAway: without the store nothing may be done and nothing be lost: the
// message comes again until it is recorded.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		l := w.lone(t)
		defer l.end()
		l.away(true)
		id := w.ask(w.cloud.Pairs()[0])
		time.Sleep(3 * time.Minute)
		if n := w.cloud.Calls()["POST restore"]; n != 0 || len(w.messages()) != 1 {
			t.Errorf("without a store: %d POSTs, messages %v, want none and the one", n, w.messages())
		}
		l.away(false)
		row := w.until(id, 5*time.Minute, results.Restoring)
		if row.Attempt != 1 || len(w.executions(id)) != 1 {
			t.Errorf("%d attempts, %d executions, want one\n%s", row.Attempt, len(w.executions(id)), w.story(id))
		}
		time.Sleep(time.Minute)
		if left := w.messages(); len(left) != 0 {
			t.Errorf("the queues still hold %v", left)
		}
	})
}

// TestRedisRefusingEverythingDoesNotSpin: instant errors are met with patience.
func TestRedisRefusingEverythingDoesNotSpin(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		l := w.lone(t)
		defer l.end()
		time.Sleep(5 * time.Second)
		w.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
		before := l.count.n.Load()
		time.Sleep(20 * time.Second)
		w.redis.SetError("")
		if n := l.count.n.Load() - before; n > 800 { // 5 a second for each of asynq's few loops
			t.Errorf("%d commands in 20 s to a Redis that refuses everything", n)
		}
		id := w.ask(w.cloud.Pairs()[0])
		w.until(id, time.Minute, results.Restoring)
	})
}

// TestMessagesThatAreNone: what cannot be read is kept with the reason, once, and
// does not come again.
func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		l := w.lone(t)
		defer l.end()
		r := w.request(w.cloud.Pairs()[0])
		r.Cloud = "elsewhere"
		wake, err := tasks.EncodeWake(tasks.Wake{ID: tasks.NewID(), Generation: 3})
		must(t, err)
		foreign, err := tasks.EncodeRestore(r)
		must(t, err)
		producer := asynq.NewClientFromRedisClient(w.rdb)
		for _, payload := range [][]byte{nil, []byte("\x00\xff"), []byte("[]"), []byte(`{"v":99}`), foreign, wake} {
			_, err := producer.Enqueue(asynq.NewTask(tasks.TypeRestore, payload), asynq.Queue(tasks.IntakeQueue(cloudName)))
			must(t, err)
		}
		time.Sleep(2 * time.Minute)
		kept, err := w.store.Rejections(t.Context(), results.Page{}, 100)
		must(t, err)
		if len(kept) != 6 {
			t.Errorf("%d of 6 messages were kept: %+v", len(kept), kept)
		}
		for _, k := range kept {
			if k.Reason == "" || k.TaskID == "" {
				t.Errorf("kept without a reason: %+v", k)
			}
		}
		if left := w.messages(); len(left) != 0 {
			t.Errorf("the queues still hold %v", left)
		}
	})
}
