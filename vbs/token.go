package vbs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

const (
	maxTokenAnswer = 8 << 20          // bytes; a catalog of a large cloud has some 100 KiB
	renewBefore    = 10 * time.Minute // of a token's end; at most a fifth of its life
	refusedPause   = 30 * time.Second // no login after a refused one: clouds lock accounts after a few
	failedPause    = time.Second      // no login after one that failed otherwise
)

// token is an answer of Keystone. It is never changed.
type token struct {
	id      string
	project string
	until   time.Time     // by our clock, both readings
	margin  time.Duration // renewed when less than this is left
	catalog []service
}

// keyring holds the token and renews it, one login at a time.
type keyring struct {
	url     string
	login   func() []byte   // the body with the password; a function, where no verb of fmt can reach
	hidden  func() []string // passwords, for scrub
	send    http.RoundTripper
	timeout time.Duration
	turn    chan struct{} // of capacity one: who may log in

	mu      sync.Mutex
	tok     *token
	err     *Error    // of the last login
	logins  int       // logins that ended
	retryAt time.Time // no login before
}

func newKeyring(auth gophercloud.AuthOptions, send http.RoundTripper, timeout time.Duration) (*keyring, error) {
	scope, err := auth.ToTokenV3ScopeMap()
	if err != nil {
		return nil, err
	}
	request, err := auth.ToTokenV3CreateMap(scope)
	if err != nil {
		return nil, err
	}
	login, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return &keyring{
		url: auth.IdentityEndpoint + "/auth/tokens", login: func() []byte { return login }, hidden: func() []string { return nil },
		send: send, timeout: timeout, turn: make(chan struct{}, 1),
	}, nil
}

// get returns a token that lives for a while. While Keystone is away it returns
// the old one to its end.
func (k *keyring) get(ctx context.Context) (*token, *Error) {
	tok := k.current()
	if tok != nil && left(tok.until) > tok.margin {
		return tok, nil
	}
	renewed, err := k.renew(ctx, tok)
	if err != nil && tok != nil && left(tok.until) > 0 && ctx.Err() == nil {
		return tok, nil
	}
	return renewed, err
}

func (k *keyring) current() *token {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tok
}

// renew replaces a token that is bad or old, unless someone else has just done
// so. Those who wait share the outcome.
func (k *keyring) renew(ctx context.Context, old *token) (*token, *Error) {
	k.mu.Lock()
	seen := k.logins
	k.mu.Unlock()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, failed(k.op(), "%w", ctx.Err())
	}
	k.mu.Lock()
	tok, err := k.tok, k.err
	recent := k.logins != seen || time.Now().Before(k.retryAt)
	k.mu.Unlock()
	switch {
	case tok != old && tok != nil:
		return tok, nil
	case err != nil && recent:
		return nil, err
	}
	tok, err = k.fetch(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, err // ended by our caller: that says nothing to the others
	}
	k.keep(tok, err)
	return tok, err
}

func (k *keyring) keep(tok *token, err *Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.logins++
	k.err, k.retryAt = err, time.Time{}
	switch {
	case err == nil:
		k.tok = tok
	case err.Status >= 400 && err.Status < 500:
		k.retryAt = time.Now().Add(refusedPause)
	default:
		k.retryAt = time.Now().Add(failedPause)
	}
}

func (k *keyring) op() string { return "get a token from " + k.url }

// fetch logs in.
func (k *keyring) fetch(ctx context.Context) (*token, *Error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url, bytes.NewReader(k.login()))
	if err != nil {
		return nil, failed(k.op(), "%w", err)
	}
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {userAgent},
	}
	began := time.Now()
	a, err := exchange(k.send, req, maxTokenAnswer)
	if err != nil {
		e := failed(k.op(), "%w", err)
		e.Cert = isCert(err)
		return nil, e
	}
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		e := ParseAnswer(k.op(), a.status, a.header, a.body)
		e.Answerer, e.Executed = Keystone, ExecutedNo
		e.Message = k.scrub(e.Message)
		return nil, e
	}
	tok, err := parseToken(a, began)
	if err != nil {
		e := failed(k.op(), "%w", err)
		e.Status, e.Answerer = a.status, Keystone
		return nil, e
	}
	return tok, nil
}

// parseToken reads Keystone's answer. How long the token lives is taken from
// the cloud's clock alone; ours need not agree with it.
func parseToken(a answer, began time.Time) (*token, error) {
	var body struct {
		Token struct {
			Expires moment `json:"expires_at"`
			Issued  moment `json:"issued_at"`
			Project struct {
				ID string `json:"id"`
			} `json:"project"`
			Catalog []service `json:"catalog"`
		} `json:"token"`
	}
	id := a.header.Get("X-Subject-Token")
	if err := json.Unmarshal(a.body, &body); err != nil || id == "" {
		return nil, errors.New("the answer holds no token")
	}
	t := body.Token
	if t.Project.ID == "" {
		return nil, errors.New("the token is for no project: name a project_id or project_name")
	}
	life := t.Expires.Sub(began)
	if !t.Issued.IsZero() {
		life = t.Expires.Sub(t.Issued.Time)
	}
	if t.Expires.IsZero() || life <= 0 {
		life = time.Hour // unknown: the cloud will say so when it has ended
	}
	return &token{
		id: id, project: t.Project.ID, catalog: t.Catalog,
		until: began.Add(life), margin: min(renewBefore, life/5),
	}, nil
}

// scrub removes the secrets we know from a stranger's text.
func (k *keyring) scrub(s string) string {
	hidden := k.hidden()
	if tok := k.current(); tok != nil {
		hidden = append(hidden, tok.id)
	}
	for _, h := range hidden {
		if len(h) >= 4 {
			s = strings.ReplaceAll(s, h, "[redacted]")
		}
	}
	return s
}

// left is how far away a moment of this process is, by the monotonic or the
// wall clock, whichever says less: the first stands still while a laptop
// sleeps, the second may be set back.
func left(until time.Time) time.Duration {
	now := time.Now()
	return min(until.Sub(now), until.Round(0).Sub(now.Round(0)))
}
