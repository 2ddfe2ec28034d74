package vbs

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// guard lets a request leave only before a moment, and sees whether it left.
type guard struct {
	notAfter time.Time
	tripped  atomic.Bool // a write was refused
	armed    atomic.Bool // the connection is ready: from now on bytes belong to the request
	sent     atomic.Bool // at least one byte of the request was handed to the kernel
}

// past is true once either clock has passed the deadline. The zero time is past.
func (g *guard) past() bool { return left(g.notAfter) <= 0 }

// trace marks the end of the TLS handshake and of a proxy's CONNECT.
func (g *guard) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { g.armed.Store(true) },
	})
}

// guardedConn refuses to write when the guard's time is over. The handshake's
// bytes count, too.
type guardedConn struct {
	net.Conn
	guard *guard
}

func (c *guardedConn) Write(b []byte) (int, error) {
	if c.guard.past() {
		c.guard.tripped.Store(true)
		return 0, errTooLate
	}
	n, err := c.Conn.Write(b)
	if n > 0 && c.guard.armed.Load() {
		c.guard.sent.Store(true)
	}
	return n, err
}

// Close drops what the kernel has not sent yet once the time is over: it must not
// go out later, after a cut line or a sleep.
func (c *guardedConn) Close() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.guard.past() {
		tcp.SetLinger(0)
	}
	return c.Conn.Close()
}

// oneShot is a transport for a single request that must not be repeated:
// HTTP/1.1, a new connection that is closed afterwards, so net/http never sends
// the request again on another one.
func oneShot(config *tls.Config, proxy func(*http.Request) (*url.URL, error), g *guard) *http.Transport {
	var http1 http.Protocols
	http1.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: dialTime}
	return &http.Transport{
		Proxy: proxy, TLSClientConfig: config, Protocols: &http1,
		DisableKeepAlives: true, DisableCompression: true,
		TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: 256 << 10,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &guardedConn{Conn: conn, guard: g}, nil
		},
	}
}

// forReads is the transport for everything that may be repeated.
func forReads(config *tls.Config, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy: proxy, TLSClientConfig: config,
		DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second,
	}
}
