// Command vbsrestore restores Cinder and VBS backups onto volumes, each at most once.
//
// Every command has a file of its own: an options struct, the function that
// declares its flags, and runX(ctx, options, env) error, which knows nothing of
// the command line framework. The rest by file:
//
//	root.go      the tree of commands and what all of them share
//	settings.go  flag > environment > file > default, and where each came from
//	clouds.go    clouds.yaml, found as openstacksdk finds it
//	errors.go    errors, hints and exit codes
//	output.go    -f table|json|yaml|csv|value, -c
//	leader.go    what one worker does for all
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// env is the world a command lives in.
type env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	StdinTTY       bool // somebody can answer a question
	StdoutTTY      bool
	StderrTTY      bool
	Width          int // of the terminal on stdout; 0 if it is none
}

func main() {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	redis.SetLogger(silence{})
	os.Exit(run(os.Args[1:], osEnv()))
}

// silence is for go-redis, whose lines repeat what its errors tell.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func osEnv() env {
	e := env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	e.StdinTTY, e.StdoutTTY, e.StderrTTY = isTerminal(os.Stdin), isTerminal(os.Stdout), isTerminal(os.Stderr)
	if e.StdoutTTY {
		e.Width, _, _ = term.GetSize(int(os.Stdout.Fd()))
	}
	return e
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// colours reports whether coloured text is wanted on something that is a terminal or not.
func (e env) colours(tty bool) bool {
	if e.Getenv("CLICOLOR_FORCE") != "" && e.Getenv("CLICOLOR_FORCE") != "0" {
		return true
	}
	return tty && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}

// now is the time that ages are counted from.
func (e env) now() time.Time { return time.Now() }

// run is the whole program but its end. The first signal ends the command's
// context; a second one does not wait for the command any more.
func run(args []string, e env) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	done := make(chan int, 1)
	go func() { done <- execute(ctx, args, e) }()
	for first := true; ; first = false {
		select {
		case code := <-done:
			return code
		case s := <-signals:
			if !first {
				return signalCode(s)
			}
			cancel(&signalled{s})
		}
	}
}

func execute(ctx context.Context, args []string, e env) int {
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if sig := new(signalled); errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &sig) {
		return signalCode(sig.signal)
	}
	report(e.Stderr, err)
	return exitCode(err)
}

// signalled is why a context ended.
type signalled struct{ signal os.Signal }

func (s *signalled) Error() string { return "ended by " + s.signal.String() }

func signalCode(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return exitFailed
}
