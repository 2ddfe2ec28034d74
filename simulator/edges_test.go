package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/simulator"
)

func TestMessagesOfTheSchemaQuoteAsPythonDoes(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p := inside(t, c), pair(c, 1)
	for body, want := range map[string]string{
		`{"restore": 5}`:                          "Invalid input for field/attribute restore. Value: 5. 5 is not of type 'object', 'null'",
		`{"restore": "it's"}`:                     `Invalid input for field/attribute restore. Value: it\'s. 'it\'s' is not of type 'object', 'null'`,
		`{"restore": [null, true, {"a": 1.5}]}`:   "Invalid input for field/attribute restore. Value: [None, True, {'a': 1.5}]. [None, True, {'a': 1.5}] is not of type 'object', 'null'",
		`{"restore": {"name": 5}}`:                "Invalid input for field/attribute name. Value: 5. 5 is not of type 'string', 'null'",
		`{"restore": {"b": 1, "a": false}}`:       "Invalid input for field/attribute restore. Value: {'b': 1, 'a': False}. Additional properties are not allowed ('b', 'a' were unexpected)",
		`{"restore": {}, "extra": 1}`:             "Additional properties are not allowed ('extra' was unexpected)",
		`{"restore": null}`:                       "The server has either erred or is incapable of performing the requested operation.",
		`[]`:                                      "Malformed request body",
		`{"restore": {"volume_id": "nonsense" } `: "Malformed request body",
	} {
		r := d.must("POST", "/v3/{p}/backups/"+p.BackupID+"/restore", body)
		var out map[string]struct{ Message string }
		if err := json.Unmarshal([]byte(r.body), &out); err != nil {
			t.Fatalf("%s: %q", body, r.body)
		}
		for _, fault := range out {
			if fault.Message != want {
				t.Errorf("%s:\n got %s\nwant %s", body, fault.Message, want)
			}
		}
	}
	if n := len(c.Executions()); n != 0 {
		t.Errorf("%d executions", n)
	}
}

func TestAVolumeIDNeedsNoHyphens(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p := inside(t, c), pair(c, 1)
	r := d.must("POST", "/v3/{p}/backups/"+p.BackupID+"/restore", restoreBody(strings.ReplaceAll(p.VolumeID, "-", "")))
	if r.status != 404 { // well-formed, but the database compares as text
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestTheServiceLooksAgainBeforeItStarts(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*simulator.Cloud, simulator.Pair)
		want    string
		message string
	}{
		{"the volume was reset", func(c *simulator.Cloud, p simulator.Pair) { c.ResetVolume(p.VolumeID, "available") },
			"error_restoring/available", "restore backup:Volume status is invalid."},
		{"the backup was deleted", func(c *simulator.Cloud, p simulator.Pair) { c.DeleteBackup(p.BackupID) }, "error/", ""},
		{"the volume was deleted", func(c *simulator.Cloud, p simulator.Pair) { c.DeleteVolume(p.VolumeID) },
			"/available", "restore backup:Volume status is invalid."},
		{"the backup was reset while it waited", func(c *simulator.Cloud, p simulator.Pair) { c.ResetBackup(p.BackupID, "available") }, "error/available", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t, simulator.Config{Capacity: 1})
				d, first, p := inside(t, c), pair(c, 5), pair(c, 1)
				d.restore(first)
				d.restore(p)
				test.change(c, p)
				time.Sleep(time.Minute)
				if got := rows(c, p); got != test.want {
					t.Errorf("statuses %s, want %s", got, test.want)
				}
				if got := rows(c, first); got != "available/available" {
					t.Errorf("the one in front: %s", got)
				}
				r := d.send(t.Context(), "GET", "/v3/{p}/messages", "", map[string]string{"OpenStack-API-Version": "volume 3.5"})
				if test.message == "" != (r.body == `{"messages":[]}`) || !strings.Contains(r.body, test.message) {
					t.Errorf("messages %s, want %q", r.body, test.message)
				}
			})
		})
	}
}

func TestRoundTripHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		d, p := inside(t, c), pair(c, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := d.send(ctx, "POST", "/v3/{p}/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID), nil)
		if !errors.Is(r.err, context.Canceled) || len(c.Executions()) != 0 {
			t.Errorf("%v, %d executions; want a request that never left", r.err, len(c.Executions()))
		}
	})
}

func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		d, p := inside(t, c), pair(c, 1)
		c.Script("POST restore", simulator.Fault{Kind: simulator.Hang})
		ended := make(chan error)
		go func() { ended <- d.restore(p).err }()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the hanging request: %v, want EOF", err)
		}
		if r := d.restore(p); !errors.Is(r.err, io.EOF) {
			t.Errorf("a request afterwards: %v, want EOF", r.err)
		}
	})
}

func TestCloudsYAML(t *testing.T) {
	c := newCloud(t, simulator.Config{User: "u", Password: "p"})
	want := `clouds:
  simulator:
    region_name: RegionOne
    auth:
      auth_url: "http://h:1/v3"
      username: "u"
      password: "p"
      project_id: "` + project + `"
      user_domain_name: Default
`
	if diff := cmp.Diff(want, string(c.CloudsYAML("http://h:1/v3"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheCatalogNamesTheBaseURL(t *testing.T) {
	c := newCloud(t, simulator.Config{BaseURL: "http://elsewhere:8776/"})
	d := inside(t, c)
	r := d.send(t.Context(), "GET", "/v3/auth/tokens", "", map[string]string{"X-Subject-Token": d.token})
	for _, want := range []string{`"type":"vbs"`, `"type":"volumev3"`, `"type":"block-storage"`, `"url":"http://elsewhere:8776/v3/` + project + `"`} {
		if r.status != 200 || !strings.Contains(r.body, want) {
			t.Errorf("%d, no %s in %s", r.status, want, r.body)
		}
	}
}

func TestTheWrongProjectGetsNoToken(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d := inside(t, c)
	r := d.must("POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","password":"demo"}}},"scope":{"project":{"id":"other"}}}}`)
	if r.status != 401 {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = d.must("POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","password":"demo"}}}}}`)
	d.token = r.header.Get("X-Subject-Token")
	if got := d.must("GET", "/v3/{p}/volumes", "").status; r.status != 201 || got != 401 {
		t.Errorf("without a scope: %d, then %d; want 201, then 401", r.status, got)
	}
}

func TestFaultsWithoutSenseAreRefused(t *testing.T) {
	_, err := simulator.New(simulator.Config{Faults: simulator.Faults{Rules: []simulator.Rule{{Match: "GET", P: 1}}}})
	if err == nil || !strings.Contains(err.Error(), "rule 1: unknown kind") {
		t.Errorf("New: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Script takes a fault without a kind")
		}
	}()
	newCloud(t, simulator.Config{}).Script("GET", simulator.Fault{})
}

func TestAJournalDoesNotGrowForEver(t *testing.T) {
	cfg := simulator.Config{Journal: t.TempDir()}
	c := newCloud(t, cfg)
	v := c.AddVolume(simulator.Volume{})
	for i := range 90 {
		c.SetMetadata(v.ID, map[string]string{"big": strings.Repeat("x", 1<<20), "n": strings.Repeat("n", i)})
	}
	info, err := os.Stat(filepath.Join(cfg.Journal, "cloud.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size() >> 20; size > 64 || size < 1 {
		t.Errorf("%d MiB after 90 MiB of changes, want at most 64", size)
	}
	if got := len(killed(t, cfg).Volumes()[0].Metadata["n"]); got != 89 {
		t.Errorf("after reopening: change %d, want the last", got)
	}
}

func TestWithoutItsJournalACloudPromisesNothing(t *testing.T) {
	cfg := simulator.Config{Journal: t.TempDir()}
	c, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, p := inside(t, c), pair(c, 1)
	c.BreakJournal()
	if r := d.restore(p); r.status != 500 {
		t.Errorf("%d %s, want 500", r.status, r.body)
	}
	if err := c.Close(); err == nil {
		t.Error("Close does not tell")
	}
}

func TestARestartEndsWhatIsStuckAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Capacity: 1})
		d, stuck, waiting := inside(t, c), pair(c, 1), pair(c, 1)
		c.Script("POST restore", simulator.Fault{Kind: simulator.Stuck})
		d.restore(stuck)
		d.restore(waiting)
		time.Sleep(time.Hour)
		got := []string{rows(c, stuck), rows(c, waiting)}
		c.StartBackupService()
		time.Sleep(time.Minute)
		got = append(got, rows(c, stuck), rows(c, waiting))
		want := []string{"restoring-backup/restoring", "restoring-backup/restoring", "error_restoring/available", "available/available"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
