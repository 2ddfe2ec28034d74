package simulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// manner is how an answer goes back.
type manner struct {
	delay   time.Duration // before it begins
	cut     cut
	endless bool // after the body comes more, without end
}

// cut is a connection that ends before an answer.
type cut byte

const (
	cutReset cut = iota + 1 // "connection reset by peer"
	cutEOF                  // closed without a byte
	cutNever                // open, silent, until the client gives up
)

// maxBody is how much of a request is read.
const maxBody = 1 << 20

// drip is how often an endless body says something.
const drip = time.Second

// RoundTrip answers a request without sockets. It honours the request's context,
// also while a body is read, and leaves no goroutine behind. What breaks a
// connection is an error as net/http would give it, for example
// "read tcp: read: connection reset by peer".
func (c *Cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	body, err := readBody(r)
	if err != nil {
		return nil, fmt.Errorf("read request body: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host := r.Host
	setDefault(&host, r.URL.Host)
	a := c.serve(c.request(r, r.URL, r.URL.Scheme+"://"+host, body))
	if err := c.wait(ctx, a); err != nil {
		return nil, err
	}
	if r.Method == "HEAD" {
		a.body = nil
	}
	a.header.Del("Connection") // net/http takes it out, too, and sets Close
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: c.bodyOf(ctx, a), ContentLength: -1, Close: true, Request: r,
	}, nil
}

// ServeHTTP answers a request of an HTTP server, as HTTP/1.1 without a
// Content-Length and one request per connection, like Debian's Cinder.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		return // the client went away
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	a := c.serve(c.request(r, r.URL, scheme+"://"+r.Host, body))
	if err := c.wait(r.Context(), a); err != nil {
		hangUp(w, errors.Is(err, syscall.ECONNRESET))
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Transfer-Encoding", "identity") // net/http: no length, no chunks, then close
	if c.cfg.NoDate {
		w.Header()["Date"] = nil
	}
	w.WriteHeader(a.status)
	from := c.bodyOf(r.Context(), a)
	if !a.endless {
		_, _ = io.Copy(w, from) // a client that went away is no fault of ours
		return
	}
	_, _ = io.Copy(flusher{w}, from)
	panic(http.ErrAbortHandler)
}

// flusher sends every piece at once.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(io.LimitReader(r.Body, maxBody))
}

func (c *Cloud) request(r *http.Request, u *url.URL, base string, body []byte) *request {
	q := &request{method: r.Method, header: r.Header, body: body, base: base}
	if c.cfg.BaseURL != "" {
		q.base = c.cfg.BaseURL
	}
	if q.method == "HEAD" {
		q.method = "GET"
	}
	if p := strings.Trim(u.Path, "/"); p != "" {
		q.path = strings.Split(p, "/")
	}
	if u.RawQuery != "" {
		q.query = u.Query()
	}
	return q
}

// wait lets the delay of an answer pass. The error is what ended the connection.
func (c *Cloud) wait(ctx context.Context, a answer) error {
	if a.delay > 0 {
		timer := time.NewTimer(a.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return io.EOF
		}
	}
	switch a.cut {
	case cutReset:
		return &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	case cutEOF:
		return io.EOF
	case cutNever:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return io.EOF
		}
	}
	return nil
}

// hangUp closes the connection without an answer, with a reset if wanted. It does
// not return.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0) // without it the client sees a plain close, which is as good
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

func (c *Cloud) bodyOf(ctx context.Context, a answer) io.ReadCloser {
	if !a.endless {
		return io.NopCloser(bytes.NewReader(a.body))
	}
	ctx, cancel := context.WithCancel(ctx)
	return &endless{ctx: ctx, cancel: cancel, done: c.done, start: a.body}
}

// endless is a body that never ends: after its start, a blank now and then.
type endless struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   <-chan struct{}
	start  []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.start) > 0 {
		n := copy(p, e.start)
		e.start = e.start[n:]
		return n, nil
	}
	timer := time.NewTimer(drip)
	defer timer.Stop()
	select {
	case <-timer.C:
		return copy(p, " "), nil
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	case <-e.done:
		return 0, io.ErrUnexpectedEOF
	}
}

func (e *endless) Close() error {
	e.cancel()
	return nil
}
