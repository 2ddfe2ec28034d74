package simulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vbsrestore/vbsrestore/simulator"
)

const project = "5eed0000c10d4000a000000000000001"

// desk is a client at one of the doors.
type desk struct {
	t     testing.TB
	cloud *simulator.Cloud
	http  *http.Client
	base  string
	token string

	overPipe bool
}

func newCloud(t testing.TB, cfg simulator.Config) *simulator.Cloud {
	t.Helper()
	c, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// inside sits at the door without sockets.
func inside(t testing.TB, c *simulator.Cloud) *desk {
	t.Helper()
	d := &desk{t: t, cloud: c, http: &http.Client{Transport: c}, base: "http://cloud.test"}
	d.login()
	return d
}

// outside sits at the door of a real server.
func outside(t testing.TB, c *simulator.Cloud) *desk {
	t.Helper()
	s := httptest.NewServer(c)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(s.Close)
	t.Cleanup(client.CloseIdleConnections)
	d := &desk{t: t, cloud: c, http: client, base: s.URL}
	d.login()
	return d
}

// login gets a token, whatever faults are in the way.
func (d *desk) login() {
	d.t.Helper()
	var r reply
	for range 20 {
		r = d.must("POST", "/v3/auth/tokens", fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":
			{"name":"demo","domain":{"id":"default"},"password":"demo"}}},"scope":{"project":{"id":%q}}}}`, project))
		if r.status == 201 {
			d.token = r.header.Get("X-Subject-Token")
			return
		}
	}
	d.t.Fatalf("token: %d %s", r.status, r.body)
}

// reply is an answer read to its end, or the error.
type reply struct {
	status int
	header http.Header
	body   string
	length int64
	closed bool
	err    error
}

func (d *desk) send(ctx context.Context, method, path, body string, header map[string]string) reply {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, d.base+strings.ReplaceAll(path, "{p}", project), from)
	if err != nil {
		return reply{err: err}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Auth-Token", d.token)
	for k, v := range header {
		r.Header.Set(k, v)
		if v == "" {
			r.Header.Del(k)
		}
	}
	resp, err := d.http.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(text), resp.ContentLength, resp.Close, err}
}

func (d *desk) must(method, path, body string) reply {
	d.t.Helper()
	r := d.send(d.t.Context(), method, path, body, nil)
	if r.err != nil {
		d.t.Fatalf("%s %s: %v", method, path, r.err)
	}
	return r
}

func (d *desk) restore(p simulator.Pair) reply {
	return d.send(d.t.Context(), "POST", "/v3/{p}/native/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID), nil)
}

func restoreBody(volumeID string) string {
	return fmt.Sprintf(`{"restore":{"volume_id":%q}}`, volumeID)
}

// statuses is what both GETs say: "volume/backup".
func (d *desk) statuses(p simulator.Pair) string {
	d.t.Helper()
	return d.field("volumes", "volume", p.VolumeID, "status") + "/" + d.field("native/backups", "backup", p.BackupID, "status")
}

func (d *desk) field(collection, one, id, field string) string {
	d.t.Helper()
	r := d.must("GET", "/v3/{p}/"+collection+"/"+id, "")
	var out map[string]map[string]any
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		d.t.Fatalf("GET %s %s: %d %q", one, id, r.status, r.body)
	}
	return fmt.Sprint(out[one][field])
}

// pair adds a volume with a backup.
func pair(c *simulator.Cloud, gib int) simulator.Pair {
	v := c.AddVolume(simulator.Volume{SizeGiB: gib})
	b := c.AddBackup(simulator.Backup{VolumeID: v.ID})
	return simulator.Pair{BackupID: b.ID, VolumeID: v.ID}
}

func TestRestoreRunsFromRestoringToAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		d, p := inside(t, c), pair(c, 5)
		start := time.Now()
		r := d.send(t.Context(), "POST", "/v3/{p}/native/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID),
			map[string]string{"X-Openstack-Request-Id": "req-12345678-1234-4123-8123-123456789abc"})
		if r.status != 202 || !strings.Contains(r.body, `"volume_name":"volume-`) {
			t.Fatalf("POST: %d %s", r.status, r.body)
		}
		got := []string{d.statuses(p)}
		time.Sleep(5*time.Second - time.Nanosecond)
		got = append(got, d.statuses(p))
		time.Sleep(time.Nanosecond)
		got = append(got, d.statuses(p))
		time.Sleep(300 * time.Millisecond)
		got = append(got, d.statuses(p))
		want := []string{"restoring-backup/restoring", "restoring-backup/restoring", "available/restoring", "available/available"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		wantRuns := []simulator.Execution{{VolumeID: p.VolumeID, BackupID: p.BackupID,
			RequestID: "req-12345678-1234-4123-8123-123456789abc", CloudRequestID: r.header.Get("X-Openstack-Request-Id"),
			AcceptedAt: start.UTC(), FinishedAt: start.Add(5 * time.Second).UTC(), Outcome: "available"}}
		if diff := cmp.Diff(wantRuns, c.Executions(), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("executions (-want +got):\n%s", diff)
		}
	})
}
