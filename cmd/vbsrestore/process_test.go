package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is vbsrestore as a child, with its stderr line by line.
type process struct {
	*exec.Cmd
	lines chan string
}

// start runs vbsrestore in a folder. The child is this test binary; see TestMain.
func start(t *testing.T, dir string, vars []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: &exec.Cmd{Path: mustExecutable(t), Args: append([]string{"vbsrestore"}, args...), Dir: dir, Env: append(os.Environ(), vars...)}, lines: make(chan string, 10000)}
	out, err := p.StderrPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		for range p.lines {
		}
		_ = p.Wait()
	})
	return p
}

// says waits for a line with this text, and returns it.
func (p *process) says(t *testing.T, text string) string {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("%s ended without saying %q", p.Args[1], text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-end:
			t.Fatalf("%s did not say %q", p.Args[1], text)
		}
	}
}

// code waits for the end and returns the exit code.
func (p *process) code(t *testing.T) int {
	t.Helper()
	for range p.lines {
	}
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// hangingCloud starts a simulator whose restore POSTs get no answer, and asks for one restore.
func hangingCloud(t *testing.T, dir, redis string) (vars []string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "faults.json"), []byte(`{"rules": [{"match": "POST restore", "p": 1, "kind": "hang"}], "max_late": "1s"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	vars = []string{"VBSRESTORE_REDIS=" + redis, "OS_CLOUD=simulator", "OS_CLIENT_CONFIG_FILE=" + filepath.Join(dir, "clouds.yaml")}
	start(t, dir, vars, "simulate", "--listen", "127.0.0.1:0", "--volumes", "1", "--speed", "1000", "--faults", "faults.json", "--clouds-file", "clouds.yaml", "--pairs-file", "pairs.csv").
		says(t, "listening on")
	pairs := readCSV(t, filepath.Join(dir, "pairs.csv"))
	if code := start(t, dir, vars, "enqueue", pairs[1][0], pairs[1][1]).code(t); code != 0 {
		t.Fatalf("enqueue: exit code %d", code)
	}
	return vars
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A POST hangs: the first signal waits for it, the second does not. What was
// begun is in the store all the same, for the watcher of the next worker.
func TestTheSecondSignalLeavesAtOnce(t *testing.T) {
	redis, dir := newRedis(t), t.TempDir()
	vars := hangingCloud(t, dir, redis.url(0))
	args := []string{"worker", "--log", "json"}
	if redis.mini {
		args = append(args, "--i-know")
	}
	w := start(t, dir, vars, args...)
	w.says(t, `"message":"recorded"`)
	awaitState(t, dir, vars, "posting")
	w.signal(t, syscall.SIGTERM)
	w.says(t, "finishing what is under way")
	w.says(t, "no longer leading")
	w.signal(t, os.Interrupt)
	if code := w.code(t); code != 130 {
		t.Errorf("exit code %d after the second signal, want 130", code)
	}
	awaitState(t, dir, vars, "posting")
}

// awaitState asks until the one restore is in a state.
func awaitState(t *testing.T, dir string, vars []string, state string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		p := &exec.Cmd{Path: mustExecutable(t), Args: []string{"vbsrestore", "restore", "list", "-f", "value", "-c", "state"}, Dir: dir, Env: append(os.Environ(), vars...), Stderr: io.Discard}
		if out, err := p.Output(); err == nil && strings.TrimSpace(string(out)) == state {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("the restore never was %s", state)
}

func mustExecutable(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func TestAWorkerWaitsForRedis(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "none.sock")
	start(t, dir, nil, "simulate", "--listen", "127.0.0.1:0", "--volumes", "1", "--clouds-file", "clouds.yaml").says(t, "listening on")
	w := start(t, dir, []string{"VBSRESTORE_REDIS=unix://" + socket, "OS_CLIENT_CONFIG_FILE=" + filepath.Join(dir, "clouds.yaml")}, "worker", "--log", "json")
	w.says(t, "redis cannot be reached")
	w.signal(t, syscall.SIGTERM)
	if code := w.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
