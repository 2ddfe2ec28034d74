package enqueue

import (
	"bytes"
	"context"
	"net"
	"os"
	"sync"
	"time"
)

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// buffered makes in-process connections usable for pipelines. A net.Pipe holds
// nothing: the client, writing a long pipeline, and the server, writing the first
// answers, would wait for each other for ever. Other connections are left alone.
func (d dialer) buffered(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d(ctx, network, addr)
	if err != nil || c.LocalAddr().Network() != "pipe" {
		return c, err
	}
	a := &readAhead{Conn: c}
	a.changed.L = &a.mu
	a.timer = time.AfterFunc(time.Hour, a.wake)
	go a.pump()
	return a, nil
}

// readAhead is a connection whose arriving bytes are always taken off the wire.
type readAhead struct {
	net.Conn
	timer *time.Timer // wakes Read at its deadline

	mu       sync.Mutex
	changed  sync.Cond
	arrived  bytes.Buffer
	err      error // the end of the connection
	deadline time.Time
}

// pump ends with the connection.
func (a *readAhead) pump() {
	chunk := make([]byte, 4<<10)
	for {
		n, err := a.Conn.Read(chunk)
		a.mu.Lock()
		a.arrived.Write(chunk[:n])
		a.err = err
		a.changed.Broadcast()
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (a *readAhead) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed.Broadcast()
}

func (a *readAhead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.arrived.Len() == 0 {
		switch {
		case a.err != nil:
			return 0, a.err
		case !a.deadline.IsZero() && !time.Now().Before(a.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		a.changed.Wait()
	}
	return a.arrived.Read(p)
}

func (a *readAhead) SetDeadline(t time.Time) error {
	if err := a.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return a.SetReadDeadline(t)
}

func (a *readAhead) SetReadDeadline(t time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deadline = t
	if !t.IsZero() {
		a.timer.Reset(time.Until(t))
	}
	a.changed.Broadcast()
	return nil
}

func (a *readAhead) Close() error {
	a.timer.Stop()
	return a.Conn.Close()
}
