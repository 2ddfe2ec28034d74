package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/simulator"
)

// exchange is one recorded request with what Cinder 21.3 and Keystone 22.0 answered,
// in testdata/*.json. Ids are written {p} (project), {v1} … {v4}, {b1}, {b2},
// {base}, {token}, {last} (request id of the last restore of the set-up). In
// expected JSON "*" is anything, "<time>", "<uuid>" and "<req>" are forms.
type exchange struct {
	Name        string            `json:"name"`
	Setup       [][]any           `json:"setup"`
	Token       *string           `json:"token"`
	Send        [2]string         `json:"send"`
	HeadersSent map[string]string `json:"headers_sent"`
	Body        json.RawMessage   `json:"body"`
	Text        string            `json:"text"`

	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Absent    []string          `json:"absent"`
	NotEchoed string            `json:"not_echoed"`
	JSON      any               `json:"json"`
	Contains  string            `json:"contains"`
}

var conformanceIDs = map[string]string{
	"{p}":  project,
	"{v1}": "11111111-0000-4000-8000-000000000001", "{v2}": "22222222-0000-4000-8000-000000000002",
	"{v3}": "33333333-0000-4000-8000-000000000003", "{v4}": "44444444-0000-4000-8000-000000000004",
	"{b1}": "bbbbbbbb-0000-4000-8000-000000000001", "{b2}": "bbbbbbbb-0000-4000-8000-000000000002",
}

func TestConformance(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded exchanges: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []exchange
		if err := json.Unmarshal(text, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, e := range list {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json")+"/"+e.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { e.replay(t, inside) })
				synctest.Test(t, func(t *testing.T) { e.replay(t, piped) })
			})
		}
	}
}

func (e exchange) replay(t *testing.T, door func(testing.TB, *simulator.Cloud) *desk) {
	c := newCloud(t, simulator.Config{})
	world(c)
	d := door(t, c)
	words := map[string]string{"{base}": d.base, "{token}": d.token}
	for k, v := range conformanceIDs {
		words[k] = v
	}
	for _, act := range e.Setup {
		perform(t, d, words, act)
	}
	if e.Token != nil {
		d.token = *e.Token
	}
	headers := map[string]string{}
	for k, v := range e.HeadersSent {
		headers[k] = fill(words, v)
	}
	body := fill(words, e.Text+string(e.Body))
	r := d.send(t.Context(), e.Send[0], fill(words, e.Send[1]), body, headers)
	if r.err != nil {
		t.Fatal(r.err)
	}
	e.compare(t, r, words)
}

// world is the cloud the recordings were made in: four volumes, two backups.
func world(c *simulator.Cloud) {
	hour := time.Hour
	at := func(h int) time.Time { return time.Now().Add(time.Duration(-h) * hour) }
	add := func(key, name string, gib, age int, server string) {
		c.AddVolume(simulator.Volume{ID: conformanceIDs[key], Name: name, SizeGiB: gib, ServerID: server, Created: at(age), Updated: at(age)})
	}
	add("{v1}", "seed-000", 1, 9, "")
	add("{v2}", "two-gib", 2, 8, "")
	add("{v3}", "one-gib", 1, 7, "")
	add("{v4}", "inuse", 1, 6, "11111111-2222-3333-4444-555555555555")
	c.AddBackup(simulator.Backup{ID: conformanceIDs["{b1}"], Name: "bak-000", VolumeID: conformanceIDs["{v1}"], Created: at(5), Updated: at(5)})
	c.AddBackup(simulator.Backup{ID: conformanceIDs["{b2}"], Name: "bak-two-gib", VolumeID: conformanceIDs["{v2}"], Created: at(4), Updated: at(4)})
}

// perform does one line of a set-up.
func perform(t *testing.T, d *desk, words map[string]string, act []any) {
	arg := func(i int) string { return fmt.Sprint(act[i]) }
	id := func(i int) string { return words["{"+arg(i)+"}"] }
	switch arg(0) {
	case "restore":
		r := d.restore(simulator.Pair{BackupID: id(1), VolumeID: id(2)})
		words["{last}"] = r.header.Get("X-Openstack-Request-Id")
	case "wait":
		took, err := time.ParseDuration(arg(1))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(took)
	case "fault":
		f := simulator.Fault{Kind: simulator.Kind(arg(2))}
		if len(act) > 3 {
			f.Status = int(act[3].(float64))
		}
		d.cloud.Script(arg(1), f)
	case "expire":
		d.cloud.ExpireTokens()
	case "kill":
		d.cloud.KillBackupService()
	case "start":
		d.cloud.StartBackupService()
	case "reset volume":
		d.cloud.ResetVolume(id(1), arg(2))
	case "reset backup":
		d.cloud.ResetBackup(id(1), arg(2))
	default:
		t.Fatalf("unknown act %q", act)
	}
}

func fill(words map[string]string, text string) string {
	for k, v := range words {
		text = strings.ReplaceAll(text, k, v)
	}
	return text
}

func (e exchange) compare(t *testing.T, r reply, words map[string]string) {
	t.Helper()
	if r.status != e.Status {
		t.Fatalf("status %d, want %d; body %s", r.status, e.Status, r.body)
	}
	if !r.closed || r.length != -1 && r.status != 204 {
		// net/http shows "Connection: close" only so.
		t.Errorf("connection kept (%v) or length told (%d)", !r.closed, r.length)
	}
	for name, want := range e.Headers {
		if got := r.header.Get(name); !matches(fill(words, want), got) {
			t.Errorf("header %s is %q, want %q", name, got, fill(words, want))
		}
	}
	for _, name := range e.Absent {
		if got, ok := r.header[name]; ok {
			t.Errorf("header %s is %q, want none", name, got)
		}
	}
	if a, b := r.header.Get("X-Compute-Request-Id"), r.header.Get("X-Openstack-Request-Id"); a != "" && a != b {
		t.Errorf("request ids differ: %q and %q", a, b)
	}
	if e.NotEchoed != "" && strings.Contains(fmt.Sprint(r.header), e.NotEchoed) {
		t.Errorf("%s is echoed in %v", e.NotEchoed, r.header)
	}
	if !strings.Contains(r.body, e.Contains) {
		t.Errorf("body lacks %q: %s", e.Contains, r.body)
	}
	if e.JSON != nil {
		e.compareJSON(t, r.body, words)
	} else if e.Contains == "" && r.body != "" {
		t.Errorf("body is %q, want none", r.body)
	}
}

func (e exchange) compareJSON(t *testing.T, body string, words map[string]string) {
	t.Helper()
	var got, want any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	text, err := json.Marshal(e.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(fill(words, string(text))), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, blank(want, got)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

var forms = map[string]*regexp.Regexp{
	"<time>": regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.0{6}$`),
	"<uuid>": regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"<req>":  regexp.MustCompile(`^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
}

func matches(want, got string) bool {
	if form, ok := forms[want]; ok {
		return form.MatchString(got)
	}
	return want == got || want == "*" && got != ""
}

// blank puts the wildcards of want into got where they fit.
func blank(want, got any) any {
	switch w := want.(type) {
	case string:
		s, ok := got.(string)
		if ok && matches(w, s) || w == "*" && got != nil {
			return w
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			for k := range g {
				g[k] = blank(w[k], g[k])
			}
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range g {
				g[i] = blank(w[i], g[i])
			}
		}
	}
	return got
}

// piped sits at the door of a server, over pipes: HTTP on the wire, in virtual
// time.
func piped(t testing.TB, c *simulator.Cloud) *desk {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: c}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: l.dial}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	d := &desk{t: t, cloud: c, http: client, base: "http://cloud.test", overPipe: true}
	d.login()
	return d
}

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
