package vbs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestRestorePostsWhatThePageSays(t *testing.T) {
	for flavour, path := range map[Flavour]string{
		"":            "/v3/" + projectID + "/native/backups/" + backupID + "/restore",
		FlavourCinder: "/v3/" + projectID + "/backups/" + backupID + "/restore",
	} {
		var got *http.Request
		var body []byte
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body)
			cinder(w, 202, restored)
		})
		a, err := s.open(Options{Flavour: flavour}).Restore(context.Background(), aPost())
		if err != nil {
			t.Fatal(err)
		}
		want := Accepted{Status: 202, VolumeID: volumeID, VolumeName: "seed-000", RequestID: requestUp, CloudTime: a.CloudTime}
		if diff := cmp.Diff(want, a); diff != "" {
			t.Error(diff)
		}
		if a.CloudTime.IsZero() {
			t.Error("the Date header was lost")
		}
		if got.Method != "POST" || got.RequestURI != path {
			t.Errorf("sent %s %s, want POST %s", got.Method, got.RequestURI, path)
		}
		if diff := cmp.Diff(`{"restore":{"volume_id":"`+volumeID+`"}}`, string(body)); diff != "" {
			t.Error(diff)
		}
		header := http.Header{
			"X-Auth-Token": {"token-1"}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
			"User-Agent": {"vbsrestore"}, "X-Openstack-Request-Id": {requestIn}, "Content-Length": {"64"}, "Connection": {"close"},
		}
		if diff := cmp.Diff(header, got.Header); diff != "" {
			t.Error(diff)
		}
		if !got.Close || got.ProtoMajor != 1 {
			t.Errorf("close %v, proto %s: want a connection of its own, HTTP/1.1", got.Close, got.Proto)
		}
	}
}

// malformed is the example of the API's page, which lacks a comma.
const malformed = `{
    "restore": {
        "backup_id": "1d1139d8-8989-49d3-8aa1-83eb691e6db2", 
        "volume_id": "2748f2f2-4394-4e6e-af8d-8dd34496c024"
        "volume_name": "test_volume"
    }
}`

func TestGoodAnswersAreAcceptedWhateverTheirBody(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		want       Accepted
	}{
		{"the page's example", malformed, 202, Accepted{VolumeName: "test_volume", Malformed: true}},
		{"202 and nothing", "", 202, Accepted{Malformed: true}},
		{"202 and null", "null", 202, Accepted{Malformed: true}},
		{"202 and a list", "[1]", 202, Accepted{Malformed: true}},
		{"202 and HTML", "<html>ok</html>", 202, Accepted{Malformed: true}},
		{"202 with volume_name null", `{"restore": {"volume_id": "v", "volume_name": null}}`, 202, Accepted{VolumeID: "v"}},
		{"202 with a number for a name", `{"restore": {"volume_id": "v", "volume_name": 7}}`, 202, Accepted{VolumeID: "v", VolumeName: "7"}},
		{"202 with a job", `{"job_id": "70a599e0"}`, 202, Accepted{JobID: "70a599e0"}},
		{"200 with a job", `{"job_id": "70a599e0"}`, 200, Accepted{JobID: "70a599e0"}},
		{"200 with a restore", restored, 200, Accepted{VolumeID: volumeID, VolumeName: "seed-000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, tt.status, tt.body) })
			got, err := s.open(Options{}).Restore(context.Background(), aPost())
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Status, tt.want.RequestID, tt.want.CloudTime = tt.status, requestUp, got.CloudTime
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOther2xxProveNothing(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		code   string
	}{
		{200, "<html>login</html>", ""},
		{200, "{}", ""},
		{200, `{"error": {"message": "busy", "code": "VBS.0206"}}`, "VolumeBackup.0206"},
		{201, restored, ""},
		{204, "", ""},
	} {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, tt.status, tt.body) })
		_, err := s.open(Options{}).Restore(context.Background(), aPost())
		e := asError(t, err)
		if e.Status != tt.status || e.Executed != ExecutedMaybe || e.Code != tt.code {
			t.Errorf("%d %s: got %+v", tt.status, tt.body, e)
		}
	}
}

func TestEndlessBodyOf202IsAcceptedFromItsStatusLine(t *testing.T) {
	for name, piece := range map[string]string{"flood": strings.Repeat("x", 4<<10), "drip": ""} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				io.Copy(io.Discard, r.Body) // from then on the server sees a closed connection
				w.WriteHeader(202)
				flusher := w.(http.Flusher)
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, piece); err != nil {
						return
					}
					flusher.Flush()
					if piece == "" {
						<-r.Context().Done()
					}
				}
			})
			c := s.open(Options{})
			p := aPost()
			p.NotAfter = time.Now().Add(2 * time.Second)
			a, err := c.Restore(context.Background(), p)
			if err != nil || !a.Malformed {
				t.Errorf("got %+v, %v", a, err)
			}
			<-ended // and the connection is given up
		})
	}
}

func TestHugeErrorBodyIsCutOff(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(504)
		io.WriteString(w, strings.Repeat("<p>gateway time-out</p>", 1<<20))
	})
	_, err := s.open(Options{}).Restore(context.Background(), aPost())
	e := asError(t, err)
	if e.Status != 504 || e.Executed != ExecutedMaybe || len([]rune(e.Message)) > maxMessage {
		t.Errorf("got %d, %s, message of %d", e.Status, e.Executed, len(e.Message))
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/v3/elsewhere")
			w.WriteHeader(status)
		})
		c := s.open(Options{})
		_, err := c.Restore(context.Background(), aPost())
		if e := asError(t, err); e.Status != status || e.Executed != ExecutedNo {
			t.Errorf("restore: got %+v", e)
		}
		_, err = c.Volume(context.Background(), volumeID)
		if e := asError(t, err); e.Status != status {
			t.Errorf("read: got %+v", e)
		}
		if _, calls := s.counts(); calls != 2 {
			t.Errorf("%d: %d requests, want 2", status, calls)
		}
	}
}

// raw is a server below HTTP: it reads a request and then does as told.
func raw(t *testing.T, then func(conn net.Conn)) (address string, requests *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 64<<10)
			if n, _ := conn.Read(buffer); n > 0 {
				requests.Add(1)
			}
			then(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String(), requests
}

func TestConnectionsThatBreak(t *testing.T) {
	tests := []struct {
		name string
		then func(net.Conn)
	}{
		{"closed without an answer", func(net.Conn) {}},
		{"reset without an answer", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }},
		{"half a status line", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 20") }},
		{"half the headers", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Ty") }},
		{"no HTTP", func(c net.Conn) { io.WriteString(c, "220 smtp ready\r\n") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, requests := raw(t, tt.then)
			c := newServer(t, nil).open(Options{BackupEndpoint: address})
			_, err := c.Restore(context.Background(), aPost())
			e := asError(t, err)
			if e.Status != 0 || e.Executed != ExecutedMaybe || e.Answerer != Nobody || e.TooLate {
				t.Errorf("got %+v", e)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests, want one", n)
			}
		})
	}
}

func TestAnswersWithoutLengthEndWithTheConnection(t *testing.T) {
	address, _ := raw(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nx-compute-request-id: "+requestUp+"\r\nConnection: close\r\n\r\n"+restored)
	})
	a, err := newServer(t, nil).open(Options{BackupEndpoint: address}).Restore(context.Background(), aPost())
	if err != nil || a.Malformed || a.VolumeName != "seed-000" || a.RequestID != requestUp || !a.CloudTime.IsZero() {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestBrokenBodyOf400MayHaveSaidBusy(t *testing.T) {
	address, _ := raw(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{\"badRequest\": {\"code\": 400, \"mess")
	})
	_, err := newServer(t, nil).open(Options{BackupEndpoint: address}).Restore(context.Background(), aPost())
	if e := asError(t, err); e.Status != 400 || e.Executed != ExecutedMaybe {
		t.Errorf("got %+v", e)
	}
}

func TestWhatNeverLeftIsNotExecuted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + l.Addr().String()
	l.Close()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = quiet()
	tlsServer.StartTLS()
	defer tlsServer.Close()
	notTLS, _ := raw(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	tests := []struct {
		name, endpoint string
		cert           bool
	}{
		{"nobody listens", refused, false},
		{"no such host", "http://vbs.invalid", false},
		{"an unknown authority", tlsServer.URL, true},
		{"TLS is spoken to a plain server", strings.Replace(notTLS, "http:", "https:", 1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newServer(t, nil).open(Options{BackupEndpoint: tt.endpoint})
			_, err := c.Restore(context.Background(), aPost())
			e := asError(t, err)
			if e.Executed != ExecutedNo || e.Cert != tt.cert || e.TooLate || e.Status != 0 {
				t.Errorf("got %+v (%v)", e, e)
			}
		})
	}
}

func TestIDsThatWouldChangeTheURLAreRefused(t *testing.T) {
	s := newServer(t, nil)
	c := s.open(Options{})
	for _, id := range []string{"", ".", "..", "a/b", "a?b", "a%2Fb", "a b", "a\nb", strings.Repeat("a", 256)} {
		p := aPost()
		p.BackupID = id
		_, err := c.Restore(context.Background(), p)
		if e := asError(t, err); e.Executed != ExecutedNo {
			t.Errorf("backup %q: %+v", id, e)
		}
		p = aPost()
		p.VolumeID = id
		if _, err := c.Restore(context.Background(), p); err == nil {
			t.Errorf("volume %q was sent", id)
		}
		if _, err := c.Volume(context.Background(), id); err == nil {
			t.Errorf("volume %q was read", id)
		}
		if err := c.DeleteVolume(context.Background(), id); err == nil {
			t.Errorf("volume %q was deleted", id)
		}
	}
	p := aPost()
	p.RequestID = "req-1\r\nX-Evil: 1"
	if _, err := c.Restore(context.Background(), p); err == nil {
		t.Error("a header was smuggled")
	}
	if _, calls := s.counts(); calls != 0 {
		t.Errorf("%d requests left", calls)
	}
}

func TestDeadlineGuardByEitherClock(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name     string
		notAfter time.Time
	}{
		{"zero", time.Time{}},
		{"both clocks", now.Add(-time.Millisecond)},
		{"no monotonic reading", now.Add(-time.Millisecond).Round(0)},
		{"the wall clock alone: a laptop slept", apart(t, now.Add(time.Hour), 0, -2*time.Hour)},
		{"the monotonic clock alone: the wall clock was set back", apart(t, now.Add(time.Hour), -2*time.Hour, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, nil)
			p := aPost()
			p.NotAfter = tt.notAfter
			_, err := s.open(Options{}).Restore(context.Background(), p)
			e := asError(t, err)
			if !e.TooLate || e.Executed != ExecutedNo || !errors.Is(err, errTooLate) {
				t.Errorf("got %+v", e)
			}
			if _, calls := s.counts(); calls != 0 {
				t.Error("it left")
			}
		})
	}
}

// apart moves the two readings of a time separately, as sleeping laptops and
// people who set clocks do with those of now. Package time has no way to say so.
func apart(t *testing.T, at time.Time, monotonic, wall time.Duration) time.Time {
	t.Helper()
	now, before := time.Now(), at
	inside := (*struct {
		wall uint64 // with a monotonic reading: seconds above 30 bits of nanoseconds
		ext  int64  // the monotonic reading
	})(unsafe.Pointer(&at))
	inside.ext += int64(monotonic)
	inside.wall += uint64(int64(wall/time.Second) << 30)
	if at.Sub(now) != before.Sub(now)+monotonic || at.Round(0).Sub(before.Round(0)) != wall {
		t.Fatal("this Go keeps the readings of a time.Time differently")
	}
	return at
}

func TestLeftTakesTheShorterClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Minute)
		if d := left(until); d != time.Minute {
			t.Errorf("both readings: %v", d)
		}
		if d := left(until.Round(0)); d != time.Minute {
			t.Errorf("wall alone: %v", d)
		}
		time.Sleep(2 * time.Minute)
		if d := left(until); d != -time.Minute {
			t.Errorf("afterwards: %v", d)
		}
	})
}

// TestGuardTripsBetweenDialAndWrite lets time pass between the accepted
// connection and the first byte: nothing of the request may reach the server.
func TestGuardTripsBetweenDialAndWrite(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	g := &guard{notAfter: soon()}
	conn := &guardedConn{Conn: ours, guard: g}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if g.sent.Load() {
		t.Error("bytes of the handshake counted as the request")
	}
	g.armed.Store(true)
	g.notAfter = time.Now()
	if _, err := conn.Write([]byte("POST")); !errors.Is(err, errTooLate) {
		t.Errorf("got %v", err)
	}
	if !g.tripped.Load() || g.sent.Load() {
		t.Errorf("tripped %v, sent %v", g.tripped.Load(), g.sent.Load())
	}
	g.notAfter = soon()
	if _, err := conn.Write([]byte("!")); err != nil || !g.sent.Load() {
		t.Errorf("got %v, sent %v", err, g.sent.Load())
	}
	ours.Close()
	if b := string(<-got); b != "hello!" {
		t.Errorf("the server read %q", b)
	}
}

// TestGuardStopsTheWholeTransport runs the real transport against a listener
// that accepts, with a deadline that passes while the connection is made.
func TestGuardStopsTheWholeTransport(t *testing.T) {
	address, requests := raw(t, func(net.Conn) {})
	c := newServer(t, nil).open(Options{BackupEndpoint: address})
	u, _ := url.Parse(address)
	g := &guard{notAfter: soon()}
	rt := oneShot(c.tls(), func(*http.Request) (*url.URL, error) {
		g.notAfter = time.Now() // the last moment before dialling
		return nil, nil
	}, g)
	req, err := http.NewRequestWithContext(g.trace(context.Background()), "POST", u.String(), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.RoundTrip(req)
	if err == nil {
		t.Fatal("it was answered")
	}
	e := c.lost("restore", g, err)
	if !e.TooLate || e.Executed != ExecutedNo || !g.tripped.Load() || !g.armed.Load() {
		t.Errorf("got %+v, tripped %v, armed %v", e, g.tripped.Load(), g.armed.Load())
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestGuardCountsTheTLSHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &guard{notAfter: time.Now().Add(-time.Second)}
	rt := oneShot(&tls.Config{}, nil, g)
	req, _ := http.NewRequest("POST", "https://"+l.Addr().String(), nil)
	if _, err := rt.RoundTrip(req); !errors.Is(err, errTooLate) {
		t.Errorf("got %v", err)
	}
	if !g.tripped.Load() || g.armed.Load() || g.sent.Load() {
		t.Error("the handshake was let through")
	}
}

// transportFunc is a cloud without sockets.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// overTransport sends logins to the server and everything else to f.
func overTransport(s *cloudServer, f transportFunc) Options {
	return Options{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/auth/tokens") {
			own := &http.Transport{DisableKeepAlives: true}
			return own.RoundTrip(r)
		}
		return f(r)
	})}
}

func TestErrorsOfAGivenTransport(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
	tests := []struct {
		name string
		err  error
		want Executed
	}{
		{"refused", syscall.ECONNREFUSED, ExecutedNo},
		{"dial", dial, ExecutedNo},
		{"dns", &net.DNSError{Name: "vbs.invalid", IsNotFound: true}, ExecutedNo},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, ExecutedMaybe},
		{"EOF", io.EOF, ExecutedMaybe},
		{"anything", errors.New("anything"), ExecutedMaybe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, nil)
			o := overTransport(s, func(*http.Request) (*http.Response, error) { return nil, tt.err })
			_, err := s.open(o).Restore(context.Background(), aPost())
			if e := asError(t, err); e.Executed != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestWaitingForTheAnswerEndsAtTheDeadline(t *testing.T) {
	ended := make(chan struct{})
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(ended)
	})
	p := aPost()
	p.NotAfter = time.Now().Add(200 * time.Millisecond)
	_, err := s.open(Options{}).Restore(context.Background(), p)
	e := asError(t, err)
	if e.Executed != ExecutedMaybe || e.TooLate || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %+v", e)
	}
	<-ended
}

func TestACancelledContextSendsNothing(t *testing.T) {
	s := newServer(t, nil)
	c := s.open(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Restore(ctx, aPost())
	if e := asError(t, err); e.Executed != ExecutedNo || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v", e)
	}
	if _, calls := s.counts(); calls != 0 {
		t.Error("it left")
	}
}

func ExampleClient_Restore() {
	cloud := &cloudServer{answer: func(w http.ResponseWriter, _ *http.Request) {
		cinder(w, 202, `{"restore": {"backup_id": "b1", "volume_id": "v1", "volume_name": "database"}}`)
	}}
	cloud.login = cloud.token
	cloud.Server = httptest.NewServer(cloud)
	defer cloud.Close()

	access, err := LoadCloud("", cloud.sources())
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := Open(context.Background(), access, Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	accepted, err := client.Restore(context.Background(), Post{
		BackupID: "b1", VolumeID: "v1", NotAfter: time.Now().Add(time.Minute),
	})
	fmt.Println(accepted.Status, accepted.VolumeName, err)
	// Output: 202 database <nil>
}
