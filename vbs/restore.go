package vbs

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"time"
)

const (
	maxPostAnswer = 64 << 10        // bytes read of the answer to a POST
	bodyTime      = 5 * time.Second // for its body, once its status line is here
)

// A Post asks for one restore.
type Post struct {
	BackupID string
	VolumeID string // mandatory: without it Cinder would make a new volume
	// RequestID, "req-<uuid>", is sent as X-Openstack-Request-Id and shows up in
	// the logs of Cinder's services as the global id. Cinder ignores other forms
	// and never echoes it. Empty sends none.
	RequestID string
	// NotAfter is the last moment at which a byte may leave, and for which an
	// answer is waited for. It must come from time.Now of this process, so that
	// it carries the monotonic and the wall reading: when either clock has passed
	// it, nothing is sent. The zero time is past.
	NotAfter time.Time
}

// Accepted is the cloud's promise to restore. It is not the end of the restore.
type Accepted struct {
	Status     int    // 202, or 200 from a front end that hands out jobs
	VolumeID   string // as answered; "" when Malformed
	VolumeName string // "" when null or Malformed
	JobID      string // of a 200 with job_id
	RequestID  string // x-openstack-request-id or x-compute-request-id: Cinder's messages carry it
	Malformed  bool   // the body was not the JSON expected; accepted all the same
	CloudTime  time.Time
}

// Restore asks the cloud once to write a backup onto a volume. The API's page
// documents POST …/backups/{backup_id}/restore with 202; any 202 is accepted
// whatever its body (the page's own example is malformed JSON), and so is 200
// with a restore object or a job_id.
//
// The token is renewed beforehand if it is about to end. An answer that says
// only that the token is not valid (see [IsAuth]) proves that nothing ran: the
// token is renewed once and the same POST sent again, still before NotAfter.
// Nothing else is ever repeated, redirects are not followed and no
// Idempotency-Key is sent, as it would make net/http repeat the request.
//
// Every other end is an [Error] with Executed filled in.
func (c *Client) Restore(ctx context.Context, p Post) (Accepted, error) {
	op := "restore backup " + oneLine(p.BackupID, maxID) + " onto volume " + oneLine(p.VolumeID, maxID)
	if !usableID(p.BackupID) || !usableID(p.VolumeID) {
		return Accepted{}, failed(op, "a backup id and a volume id are needed")
	}
	var body struct {
		Restore struct {
			VolumeID string `json:"volume_id"`
		} `json:"restore"`
	}
	body.Restore.VolumeID = p.VolumeID
	raw, err := json.Marshal(body)
	if err != nil {
		return Accepted{}, failed(op, "%w", err)
	}
	a, e := c.post(ctx, post{op, c.backups + "backups/" + p.BackupID + "/restore", raw, p.RequestID, p.NotAfter})
	if e != nil {
		return Accepted{}, e
	}
	return c.accepted(op, a)
}

// accepted reads a 2xx answer to a restore.
func (c *Client) accepted(op string, a answer) (Accepted, error) {
	out := Accepted{Status: a.status, RequestID: oneLine(requestID(a.header), maxID), CloudTime: dateOf(a.header)}
	var body struct {
		Restore *struct {
			VolumeID   text `json:"volume_id"`
			VolumeName text `json:"volume_name"`
		} `json:"restore"`
		JobID text `json:"job_id"`
	}
	err := json.Unmarshal(a.body, &body)
	out.JobID = string(body.JobID)
	switch {
	case err == nil && body.Restore != nil:
		out.VolumeID, out.VolumeName = string(body.Restore.VolumeID), string(body.Restore.VolumeName)
	case err == nil && out.JobID != "":
	case a.status == http.StatusAccepted:
		out.Malformed, out.VolumeName = true, nameIn(a.body)
	default:
		e := ParseAnswer(op, a.status, a.header, a.body)
		e.Message = c.keys.scrub(e.Message)
		return Accepted{}, e
	}
	return out, nil
}

var volumeName = regexp.MustCompile(`"volume_name"\s*:\s*("(?:[^"\\]|\\.)*")`)

// nameIn finds the volume's name in JSON that is none.
func nameIn(body []byte) string {
	m := volumeName.FindSubmatch(body)
	if m == nil {
		return ""
	}
	return textOf(m[1])
}

// post is a request that must not be repeated.
type post struct {
	op, url   string
	body      []byte
	requestID string
	notAfter  time.Time
}

var headerValue = regexp.MustCompile(`^[!-~]{0,255}$`)

// post sends p and returns 200 and 202 as an answer, all else as an Error.
func (c *Client) post(ctx context.Context, p post) (answer, *Error) {
	if !headerValue.MatchString(p.requestID) {
		return answer{}, failed(p.op, "the request id %q cannot be sent", p.requestID)
	}
	ctx, cancel := context.WithTimeout(ctx, left(p.notAfter))
	defer cancel()
	if left(p.notAfter) <= 0 {
		return answer{}, tooLate(p.op)
	}
	tok, e := c.token(ctx, p.op)
	if e != nil {
		return answer{}, e
	}
	a, e := c.postOnce(ctx, p, tok)
	if e == nil || !e.isAuth() || e.Executed != ExecutedNo {
		return a, e
	}
	if tok, e = c.renew(ctx, p.op, tok); e != nil {
		return answer{}, e
	}
	return c.postOnce(ctx, p, tok)
}

func tooLate(op string) *Error {
	return &Error{Op: op, Executed: ExecutedNo, TooLate: true, Err: errTooLate}
}

func (c *Client) postOnce(ctx context.Context, p post, tok *token) (answer, *Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &guard{notAfter: p.notAfter}
	if g.past() {
		return answer{}, tooLate(p.op)
	}
	if err := ctx.Err(); err != nil {
		return answer{}, failed(p.op, "%w", err)
	}
	req, err := http.NewRequestWithContext(g.trace(ctx), http.MethodPost, p.url, nil)
	if err != nil {
		return answer{}, failed(p.op, "%w", err)
	}
	fillPost(req, p, tok)
	rt := c.transport
	if rt == nil {
		own := oneShot(c.tls(), c.proxy, g)
		defer own.CloseIdleConnections()
		rt = own
	}
	began := time.Now()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		e := c.lost(p.op, g, err)
		c.logCall(req, e, 0, began)
		return answer{}, e
	}
	defer resp.Body.Close()
	a, e := c.answered(p.op, resp, cancel)
	c.logCall(req, e, resp.StatusCode, began)
	return a, e
}

// fillPost sets body and headers. There is no GetBody, so that nothing in
// net/http can send the body twice.
func fillPost(req *http.Request, p post, tok *token) {
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(p.body)), int64(len(p.body))
	req.Header = http.Header{
		"X-Auth-Token": {tok.id}, "User-Agent": {userAgent},
		"Content-Type": {"application/json"}, "Accept": {"application/json"},
	}
	if p.requestID != "" {
		req.Header.Set("X-Openstack-Request-Id", p.requestID)
	}
}

// lost judges a POST that got no answer.
func (c *Client) lost(op string, g *guard, err error) *Error {
	e := &Error{Op: op, Cert: isCert(err), Executed: ExecutedMaybe, Err: err}
	sent := g.sent.Load()
	if c.transport != nil {
		sent = !neverSent(err)
	}
	if !sent {
		e.Executed = ExecutedNo
		e.TooLate = g.tripped.Load() || g.past()
	}
	return e
}

// answered reads the body, with its own limits: the status line alone decides
// whether the POST was accepted.
func (c *Client) answered(op string, resp *http.Response, cancel context.CancelFunc) (answer, *Error) {
	stop := time.AfterFunc(bodyTime, cancel)
	defer stop.Stop()
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, maxPostAnswer))
	a := answer{resp.StatusCode, resp.Header, body}
	if a.status == http.StatusAccepted || a.status == http.StatusOK {
		return a, nil
	}
	e := ParseAnswer(op, a.status, a.header, a.body)
	e.Message = c.keys.scrub(e.Message)
	if readErr != nil && e.Status == http.StatusBadRequest {
		e.Executed = ExecutedMaybe // the part we did not get may have said "busy"
	}
	return a, e
}
