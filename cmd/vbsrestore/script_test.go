package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vbsrestore/vbsrestore/enqueue"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vbsrestore": main})
}

// patience bounds every wait for another process.
const patience = 30 * time.Second

// TestScripts runs testdata/*.txtar. Besides testscript's own commands there are
//
//	code N PROGRAM ARGS…         it must end with exit code N
//	until REGEXP PROGRAM ARGS…   again and again, until its stdout matches
//	there FILE                   wait until the file exists
//
// Every script has a Redis database of its own in $REDIS, and clouds.yaml in $WORK.
func TestScripts(t *testing.T) {
	redis := newRedis(t)
	var scripts atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			url := redis.url(int(scripts.Add(1)) - 1)
			e.Vars = append(e.Vars, "VBSRESTORE_REDIS="+url, "REDIS="+url, "KNOWN=--i-know="+strconv.FormatBool(redis.mini),
				"OS_CLIENT_CONFIG_FILE="+filepath.Join(e.WorkDir, "clouds.yaml"), "USER=anna")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": wantCode, "until": until, "there": there},
	})
}

func wantCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args…")
	}
	want, got := args[0], 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regexp program args…")
	}
	re, err := regexp.Compile(`(?m)` + args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); ; {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && re.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no match for %q (last error %v)", args[0], err)
		}
		<-time.After(200 * time.Millisecond)
	}
}

func there(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: there file")
	}
	for end := time.Now().Add(patience); ; {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s did not appear", args[0])
		}
		<-time.After(20 * time.Millisecond)
	}
}

// testRedis is a redis-server of the test's own, or a miniredis where none is installed.
type testRedis struct {
	base string // URL without the database
	mini bool
}

func (r testRedis) url(db int) string {
	if r.mini {
		return fmt.Sprintf("%s/%d", r.base, db)
	}
	return fmt.Sprintf("%s?db=%d", r.base, db)
}

func newRedis(t *testing.T) testRedis {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return testRedis{base: "redis://" + miniredis.RunT(t).Addr(), mini: true}
	}
	dir, err := os.MkdirTemp("", "vbsr") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	server := exec.Command(path, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes", "--dir", dir, "--databases", "64")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	r := testRedis{base: "unix://" + socket}
	r.await(t)
	return r
}

func (r testRedis) await(t *testing.T) {
	t.Helper()
	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: r.url(0)})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for rdb.Ping(ctx).Err() != nil {
		if !pause(ctx, 20*time.Millisecond) {
			t.Fatal("redis-server does not answer")
		}
	}
}
