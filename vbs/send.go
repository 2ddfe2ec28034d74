package vbs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

const (
	userAgent  = "vbsrestore"
	maxSingle  = 1 << 20  // bytes of an answer about one thing
	maxListing = 32 << 20 // bytes of a page of a listing
	dialTime   = 10 * time.Second
)

// answer is what came back, its body cut off at nothing: a longer one is an error.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// exchange sends a request once, follows no redirect and reads the whole body.
func exchange(rt http.RoundTripper, req *http.Request, limit int64) (answer, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(body)) > limit {
		return answer{}, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return answer{resp.StatusCode, resp.Header, body}, nil
}

// call is one request that may be repeated without harm.
type call struct {
	op, method, url string
	limit           int64
	microversion    string
}

// read does a call with a fresh token; if that is not accepted, once more with
// a new one.
func (c *Client) read(ctx context.Context, what call) (answer, *Error) {
	tok, e := c.token(ctx, what.op)
	if e != nil {
		return answer{}, e
	}
	a, e := c.readOnce(ctx, what, tok)
	if e == nil || !e.isAuth() {
		return a, e
	}
	if tok, e = c.renew(ctx, what.op, tok); e != nil {
		return answer{}, e
	}
	return c.readOnce(ctx, what, tok)
}

func (c *Client) readOnce(ctx context.Context, what call, tok *token) (answer, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, what.method, what.url, nil)
	if err != nil {
		return answer{}, failed(what.op, "%w", err)
	}
	req.Header = http.Header{
		"X-Auth-Token": {tok.id}, "Accept": {"application/json"}, "User-Agent": {userAgent},
	}
	if what.microversion != "" {
		req.Header.Set("OpenStack-API-Version", "volume "+what.microversion)
	}
	began := time.Now()
	a, err := exchange(c.reads, req, what.limit)
	if err != nil {
		e := failed(what.op, "%w", err)
		e.Cert = isCert(err)
		c.logCall(req, e, 0, began)
		return answer{}, e
	}
	if a.status < 200 || a.status > 299 {
		e := ParseAnswer(what.op, a.status, a.header, a.body)
		e.Message, e.Executed = c.keys.scrub(e.Message), ExecutedNo
		c.logCall(req, e, a.status, began)
		return answer{}, e
	}
	c.logCall(req, nil, a.status, began)
	return a, nil
}

// get reads a URL and decodes its JSON into out.
func (c *Client) get(ctx context.Context, what call, out any) (answer, *Error) {
	what.method = http.MethodGet
	a, e := c.read(ctx, what)
	if e != nil {
		return a, e
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return a, unreadable(what.op, a, fmt.Errorf("the answer is not the expected JSON: %w", err))
	}
	return a, nil
}

// unreadable is a good status with a body that makes no sense.
func unreadable(op string, a answer, err error) *Error {
	return &Error{
		Op: op, Status: a.status, Answerer: Gateway, Executed: ExecutedNo,
		RequestID: oneLine(requestID(a.header), maxID), CloudTime: dateOf(a.header), Err: err,
	}
}

// token returns a usable token, or the login's error under the name of op.
func (c *Client) token(ctx context.Context, op string) (*token, *Error) {
	tok, err := c.keys.get(ctx)
	return c.checked(op, tok, err)
}

func (c *Client) renew(ctx context.Context, op string, old *token) (*token, *Error) {
	tok, err := c.keys.renew(ctx, old)
	return c.checked(op, tok, err)
}

func (c *Client) checked(op string, tok *token, err *Error) (*token, *Error) {
	if err != nil {
		e := *err
		e.Op = op + ": " + err.Op
		return nil, &e
	}
	if tok.project != c.project {
		return nil, failed(op, "the new token is for project %s instead of %s", tok.project, c.project)
	}
	return tok, nil
}

// logCall writes a line for debugging. The URL's query holds no secrets, but
// the headers do, and none of them is written.
func (c *Client) logCall(req *http.Request, e *Error, status int, began time.Time) {
	ev := c.log.Debug().Str("cloud", c.name).Str("method", req.Method).Str("url", req.URL.Redacted()).
		Int("status", status).Dur("took", time.Since(began))
	if e != nil {
		ev = ev.Err(e)
	}
	ev.Msg("cloud called")
}

// isCert tells certificate problems from all other ways a connection fails.
func isCert(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		host         x509.HostnameError
		invalid      x509.CertificateInvalidError
		alert        tls.AlertError
	)
	if errors.As(err, &alert) {
		switch alert {
		case 42, 43, 44, 45, 46, 48, 116: // bad, unsupported, revoked, expired, unknown certificate; unknown CA; certificate required
			return true
		}
	}
	return errors.As(err, &verification) || errors.As(err, &authority) ||
		errors.As(err, &host) || errors.As(err, &invalid)
}

// neverSent recognises errors that end a request before its first byte. It is
// needed only where we do not watch the connection ourselves.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return isCert(err) || errors.As(err, &dns) || errors.Is(err, syscall.ECONNREFUSED) ||
		(errors.As(err, &op) && op.Op == "dial")
}

// usableID refuses what would change the meaning of a URL.
func usableID(id string) bool {
	if id == "" || len(id) > 255 || strings.Trim(id, ".") == "" {
		return false
	}
	return strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("-_.", r)
	}) < 0
}
