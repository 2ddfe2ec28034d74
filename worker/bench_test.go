package worker_test

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/enqueue/enqueuetest"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

const benchRestores = 4000

// A rig is one real process's worth of vbsrestore: redis-server, a fully synced
// SQLite file, and a cloud that restores at once.
type rig struct {
	cloud *simulator.Cloud
	store *results.Store
	redis *enqueuetest.Server
	queue *enqueue.Client
	rdb   redis.UniversalClient
	vbs   *vbs.Client
	seen  *counter
}

func newRig(b *testing.B, volumes int) *rig {
	b.Helper()
	r := &rig{redis: enqueuetest.StartServer(b)}
	var err error
	r.cloud, err = simulator.New(simulator.Config{Volumes: volumes, Seed: 1, GiBPerSecond: 1e6, MinDuration: -1, BackupLag: -1, Capacity: -1})
	must(b, err)
	r.seen = &counter{next: r.cloud}
	r.store, err = results.Open(b.Context(), "sqlite://"+filepath.Join(b.TempDir(), "store.db"), results.Options{})
	must(b, err)
	b.Cleanup(func() { r.store.Close() })
	r.rdb = r.connect(b)
	r.queue = enqueue.New(r.rdb, enqueue.Options{})
	login, err := vbs.LoadCloud(cloudName, vbs.Sources{Clouds: r.cloud.CloudsYAML("http://cloud.test/v3")})
	must(b, err)
	r.vbs, err = vbs.Open(b.Context(), login, vbs.Options{Transport: r.seen})
	must(b, err)
	return r
}

func (r *rig) connect(b *testing.B) redis.UniversalClient {
	c, err := enqueue.Connect(enqueue.RedisOptions{URL: r.redis.URL()})
	must(b, err)
	b.Cleanup(func() { c.Close() })
	return c
}

// work runs a worker with all its loops until the benchmark stops it.
func (r *rig) work(b *testing.B, limits results.CloudSettings) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	w, err := worker.New(ctx, worker.Config{Name: "bench", Store: r.store, Cloud: r.vbs})
	must(b, err)
	_, err = r.store.SetCloud(ctx, cloudName, "bench", "bench", limits)
	must(b, err)
	serve := r.connect(b)
	var jobs sync.WaitGroup
	lead := dispatch.Leader{Store: r.store, Lease: "cloud:" + cloudName, Holder: "bench", Loops: []dispatch.Loop{
		worker.NewWatcher(w).Run, w.Tend, (&dispatch.Dispatcher{Store: r.store, Queue: r.queue, Cloud: cloudName}).Run}}
	jobs.Go(func() { lead.Run(ctx) })
	jobs.Go(func() {
		worker.Serve(ctx, w, worker.QueueConfig{Redis: serve, Servers: 2, Concurrency: 128, Log: zerolog.Nop()})
	})
	return func() { cancel(); jobs.Wait() }
}

func (r *rig) requests() []tasks.Restore {
	var rs []tasks.Restore
	for _, p := range r.cloud.Pairs() {
		rs = append(rs, tasks.Restore{Cloud: cloudName, BackupID: p.BackupID, VolumeID: p.VolumeID})
	}
	return rs
}

func (r *rig) awaitSucceeded(b *testing.B, n int) {
	for {
		counts, err := r.store.Counts(b.Context(), "")
		must(b, err)
		if counts[results.Succeeded] == n {
			return
		}
		if failed := counts[results.Failed] + counts[results.InDoubt] + counts[results.Cancelled]; failed > 0 {
			b.Fatalf("%d restores did not succeed: %v", failed, counts)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func unlimited() results.CloudSettings {
	return results.CloudSettings{Cap: ptr(0), Rate: ptr(0.0), ReadRate: ptr(0.0), Settle: ptr(time.Second)}
}

// BenchmarkWholePath takes restores from the queue to "succeeded": recorded,
// observed, claimed, POSTed, settled, watched and judged, with cap and pace off
// and every commit synced to disk. Compare with BenchmarkBareHandler.
func BenchmarkWholePath(b *testing.B) {
	var took time.Duration
	for b.Loop() {
		b.StopTimer()
		r := newRig(b, benchRestores)
		stop := r.work(b, unlimited())
		rs := r.requests()
		b.StartTimer()
		start := time.Now()
		_, err := r.queue.Restores(b.Context(), rs)
		must(b, err)
		r.awaitSucceeded(b, benchRestores)
		took += time.Since(start)
		b.StopTimer()
		stop()
		b.ReportMetric(float64(r.seen.n.Load())/benchRestores, "calls/restore")
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*benchRestores/took.Seconds(), "restores/s")
}

// BenchmarkBareHandler makes the same cloud calls from a plain asynq handler
// that remembers nothing.
func BenchmarkBareHandler(b *testing.B) {
	var took time.Duration
	for b.Loop() {
		b.StopTimer()
		r := newRig(b, benchRestores)
		rs := r.requests()
		var done sync.WaitGroup
		done.Add(len(rs))
		server := asynq.NewServerFromRedisClient(r.connect(b), asynq.Config{Concurrency: 128, Queues: map[string]int{tasks.IntakeQueue(cloudName): 1},
			TaskCheckInterval: 100 * time.Millisecond, Logger: quiet{}, LogLevel: asynq.FatalLevel})
		must(b, server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
			defer done.Done()
			return bareCalls(ctx, r.vbs, t.Payload())
		})))
		b.StartTimer()
		start := time.Now()
		_, err := r.queue.Restores(b.Context(), rs)
		must(b, err)
		done.Wait()
		took += time.Since(start)
		b.StopTimer()
		server.Shutdown()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*benchRestores/took.Seconds(), "restores/s")
}

func bareCalls(ctx context.Context, c *vbs.Client, payload []byte) error {
	m, err := tasks.Decode(payload)
	if err != nil {
		return err
	}
	look := func() error {
		if _, err := c.Volume(ctx, m.Restore.VolumeID); err != nil {
			return err
		}
		_, err := c.Backup(ctx, m.Restore.BackupID)
		return err
	}
	if err := look(); err != nil {
		return err
	}
	if _, err := c.Restore(ctx, vbs.Post{BackupID: m.Restore.BackupID, VolumeID: m.Restore.VolumeID, NotAfter: time.Now().Add(time.Minute)}); err != nil {
		return err
	}
	if err := look(); err != nil {
		return err
	}
	_, err = c.Messages(ctx, vbs.MessageQuery{ResourceID: m.Restore.BackupID})
	return err
}

// BenchmarkIdleEnqueueToPOST is the time from a producer's enqueue to the POST's
// arrival at the cloud, one request at a time, with the default limits' poll.
func BenchmarkIdleEnqueueToPOST(b *testing.B) {
	r := newRig(b, benchRestores)
	stop := r.work(b, unlimited())
	defer stop()
	rs := r.requests()
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		posted := r.seen.await()
		start := time.Now()
		_, err := r.queue.Restore(b.Context(), rs[i%len(rs)])
		must(b, err)
		<-posted
		all = append(all, time.Since(start))
		time.Sleep(150 * time.Millisecond) // idle again
	}
	b.ReportMetric(float64(median(all).Milliseconds()), "ms-p50")
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// A counter counts the calls of the cloud, and tells of the next POST.
type counter struct {
	next http.RoundTripper
	n    atomic.Int64
	mu   sync.Mutex
	ch   chan struct{}
}

func (c *counter) await() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ch = make(chan struct{})
	return c.ch
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	if isRestore(r) {
		c.mu.Lock()
		if c.ch != nil {
			close(c.ch)
			c.ch = nil
		}
		c.mu.Unlock()
	}
	return c.next.RoundTrip(r)
}
