package enqueuetest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Server is a real redis-server for one test, with an append-only file in a
// folder of its own and no port: only a socket. It can be killed and started
// again.
type Server struct {
	dir string
	cmd *exec.Cmd
}

// StartServer starts the redis-server found on PATH and stops it with the test.
// Without one the test is skipped, or fails if the environment says CI=true.
func StartServer(t testing.TB) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		const missing = "redis-server is missing: apt-get install redis-server"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir, err := os.MkdirTemp("", "redis") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: dir}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	s.Start(t)
	return s
}

// URL is the address for enqueue.Connect and for programs.
func (s *Server) URL() string { return "unix://" + filepath.Join(s.dir, "s") }

// Start starts a killed server again, with what its append-only file has kept,
// and returns when it accepts connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", filepath.Join(s.dir, "s"), "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "eady to accept connections") {
			return
		}
	}
	t.Fatalf("redis-server did not start:\n%s", said.String())
}

// Kill ends the server with SIGKILL. Killing it twice does nothing.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}
