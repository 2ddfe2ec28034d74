package vbs

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

const (
	projectID = "3214c5e70ef94f88acc1e075c3c27dec"
	backupID  = "fdde5c45-f3e9-48f5-b41d-2bb19301502c"
	volumeID  = "979ebbe9-16b9-4295-a0a4-7d3637908674"
	requestIn = "req-00000000-0000-4000-8000-000000000001"
	requestUp = "req-877bf63c-2bf5-475a-9604-416220a1e5cd"
	password  = "restorer-pw-7f3a"
)

// cloudServer is a Keystone and whatever a test makes of the rest.
type cloudServer struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	logins int
	calls  []string // "POST /v3/…", tokens aside

	// login answers POST /v3/auth/tokens; the default is a token that lives an hour.
	login func(w http.ResponseWriter, r *http.Request, n int)
	// answer does everything else.
	answer http.HandlerFunc
}

func newServer(t *testing.T, answer http.HandlerFunc) *cloudServer {
	t.Helper()
	s := &cloudServer{t: t, answer: answer}
	s.login = s.token
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *cloudServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v3/auth/tokens" {
		s.mu.Lock()
		s.logins++
		n := s.logins
		s.mu.Unlock()
		s.login(w, r, n)
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, r.Method+" "+r.URL.RequestURI())
	s.mu.Unlock()
	s.answer(w, r)
}

// token is Keystone's answer; the n-th token is "token-n".
func (s *cloudServer) token(w http.ResponseWriter, _ *http.Request, n int) {
	s.tokenFor(w, n, time.Hour)
}

func (s *cloudServer) tokenFor(w http.ResponseWriter, n int, life time.Duration) {
	now := time.Now().UTC().Add(-3 * time.Hour) // the cloud's clock is its own
	w.Header().Set("X-Subject-Token", fmt.Sprintf("token-%d", n))
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"token": {"methods": ["password"], "issued_at": %q, "expires_at": %q, "project": {"id": %q, "name": "demo"},
		"catalog": [
			{"type": "identity", "name": "keystone", "endpoints": [{"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "%[4]s/v3"}]},
			{"type": "volumev3", "name": "cinderv3", "endpoints": [
				{"interface": "internal", "region": "RegionOne", "region_id": "RegionOne", "url": "http://internal.invalid/v3/%[3]s"},
				{"interface": "public", "region": "RegionTwo", "region_id": "RegionTwo", "url": "http://two.invalid/v3/%[3]s"},
				{"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "%[4]s/v3/%[3]s"}]}]}}`,
		now.Format("2006-01-02T15:04:05.000000Z"), now.Add(life).Format("2006-01-02T15:04:05.000000Z"), projectID, s.URL)
}

func (s *cloudServer) counts() (logins, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins, len(s.calls)
}

func (s *cloudServer) sources() Sources {
	return Sources{Clouds: fmt.Appendf(nil, `
clouds:
  demo:
    auth:
      auth_url: %s
      username: restorer
      password: %s
      project_name: demo
      user_domain_id: default
      project_domain_id: default
    region_name: RegionOne
`, s.URL, password)}
}

func (s *cloudServer) open(o Options) *Client {
	s.t.Helper()
	cloud, err := LoadCloud("demo", s.sources())
	if err != nil {
		s.t.Fatal(err)
	}
	if o.Log.GetLevel() == zerolog.Disabled {
		o.Log = zerolog.New(zerolog.NewTestWriter(s.t))
	}
	c, err := Open(context.Background(), cloud, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// cinder writes an answer as Cinder 21.3 does: request ids, Connection: close.
func cinder(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Compute-Request-Id", requestUp)
	h.Set("X-Openstack-Request-Id", requestUp)
	h.Set("OpenStack-API-Version", "volume 3.0")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

const (
	restored = `{"restore": {"backup_id": "` + backupID + `", "volume_id": "` + volumeID + `", "volume_name": "seed-000"}}`
	body401  = `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`
)

func soon() time.Time { return time.Now().Add(20 * time.Second) }

func aPost() Post {
	return Post{BackupID: backupID, VolumeID: volumeID, RequestID: requestIn, NotAfter: soon()}
}

// asError fails the test unless err is an Error.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := err.(*Error)
	if !ok {
		t.Fatalf("got %T (%v), want an *Error", err, err)
	}
	return e
}

func mustContain(t *testing.T, s, part string) {
	t.Helper()
	if !strings.Contains(s, part) {
		t.Errorf("%q does not contain %q", s, part)
	}
}

// quiet swallows what servers say about handshakes that are meant to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
