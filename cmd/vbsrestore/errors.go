package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

// The exit codes are a promise to scripts.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartial     = 3
	exitNotFound    = 4
	exitUnavailable = 5
	exitConflict    = 6
)

const exitCodesShort = "Exit codes: 0 ok · 1 failed · 2 usage · 3 partial · 4 not found · 5 unavailable · 6 conflict · 7 wait timed out · 130/143 signals"

const exitCodesHelp = `Every command ends with one of these codes:

    0    ok
    1    failed
    2    usage: wrong arguments, wrong settings, a file that cannot be read as it should; nothing was done
    3    partial: some of several failed; the others were done
    4    not found: no such restore or cloud, or no store where one must be
    5    unavailable: Redis, the store or the cloud could not be reached; trying again makes sense
    6    conflict: the state of things does not allow it, such as cancelling what runs
    7    wait timed out: the work goes on
    130  ended by SIGINT
    143  ended by SIGTERM

Errors are one line on stderr, beginning with "vbsrestore:"; a line that begins with "hint:" says what to do.`

// exitCode is the one place that turns an error into an exit code.
func exitCode(err error) int {
	var usage *usageError
	var some *partial
	var act *results.ActError
	var gone *away
	var answer *vbs.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &some):
		return exitPartial
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, results.ErrNotFound), errors.Is(err, results.ErrNoStore):
		return exitNotFound
	case errors.As(err, &act), errors.Is(err, results.ErrMoved), errors.Is(err, worker.ErrOtherStore), errors.Is(err, results.ErrOtherProject):
		return exitConflict
	case errors.As(err, &gone), isNetwork(err), errors.As(err, &answer) && !vbs.IsAuth(answer) && answer.Status >= 500:
		return exitUnavailable
	}
	return exitFailed
}

// usageError is something the caller has to change before anything is done.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// away is an error of somebody who could not be reached.
type away struct{ err error }

func (a *away) Error() string { return a.err.Error() }
func (a *away) Unwrap() error { return a.err }

// partial says that some of several failed; the lines were printed already.
type partial struct{ failed, all int }

func (p *partial) Error() string { return fmt.Sprintf("%d of %d failed", p.failed, p.all) }

// hinted is an error with a word on what to do.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// problems is several errors of one file, one line each.
type problems struct {
	lines []string
	more  int
}

func (p *problems) Error() string {
	text := strings.Join(p.lines, "\n")
	if p.more > 0 {
		text += fmt.Sprintf("\nand %d more", p.more)
	}
	return text
}

// report prints an error for a person.
func report(w io.Writer, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(strings.TrimRight(describe(err), "\n")) {
		fmt.Fprintln(w, "vbsrestore: "+strings.TrimRight(line, "\n"))
	}
	if text := hintOf(err); text != "" {
		fmt.Fprintln(w, "hint: "+text)
	}
}

// describe keeps drawings whole and puts everything else on one line.
func describe(err error) string {
	var several *problems
	var drawn *drawing
	switch {
	case errors.As(err, &several):
		return several.Error()
	case errors.As(err, &drawn):
		return drawn.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return strings.ReplaceAll(err.Error(), "context deadline exceeded", "no answer in time")
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func hintOf(err error) string {
	var h *hinted
	var act *results.ActError
	var field *tasks.FieldError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &act):
		return act.Hint
	case errors.As(err, &field):
		return field.Hint
	}
	return ""
}

// isNetwork reports whether an error is about reaching somebody.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
