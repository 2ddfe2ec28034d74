package enqueue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backupID = "2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"
	firstID  = "0198c0de-7a11-7bcd-8ef0-123456789abc"
)

// newRestores returns n restores of distinct volumes, without IDs.
func newRestores(n int) []tasks.Restore {
	rs := make([]tasks.Restore, n)
	for i := range rs {
		rs[i] = tasks.Restore{Cloud: "prod", BackupID: backupID, VolumeID: fmt.Sprintf("9a0d7c52-1f7e-4c0e-8a55-%012x", i)}
	}
	return rs
}

// line is the wire to a Redis: it can lose answers.
type line struct {
	dial func() (net.Conn, error)
	mu   sync.Mutex
	lose int // answers still to be lost
	skip int // answers to let through first
}

// Lose makes the line swallow n answers, after skip more, and break the
// connection each time: Redis has done what was asked, the client cannot know.
func (l *line) Lose(n, skip int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose, l.skip = n, skip
}

func (l *line) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lose == 0 {
		return false
	}
	if l.skip > 0 {
		l.skip--
		return false
	}
	l.lose--
	return true
}

func (l *line) dialContext(context.Context, string, string) (net.Conn, error) {
	c, err := l.dial()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, line: l}, nil
}

type wire struct {
	net.Conn
	line *line
	dead atomic.Bool
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err == nil && w.line.loses() {
		w.dead.Store(true)
		w.Conn.Close()
	}
	if w.dead.Load() {
		return 0, io.EOF
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if w.dead.Load() {
		err = syscall.EPIPE
	}
	return n, err
}

// Deadlines of a connection that the other side has closed can be set.

func (w *wire) SetDeadline(t time.Time) error      { return w.unlessDead(w.Conn.SetDeadline(t)) }
func (w *wire) SetReadDeadline(t time.Time) error  { return w.unlessDead(w.Conn.SetReadDeadline(t)) }
func (w *wire) SetWriteDeadline(t time.Time) error { return w.unlessDead(w.Conn.SetWriteDeadline(t)) }

func (w *wire) unlessDead(err error) error {
	if w.dead.Load() {
		return nil
	}
	return err
}

// server is a Redis for one test.
type server struct {
	rdb  redis.UniversalClient
	line *line
}

func (s server) pending(t *testing.T, queue string) []*asynq.TaskInfo {
	t.Helper()
	infos, err := asynq.NewInspectorFromRedisClient(s.rdb).ListPendingTasks(queue, asynq.PageSize(100_000))
	if err != nil {
		t.Fatal(err)
	}
	return infos
}

func newServer(t *testing.T, dial func() (net.Conn, error)) server {
	t.Helper()
	l := &line{dial: dial}
	rdb, err := Connect(RedisOptions{URL: "redis://127.0.0.1?min_retry_backoff=1ms&max_retry_backoff=2ms", Dialer: l.dialContext, PoolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Close() })
	return server{rdb, l}
}

// eachServer runs the test against an in-process Redis, by TCP and without
// sockets, and against a real one.
func eachServer(t *testing.T, test func(t *testing.T, s server)) {
	t.Run("miniredis by TCP", func(t *testing.T) {
		m := miniredis.RunT(t)
		test(t, newServer(t, func() (net.Conn, error) { return net.Dial("tcp", m.Addr()) }))
	})
	t.Run("miniredis without sockets", func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		t.Cleanup(m.Close)
		test(t, newServer(t, m.Dial))
	})
	t.Run("redis-server", func(t *testing.T) {
		test(t, newServer(t, startRedis(t).dial))
	})
}

// process is a redis-server of our own.
type process struct {
	socket string // where it listens
	log    *bufio.Scanner
}

// startRedis runs a redis-server that listens on a socket in a folder of its own,
// and nowhere else, until the test ends.
func startRedis(t testing.TB, args ...string) process {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is missing: apt-get install redis-server")
		}
		t.Skip("redis-server is missing: apt-get install redis-server")
	}
	dir, err := os.MkdirTemp("", "redis") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--daemonize", "no"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p := process{socket, bufio.NewScanner(out)}
	p.waitFor(t, "eady to accept connections")
	return p
}

// waitFor reads the log up to a line that contains text.
func (p process) waitFor(t testing.TB, text string) {
	t.Helper()
	var read strings.Builder
	for p.log.Scan() {
		fmt.Fprintln(&read, p.log.Text())
		if strings.Contains(p.log.Text(), text) {
			return
		}
	}
	t.Fatalf("redis-server ended without saying %q:\n%s", text, read.String())
}

func (p process) dial() (net.Conn, error) { return net.Dial("unix", p.socket) }
