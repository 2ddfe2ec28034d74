package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/simulator"
)

func TestNoMoreThanTheCapacityWorkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Capacity: 15, MinDuration: 10 * time.Second})
		d := inside(t, c)
		start := time.Now()
		for range 40 {
			if r := d.restore(pair(c, 1)); r.status != 202 {
				t.Fatalf("%d %s", r.status, r.body)
			}
		}
		if r := d.must("GET", "/v3/{p}/volumes?status=restoring-backup", ""); strings.Count(r.body, `"name"`) != 40 {
			t.Errorf("the waiting ones do not say restoring-backup: %s", r.body)
		}
		time.Sleep(time.Minute)
		ends := map[time.Duration]int{}
		for _, e := range c.Executions() {
			ends[e.FinishedAt.Sub(start)]++
		}
		lag := 300 * time.Millisecond // a slot is free when the backup is written
		want := map[time.Duration]int{10 * time.Second: 15, 20*time.Second + lag: 15, 30*time.Second + 2*lag: 10}
		if diff := cmp.Diff(want, ends); diff != "" {
			t.Errorf("ended when (-want +got):\n%s", diff)
		}
	})
}

func TestWithoutCapacityAllWorkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Capacity: -1, Volumes: 100, GiBPerSecond: 200, MinDuration: -1})
		for _, p := range c.Pairs() {
			if err := c.ForeignRestore(p.VolumeID, p.BackupID); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for _, e := range c.Executions() {
			if e.Outcome != "available" || !e.Foreign {
				t.Fatalf("after a second: %+v", e)
			}
		}
	})
}

func TestWhatOtherPeopleDo(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*simulator.Cloud, simulator.Pair)
		want []string // statuses at once, after a minute; answer of a restore then
	}{
		{"nothing", func(*simulator.Cloud, simulator.Pair) {}, []string{"available/available", "available/available", "202"}},
		{"attach", func(c *simulator.Cloud, p simulator.Pair) { c.Attach(p.VolumeID, "s1") }, []string{"in-use/available", "in-use/available", "400"}},
		{"attach and detach", func(c *simulator.Cloud, p simulator.Pair) { c.Attach(p.VolumeID, "s1"); c.Detach(p.VolumeID) },
			[]string{"available/available", "available/available", "202"}},
		{"take a backup", func(c *simulator.Cloud, p simulator.Pair) { _, _ = c.ForeignBackup(p.VolumeID) },
			[]string{"backing-up/available", "available/available", "202"}},
		{"restore", func(c *simulator.Cloud, p simulator.Pair) { _ = c.ForeignRestore(p.VolumeID, p.BackupID) },
			[]string{"restoring-backup/restoring", "available/available", "202"}},
		{"reset the volume", func(c *simulator.Cloud, p simulator.Pair) { c.ResetVolume(p.VolumeID, "error") },
			[]string{"error/available", "error/available", "400"}},
		{"restore and reset the backup", func(c *simulator.Cloud, p simulator.Pair) {
			_ = c.ForeignRestore(p.VolumeID, p.BackupID)
			c.ResetBackup(p.BackupID, "error")
		}, []string{"restoring-backup/error", "error/available", "400"}},
		{"delete the volume", func(c *simulator.Cloud, p simulator.Pair) { c.DeleteVolume(p.VolumeID) }, []string{"/available", "/available", "404"}},
		{"delete the backup", func(c *simulator.Cloud, p simulator.Pair) { c.DeleteBackup(p.BackupID) }, []string{"available/", "available/", "404"}},
		{"restore and delete the volume", func(c *simulator.Cloud, p simulator.Pair) {
			_ = c.ForeignRestore(p.VolumeID, p.BackupID)
			c.DeleteVolume(p.VolumeID)
		}, []string{"/restoring", "/available", "404"}},
		{"restore while the service is dead, then start it", func(c *simulator.Cloud, p simulator.Pair) {
			c.KillBackupService()
			_ = c.ForeignRestore(p.VolumeID, p.BackupID)
			c.StartBackupService()
		}, []string{"error_restoring/available", "error_restoring/available", "400"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(t, simulator.Config{})
				d, p := inside(t, c), pair(c, 3)
				test.do(c, p)
				got := []string{rows(c, p)}
				time.Sleep(time.Minute)
				got = append(got, rows(c, p), fmt.Sprint(d.restore(p).status))
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// rows is the statuses of a pair, "" for what is gone.
func rows(c *simulator.Cloud, p simulator.Pair) string {
	var volume, backup string
	for _, v := range c.Volumes() {
		if v.ID == p.VolumeID {
			volume = v.Status
		}
	}
	for _, b := range c.Backups() {
		if b.ID == p.BackupID {
			backup = b.Status
		}
	}
	return volume + "/" + backup
}

func TestUpdatedAtMovesInWholeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		d, p := inside(t, c), pair(c, 1)
		if got := d.field("volumes", "volume", p.VolumeID, "updated_at"); got != "<nil>" {
			t.Errorf("updated_at of a volume never updated is %q, want null", got)
		}
		time.Sleep(1700 * time.Millisecond)
		c.TouchParent(p.BackupID)
		c.Rename(p.VolumeID, "new name")
		for _, got := range []string{d.field("volumes", "volume", p.VolumeID, "updated_at"), d.field("backups", "backup", p.BackupID, "updated_at")} {
			if got != "2000-01-01T00:00:01.000000" {
				t.Errorf("updated_at %q, want the second cut off", got)
			}
		}
		if got := d.field("volumes", "volume", p.VolumeID, "name") + " " + d.statuses(p); got != "new name available/available" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFractionalSecondsNoDateAndPike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Fractional: true, NoDate: true, Pike: true})
		d := inside(t, c)
		p, other := pair(c, 1), pair(c, 1)
		time.Sleep(1234567 * time.Microsecond)
		c.TouchParent(p.BackupID)
		if got := d.field("backups", "backup", p.BackupID, "updated_at"); got != "2000-01-01T00:00:01.234567" {
			t.Errorf("updated_at %q", got)
		}
		d.restore(simulator.Pair{BackupID: p.BackupID, VolumeID: other.VolumeID})
		time.Sleep(time.Minute)
		if got := d.field("volumes", "volume", other.VolumeID, "metadata"); got != "map[]" {
			t.Errorf("metadata %s: Pike notes no src_backup_id", got)
		}
		r := d.send(t.Context(), "GET", "/v3/{p}/messages", "", map[string]string{"OpenStack-API-Version": "volume latest"})
		if _, dated := r.header["Date"]; r.status != 404 || dated {
			t.Errorf("messages: %d, dated %v; want 404 without Date", r.status, dated)
		}
	})
}

func TestARestoreReplacesTheMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		v := c.AddVolume(simulator.Volume{Metadata: map[string]string{"kept": "yes", "src_backup_id": "an older note"}})
		p := simulator.Pair{VolumeID: v.ID, BackupID: c.AddBackup(simulator.Backup{VolumeID: v.ID}).ID}
		c.SetMetadata(v.ID, map[string]string{"lost": "yes"})
		d := inside(t, c)
		d.restore(p)
		time.Sleep(time.Minute)
		if diff := cmp.Diff(map[string]string{"kept": "yes"}, c.Volumes()[0].Metadata); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestVolumesAreCreatedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		d, p := inside(t, c), pair(c, 4)
		latest := map[string]string{"OpenStack-API-Version": "volume 3.47"}
		empty := d.send(t.Context(), "POST", "/v3/{p}/volumes", `{"volume":{"name":"empty","size":2}}`, nil)
		fromBackup := d.send(t.Context(), "POST", "/v3/{p}/volumes", `{"volume":{"name":"full","size":5,"backup_id":"`+p.BackupID+`"}}`, latest)
		ignored := d.send(t.Context(), "POST", "/v3/{p}/volumes", `{"volume":{"name":"trap","size":5,"backup_id":"`+p.BackupID+`"}}`, nil)
		small := d.send(t.Context(), "POST", "/v3/{p}/volumes", `{"volume":{"name":"small","size":3,"backup_id":"`+p.BackupID+`"}}`, latest)
		if got := []int{empty.status, fromBackup.status, ignored.status, small.status}; !slices.Equal(got, []int{202, 202, 202, 400}) {
			t.Fatalf("%v, want 202 202 202 400 (the backup is busy)", got)
		}
		if got := states(c); got != "empty creating, full creating, trap creating" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := states(c); got != "empty available, full creating, trap available" {
			t.Errorf("after 2 s: %s", got)
		}
		time.Sleep(3 * time.Second)
		if got := states(c); got != "empty available, full available, trap available" || len(c.Executions()) != 1 {
			t.Errorf("after 5 s: %s, %v", got, c.Executions())
		}
		for _, v := range c.Volumes() {
			d.must("DELETE", "/v3/{p}/volumes/"+v.ID, "")
		}
		r := d.must("DELETE", "/v3/{p}/backups/"+p.BackupID, "")
		time.Sleep(time.Second)
		if r.status != 202 || len(c.Volumes()) != 0 || len(c.Backups()) != 0 {
			t.Errorf("%d; left: %v %v", r.status, c.Volumes(), c.Backups())
		}
	})
}

// states names the volumes that were created by request, by name.
func states(c *simulator.Cloud) string {
	var out []string
	for _, v := range c.Volumes() {
		if !strings.HasPrefix(v.Name, "volume-") {
			out = append(out, v.Name+" "+v.Status)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestARestoreWithoutVolumeMakesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{})
		v := c.AddVolume(simulator.Volume{Name: "source"})
		b := c.AddBackup(simulator.Backup{VolumeID: v.ID})
		d := inside(t, c)
		start := time.Now()
		d.must("POST", "/v3/{p}/backups/"+b.ID+"/restore", `{"restore":{}}`)
		if took := time.Since(start); took != time.Second {
			t.Errorf("answered after %v, want a second", took)
		}
		time.Sleep(time.Minute)
		made := c.Volumes()[1]
		if made.Name != "source" || made.Metadata["src_backup_id"] != b.ID || made.Status != "available" {
			t.Errorf("made %+v", made)
		}
	})
}

func TestPagesHaveEveryRowOnce(t *testing.T) {
	c := newCloud(t, simulator.Config{Volumes: 25})
	d := inside(t, c)
	for _, sort := range []string{"", "&sort=name:asc", "&sort_key=size&sort_dir=desc", "&sort=updated_at"} {
		seen, marker := map[string]int{}, ""
		for range 4 {
			r := d.must("GET", "/v3/{p}/volumes?limit=8"+sort+marker, "")
			for part := range strings.SplitSeq(r.body, `{"id":"`) {
				if id, _, ok := strings.Cut(part, `"`); ok && len(id) == 36 {
					seen[id]++
					marker = "&marker=" + id
				}
			}
		}
		if len(seen) != 25 {
			t.Errorf("sort %q: %d volumes, want 25", sort, len(seen))
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("sort %q: %s came %d times", sort, id, n)
			}
		}
	}
	if r := d.must("GET", "/v3/{p}/volumes?sort=colour", ""); r.status != 400 {
		t.Errorf("an unknown sort key: %d", r.status)
	}
	if r := d.must("GET", "/v3/{p}/volumes?name=db-0007&status=available", ""); strings.Count(r.body, `"name"`) != 1 {
		t.Errorf("by name: %s", r.body)
	}
}

func TestTheTruthIsOnTheWire(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p := inside(t, c), pair(c, 1)
	d.restore(p)
	if r := d.must("GET", "/simulator/executions", ""); !strings.Contains(r.body, `[{"volume_id":"`+p.VolumeID+`","backup_id":"`+p.BackupID+`"`) {
		t.Errorf("executions: %s", r.body)
	}
	if r := d.must("GET", "/simulator/calls", ""); !strings.Contains(r.body, `"POST restore":1`) || c.Calls()["POST token"] != 1 {
		t.Errorf("calls: %s, %v", r.body, c.Calls())
	}
}

func TestFiftyClientsAtOnce(t *testing.T) {
	c := newCloud(t, simulator.Config{Volumes: 50, Capacity: -1, MinDuration: -1, GiBPerSecond: 1e9, BackupLag: -1, Journal: t.TempDir()})
	d := inside(t, c)
	var clients sync.WaitGroup
	for _, p := range c.Pairs() {
		clients.Go(func() {
			for range 10 {
				if r := d.restore(p); r.status != http.StatusAccepted || r.err != nil {
					t.Errorf("%d %s %v", r.status, r.body, r.err)
				}
				if got := d.statuses(p); got != "available/available" {
					t.Errorf("statuses %s", got)
				}
				d.must("GET", "/v3/{p}/volumes/detail?status=restoring-backup", "")
			}
		})
	}
	clients.Wait()
	if n := len(c.Executions()); n != 500 {
		t.Errorf("%d executions, want 500", n)
	}
}
