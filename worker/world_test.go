package worker_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

// A world is a whole fleet in virtual time: a cloud, a Redis, a store file, and
// any number of worker processes that can be cut off, frozen and killed.
type world struct {
	t       testing.TB
	cloud   *simulator.Cloud
	redis   *miniredis.Miniredis
	url     string
	store   *results.Store        // the test's own view
	rdb     redis.UniversalClient // the producer's
	queue   *enqueue.Client
	log     zerolog.Logger
	mu      sync.Mutex
	all     []*process
	started int
	config  func(*worker.Config)
	door    func(http.RoundTripper) http.RoundTripper // what stands before the cloud
	held    sync.WaitGroup                            // requests that the door still has
}

const cloudName = "simulator"

func newWorld(t testing.TB, c simulator.Config) *world {
	t.Helper()
	cloud, err := simulator.New(c)
	must(t, err)
	w := &world{t: t, cloud: cloud, redis: miniredis.NewMiniRedis(), url: "sqlite://" + filepath.Join(t.TempDir(), "store.db"), log: zerolog.New(io.Discard)}
	if testing.Verbose() {
		w.log = zerolog.New(zerolog.NewTestWriter(t)).With().Timestamp().Logger()
	}
	w.store, err = results.Open(t.Context(), w.url, results.Options{Unsynced: true})
	must(t, err)
	_, err = w.store.EnsureCloud(t.Context(), cloudName)
	must(t, err)
	w.rdb = w.client(&link{redis: w.redis})
	w.queue = enqueue.New(w.rdb, enqueue.Options{})
	return w
}

func (w *world) client(l *link) redis.UniversalClient {
	c, err := enqueue.Connect(enqueue.RedisOptions{URL: "redis://127.0.0.1:6379", Dialer: l.dial})
	must(w.t, err)
	c.AddHook(damping{})
	return c
}

// close ends everything; nothing may be left in the bubble.
func (w *world) close() {
	for _, p := range w.processes() {
		p.stop()
	}
	for _, p := range w.all {
		<-p.gone
	}
	w.held.Wait()
	w.rdb.Close()
	must(w.t, w.store.Close())
	w.redis.Close()
	w.cloud.Close()
	time.Sleep(5 * time.Minute) // what a killed process still tries comes to its end
}

func (w *world) processes() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var alive []*process
	for _, p := range w.all {
		if !p.power.isDead() && !p.stopping {
			alive = append(alive, p)
		}
	}
	return alive
}

// set changes the cloud's pace and limits.
func (w *world) set(cs results.CloudSettings) {
	_, err := w.store.SetCloud(w.t.Context(), cloudName, "test", "test", cs)
	must(w.t, err)
}

// ask puts one request on the queue and returns its id.
func (w *world) ask(p simulator.Pair) string {
	r, err := w.queue.Restore(w.t.Context(), w.request(p))
	must(w.t, err)
	return r.ID
}

func (w *world) request(p simulator.Pair) tasks.Restore {
	r := tasks.Restore{Cloud: cloudName, BackupID: p.BackupID, VolumeID: p.VolumeID, Actor: "test"}
	r.Normalize(time.Now())
	return r
}

// get waits until the restore is recorded and in one of the states.
func (w *world) until(id string, atMost time.Duration, states ...results.State) results.Restore {
	w.t.Helper()
	var row results.Restore
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		var err error
		if row, err = w.store.Get(w.t.Context(), id); err != nil {
			continue
		}
		for _, s := range states {
			if row.State == s {
				return row
			}
		}
	}
	w.t.Fatalf("after %s restore %s is %q (%s), want one of %v\n%s", atMost, id, row.State, row.Reason, states, w.story(id))
	return row
}

func (w *world) story(id string) string {
	events, _ := w.store.Story(w.t.Context(), id)
	attempts, _ := w.store.Attempts(w.t.Context(), id)
	out := ""
	for _, e := range events {
		out += fmt.Sprintf("  %s %-16s %s→%s %s (%s)\n", e.At.Format("15:04:05.000"), e.Kind, e.From, e.To, e.Reason, e.Actor)
	}
	for _, a := range attempts {
		out += fmt.Sprintf("  attempt %d %s %+v → %d %s %s %s\n", a.Attempt, a.RequestID, a.Before, a.Answer.Status, a.Answer.Answerer, a.Answer.Message, a.Outcome)
	}
	row, _ := w.store.Get(w.t.Context(), id)
	for _, e := range w.cloud.Executions() {
		if e.VolumeID != row.VolumeID && e.BackupID != row.BackupID {
			continue
		}
		out += fmt.Sprintf("  cloud: %s %s→%s %s accepted %s finished %s foreign %v\n", e.RequestID, e.BackupID[:8], e.VolumeID[:8], e.Outcome, e.AcceptedAt.Format("15:04:05.000"), e.FinishedAt.Format("15:04:05.000"), e.Foreign)
	}
	return out
}

// executions counts what the cloud carried out for one restore of ours.
func (w *world) executions(id string) (list []simulator.Execution) {
	attempts, err := w.store.Attempts(w.t.Context(), id)
	must(w.t, err)
	for _, e := range w.cloud.Executions() {
		for _, a := range attempts {
			if e.RequestID == a.RequestID {
				list = append(list, e)
			}
		}
	}
	return list
}

// A process is one worker process: its own connections to store, Redis and
// cloud, all of which die with it.
type process struct {
	world    *world
	name     string
	power    *power
	link     *link
	cancel   context.CancelFunc
	gone     chan struct{}
	stopping bool
}

// start runs a worker process until it is stopped or killed.
func (w *world) start() *process {
	w.mu.Lock()
	w.started++
	name := fmt.Sprintf("worker-%d", w.started)
	w.mu.Unlock()
	p := &process{world: w, name: name, power: newPower(), link: &link{redis: w.redis}, gone: make(chan struct{})}
	p.power.link = p.link
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	w.mu.Lock()
	w.all = append(w.all, p)
	w.mu.Unlock()
	go func() {
		defer close(p.gone)
		defer cancel()
		if err := p.run(ctx); err != nil && !p.power.isDead() && ctx.Err() == nil {
			w.t.Errorf("%s: %v", p.name, err)
		}
	}()
	return p
}

func (p *process) run(ctx context.Context) error {
	store, err := p.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	client, err := p.world.open(ctx, &shaky{p.power, p.world.front()})
	if err != nil {
		return err
	}
	serve, produce := p.world.client(p.link), p.world.client(p.link)
	defer serve.Close()
	defer produce.Close()
	log := p.world.log.With().Str("worker", p.name).Logger()
	c := worker.Config{Name: p.name, Store: store, Cloud: client, Log: log, Reads: worker.NewReads(produce, store, cloudName)}
	if p.world.config != nil {
		p.world.config(&c)
	}
	w, err := worker.New(ctx, c)
	if err != nil {
		return err
	}
	lead := dispatch.Leader{Store: store, Lease: "cloud:" + cloudName, Holder: p.name, Fit: w.Healthy, Log: log, Loops: []dispatch.Loop{
		worker.NewWatcher(w).Run, w.Tend,
		(&dispatch.Dispatcher{Store: store, Queue: enqueue.New(produce, enqueue.Options{}), Cloud: cloudName, Log: log, Every: 2 * time.Second}).Run}}
	var jobs sync.WaitGroup
	jobs.Go(func() { lead.Run(ctx) })
	err = worker.Serve(ctx, w, worker.QueueConfig{Redis: serve, Servers: 1, Concurrency: 8, Poll: 2 * time.Second, Log: zerolog.Nop()})
	jobs.Wait()
	return err
}

// openStore tries again while a frozen process holds the file's lock, as whoever
// restarts programs would.
func (p *process) openStore(ctx context.Context) (s *results.Store, err error) {
	for range 60 {
		s, err = results.Open(ctx, p.world.url, results.Options{Unsynced: true, MustExist: true, Wrap: p.power.wrap})
		if err == nil || ctx.Err() != nil || p.power.isDead() {
			return s, err
		}
		time.Sleep(10 * time.Second)
	}
	return s, err
}

// front is what a process finds at the cloud's address.
func (w *world) front() http.RoundTripper {
	if w.door == nil {
		return w.cloud
	}
	return w.door(w.cloud)
}

func (w *world) open(ctx context.Context, transport http.RoundTripper) (*vbs.Client, error) {
	cloud, err := vbs.LoadCloud(cloudName, vbs.Sources{Clouds: w.cloud.CloudsYAML("http://cloud.test/v3")})
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		c, err := vbs.Open(ctx, cloud, vbs.Options{Transport: transport, Log: zerolog.Nop()})
		if err == nil || try == 20 || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(time.Second)
	}
}

// stop is a polite shutdown: SIGTERM.
func (p *process) stop() {
	p.world.mu.Lock()
	p.stopping = true
	p.world.mu.Unlock()
	p.cancel()
}

// kill is kill -9: nothing of the process reaches anything any more.
func (p *process) kill() {
	p.power.off()
	p.cancel()
}

// A power is what a process runs on: every step it takes towards the outside
// counts, waits while it is frozen, and fails once it is dead.
type power struct {
	mu     sync.Mutex
	dead   bool
	steps  int
	dieAt  int // at this step; 0 = never
	stopAt int // is frozen at this step for stop; 0 = never
	stop   time.Duration
	frozen time.Time
	link   *link
}

func newPower() *power { return &power{} }

var errPower = errors.New("the process is dead")

func (p *power) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *power) off() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.link.cutOff()
}

// dieIn kills the process at its n-th step from now.
func (p *power) dieIn(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dieAt = p.steps + n
}

// freeze suspends the process: like a laptop lid, or a paused virtual machine.
func (p *power) freeze(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = time.Now().Add(d)
}

// freezeIn freezes the process at its n-th step from now.
func (p *power) freezeIn(n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopAt, p.stop = p.steps+n, d
}

// step is taken before and after everything that leaves the process.
func (p *power) step() error {
	p.mu.Lock()
	p.steps++
	if p.dieAt > 0 && p.steps >= p.dieAt {
		p.dead = true
	}
	if p.stopAt > 0 && p.steps == p.stopAt {
		p.frozen = time.Now().Add(p.stop)
	}
	dead, frozen := p.dead, p.frozen
	p.mu.Unlock()
	if dead {
		p.link.cutOff()
		return errPower
	}
	if wait := time.Until(frozen); wait > 0 {
		time.Sleep(wait)
		return p.step()
	}
	return nil
}

// A shaky transport is a process's way to the cloud.
type shaky struct {
	power *power
	cloud http.RoundTripper
}

func (s *shaky) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := s.power.step(); err != nil {
		return nil, err
	}
	res, err := s.cloud.RoundTrip(r)
	if dead := s.power.step(); dead != nil {
		if res != nil {
			res.Body.Close()
		}
		return nil, dead
	}
	return res, err
}

// wrap stands between a process's store and its database file.
func (p *power) wrap(c driver.Connector) driver.Connector { return &shakyConnector{c, p} }

type shakyConnector struct {
	driver.Connector
	power *power
}

func (c *shakyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.power.step(); err != nil {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &shakyConn{conn, c.power}, nil
}

type shakyConn struct {
	driver.Conn
	power *power
}

// ExecContext carries BEGIN, COMMIT and ROLLBACK: a process may die before a
// commit reaches the disk, and after it without learning so.
func (c *shakyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if query == "ROLLBACK" {
		return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	}
	if err := c.power.step(); err != nil {
		return nil, err
	}
	res, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if query == "COMMIT" && err == nil {
		if dead := c.power.step(); dead != nil {
			return nil, dead
		}
	}
	return res, err
}

func (c *shakyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if c.power.isDead() {
		return nil, errPower
	}
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c *shakyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.power.isDead() {
		return nil, errPower
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *shakyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

// A link is a process's way to Redis.
type link struct {
	redis *miniredis.Miniredis
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (l *link) dial(context.Context, string, string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		// Not a dial error: go-redis would sleep before it dials again, with a lock
		// held that keeps virtual time from going on.
		near, far := net.Pipe()
		far.Close()
		return near, nil
	}
	c, err := l.redis.Dial()
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *link) cutOff() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// damping keeps error loops of the queue from freezing virtual time.
type damping struct{}

func (damping) DialHook(n redis.DialHook) redis.DialHook { return n }
func (damping) ProcessHook(n redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		err := n(ctx, c)
		if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") && c.Name() != "hello" {
			time.Sleep(200 * time.Millisecond)
		}
		return err
	}
}
func (damping) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook { return n }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}
