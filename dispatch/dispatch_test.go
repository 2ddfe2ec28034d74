package dispatch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	cloud = "prod"
	grown = 3 * time.Second  // old enough to be released: the delivery of a row just recorded has had its chance
	again = 15 * time.Second // a wake-up that nobody followed is sent again
	round = 500 * time.Millisecond
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	goleak.VerifyTestMain(m)
}

// silent drops what go-redis says of connections that the tests cut on purpose.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// A stage is a store with one cloud, a Redis, and the way to it.
type stage struct {
	t     *testing.T
	store *results.Store
	link  *link                 // the dispatcher's way to Redis
	queue *enqueue.Client       // the dispatcher's
	look  redis.UniversalClient // the test's own view, never cut
	log   logbook
	beats atomic.Int64
}

// onStage runs a test in virtual time with a cloud that has neither cap nor pace.
func onStage(t *testing.T, run func(t *testing.T, s *stage)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		t.Cleanup(server.Close)
		s := &stage{t: t, store: open(t, newURL(t)), link: &link{redis: server}}
		s.queue = enqueue.New(connect(t, s.link), enqueue.Options{})
		s.look = connect(t, &link{redis: server})
		must(t)(s.store.EnsureCloud(t.Context(), cloud))
		must(t)(s.store.SetCloud(t.Context(), cloud, "test", "no limits", results.CloudSettings{Cap: new(0), Rate: new(0.0)}))
		run(t, s)
	})
}

func newURL(t *testing.T) string { return "sqlite://" + filepath.Join(t.TempDir(), "store.db") }

func open(t *testing.T, url string) *results.Store {
	t.Helper()
	s, err := results.Open(t.Context(), url, results.Options{Unsynced: true})
	must(t)(s, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func connect(t *testing.T, l *link) redis.UniversalClient {
	t.Helper()
	c, err := enqueue.Connect(enqueue.RedisOptions{Dialer: l.dial})
	must(t)(c, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// must ends the test on the error of a call with two results.
func must(t *testing.T) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dispatcher releases for the stage's cloud.
func (s *stage) dispatcher() *dispatch.Dispatcher {
	return &dispatch.Dispatcher{Store: s.store, Queue: s.queue, Cloud: cloud, Log: zerolog.New(&s.log)}
}

// run starts a dispatcher; it ends with stop, or with the test.
func (s *stage) run(d *dispatch.Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx, func() { s.beats.Add(1) }); err != nil {
			s.t.Errorf("Run = %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	return stop
}

// id is the id of the n-th row recorded.
func id(n int) string { return fmt.Sprintf("%08x-0000-7000-8000-000000000abc", n) }

// record stores n requests and returns their ids in the order of asking.
func (s *stage) record(n int) []string {
	s.t.Helper()
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		ids[i] = id(i + 1)
		r := tasks.Restore{ID: ids[i], Cloud: cloud, BackupID: fmt.Sprintf("%08x-bbbb-4000-8000-000000000000", i+1),
			VolumeID: fmt.Sprintf("%08x-cccc-4000-8000-000000000000", i+1), Actor: "anna"}
		r.Normalize(time.Now())
		wg.Go(func() {
			if _, _, err := s.store.Record(s.t.Context(), r); err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	return ids
}

// wakes are the wake-ups that Redis has for the cloud's workers, oldest first.
func (s *stage) wakes() []tasks.Wake {
	s.t.Helper()
	infos, err := asynq.NewInspectorFromRedisClient(s.look).ListPendingTasks(tasks.Queue(cloud), asynq.PageSize(10_000))
	if errors.Is(err, asynq.ErrQueueNotFound) {
		return nil
	}
	must(s.t)(infos, err)
	var wakes []tasks.Wake
	for _, info := range infos {
		m, err := tasks.Decode(info.Payload)
		must(s.t)(m, err)
		if m.Wake == nil {
			s.t.Fatalf("task %s is not a wake-up", info.ID)
		}
		wakes = append(wakes, *m.Wake)
	}
	return wakes
}

// wantWakes compares what Redis has with the ids, each woken with this generation.
func (s *stage) wantWakes(generation int64, ids ...string) {
	s.t.Helper()
	var want []tasks.Wake
	for _, id := range ids {
		want = append(want, tasks.Wake{ID: id, Generation: generation})
	}
	if diff := cmp.Diff(want, s.wakes()); diff != "" {
		s.t.Errorf("wake-ups on the queue (-want +got):\n%s", diff)
	}
}

// wantRow compares a row's state and generation.
func (s *stage) wantRow(id string, state results.State, generation int64) {
	s.t.Helper()
	row, err := s.store.Get(s.t.Context(), id)
	if err != nil || row.State != state || row.Generation != generation {
		s.t.Errorf("restore %s is %q of generation %d, %v; want %q of generation %d", id, row.State, row.Generation, err, state, generation)
	}
}

// wantBeats counts the beats of the time d. They come every half second.
func (s *stage) wantBeats(d time.Duration) {
	s.t.Helper()
	before := s.beats.Load()
	time.Sleep(d)
	if got, want := s.beats.Load()-before, int64(d/round)/2; got < want {
		s.t.Errorf("%d beats in %s, want at least %d", got, d, want)
	}
}

// A logbook keeps what is logged; zerolog writes a line at a time.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// lines are the lines so far, as level and message.
func (l *logbook) lines(t *testing.T) []string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.text.String()) {
		var e struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, e.Level+": "+e.Message)
	}
	return out
}

func (s *stage) wantLog(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.log.lines(s.t)); diff != "" {
		s.t.Errorf("log (-want +got):\n%s", diff)
	}
}

const (
	down = "warn: restores cannot be released; they wait in the store"
	up   = "info: restores are released again"
)

// A link is a way to Redis that can be cut.
type link struct {
	redis *miniredis.Miniredis
	mu    sync.Mutex
	isCut bool
	hangs bool
	conns []net.Conn
}

var errCut = errors.New("link cut")

func (l *link) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l.isCut {
		return nil, errCut
	}
	c, err := l.redis.Dial()
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// hang lets nobody through, without a word.
func (l *link) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangs = true
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = false
}

func TestAReleasedRowReachesTheQueue(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.run(s.dispatcher())
		ids := s.record(1)
		time.Sleep(grown)
		s.wantRow(ids[0], results.Queued, 1)
		s.wantWakes(1, ids...)
		s.wantBeats(10 * time.Second)
		s.wantWakes(1, ids...) // and not once more
		s.wantLog()
	})
}

func TestReleaseTakesManyRowsInOneRound(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		ids := s.record(40)
		time.Sleep(grown)
		s.run(s.dispatcher())
		synctest.Wait()
		var woken []string
		for _, w := range s.wakes() {
			woken = append(woken, w.ID)
			s.wantRow(w.ID, results.Queued, w.Generation)
		}
		if slices.Sort(woken); !slices.Equal(woken, ids) {
			t.Errorf("woken %v, want %v", woken, ids)
		}
	})
}

func TestARowOfAnotherCloudIsLeftAlone(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		must(t)(s.store.EnsureCloud(t.Context(), "other"))
		ids := s.record(1)
		d := s.dispatcher()
		d.Cloud = "other"
		s.run(d)
		s.wantBeats(10 * time.Second)
		s.wantRow(ids[0], results.Waiting, 0)
		s.wantWakes(0)
	})
}

func TestWithoutTheQueueRowsWaitInTheStore(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.link.cut()
		ids := s.record(1)
		s.run(s.dispatcher())
		time.Sleep(grown)
		s.wantRow(ids[0], results.Queued, 1)
		s.wantBeats(2*again + 3*time.Second)
		s.wantRow(ids[0], results.Queued, 3)
		s.wantWakes(0)
		s.wantLog(down)
		s.link.heal()
		s.wantBeats(again)
		s.wantRow(ids[0], results.Queued, 4)
		s.wantWakes(4, ids...)
		s.wantLog(down, up)
	})
}

// Rows that could not be sent do not count as woken in vain, which would make
// them rest for ten minutes.
func TestALongTimeWithoutTheQueueCostsSeconds(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.link.cut()
		s.record(1)
		d := s.dispatcher()
		d.Every = tryEvery
		s.run(d)
		time.Sleep(7 * time.Minute)
		s.link.heal()
		time.Sleep(again + 2*d.Every)
		if wakes := s.wakes(); len(wakes) != 1 || wakes[0].ID != id(1) {
			t.Errorf("wake-ups on the queue: %+v, want one", wakes)
		}
	})
}

func TestALostWakeUpIsSentAgain(t *testing.T) {
	for name, lose := range map[string]func(s *stage){
		"Redis was flushed": func(s *stage) {
			time.Sleep(grown)
			s.wantWakes(1, id(1))
			must(s.t)(s.look.FlushAll(s.t.Context()).Result())
		},
		"Redis was away": func(s *stage) {
			s.link.cut()
			time.Sleep(again / 2)
			s.link.heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				id := s.record(1)[0]
				s.run(s.dispatcher())
				lose(s)
				s.wantRow(id, results.Queued, 1)
				row, err := s.store.Get(t.Context(), id)
				must(t)(row, err)
				time.Sleep(time.Until(row.ReleasedAt.Add(again - time.Millisecond)))
				s.wantWakes(0)
				s.wantRow(id, results.Queued, 1)
				time.Sleep(2 * round)
				s.wantWakes(2, id)
				s.wantRow(id, results.Queued, 2)
			})
		})
	}
}

func TestAPausedCloudReleasesNothing(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		must(t)(s.store.Pause(t.Context(), cloud, "anna", "maintenance"))
		ids := s.record(1)
		s.run(s.dispatcher())
		s.wantBeats(30 * time.Second)
		s.wantRow(ids[0], results.Waiting, 0)
		s.wantWakes(0)
		must(t)(s.store.Resume(t.Context(), cloud, "anna", "it is over"))
		time.Sleep(2 * round)
		s.wantRow(ids[0], results.Queued, 1)
		s.wantWakes(1, ids...)
		s.wantLog()
	})
}

func TestAFullBatchIsFollowedAtOnceByTheNext(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.record(501)
		time.Sleep(grown)
		s.link.cut()
		d := s.dispatcher()
		d.Every = time.Minute
		s.run(d)
		time.Sleep(59 * time.Second)
		if n := s.beats.Load(); n != 1 {
			t.Errorf("%d rounds in a minute without the queue, want 1", n)
		}
		s.link.heal()
		time.Sleep(59 * time.Second)
		if n := len(s.wakes()); n != 501 || s.beats.Load() != 3 {
			t.Errorf("%d wake-ups after %d rounds, want 501 after 3", n, s.beats.Load())
		}
	})
}

func TestARoundThatTheStoreRefusesIsNoBeat(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		d := s.dispatcher()
		d.Cloud = "unheard"
		s.run(d)
		time.Sleep(10 * time.Second)
		if n := s.beats.Load(); n != 0 {
			t.Errorf("%d beats without a round that worked", n)
		}
		s.wantLog(down)
		must(t)(s.store.EnsureCloud(t.Context(), "unheard"))
		s.wantBeats(10 * time.Second)
		s.wantLog(down, up)
	})
}

func TestADispatcherStopsAtOnceAndQuietly(t *testing.T) {
	for name, rows := range map[string]int{"between two rounds": 0, "while Redis does not answer": 1} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				t.Cleanup(func() { time.Sleep(time.Minute) }) // what still dials comes to its end
				s.record(rows)
				time.Sleep(grown)
				s.link.hang()
				d := s.dispatcher()
				d.Every = time.Hour
				stop := s.run(d)
				time.Sleep(time.Second)
				asked := time.Now()
				stop()
				if took := time.Since(asked); took > 0 {
					t.Errorf("stopped after %s", took)
				}
				s.wantLog()
			})
		})
	}
}
