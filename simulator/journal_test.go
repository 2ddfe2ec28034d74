package simulator_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/simulator"
)

// killed opens the journal of a cloud that was never closed.
func killed(t *testing.T, cfg simulator.Config) *simulator.Cloud {
	t.Helper()
	c, err := simulator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheJournalSurvivesAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := simulator.Config{Journal: t.TempDir(), Volumes: 3, Capacity: 2, MinDuration: 10 * time.Second, GiBPerSecond: 1e9}
		first := killed(t, cfg)
		d, pairs := inside(t, first), first.Pairs()
		for _, p := range pairs {
			if r := d.restore(p); r.status != 202 {
				t.Fatalf("%d %s", r.status, r.body)
			}
		}
		late, deleted := pair(first, 1), pair(first, 1)
		first.Script("POST restore", simulator.Fault{Kind: simulator.Queue, After: 30 * time.Second})
		d.restore(late)
		first.DeleteVolume(deleted.VolumeID)
		first.DeleteBackup(deleted.BackupID)
		time.Sleep(5 * time.Second)
		before := first.Executions()

		second := killed(t, cfg)
		if diff := cmp.Diff(before, second.Executions()); diff != "" {
			t.Errorf("executions after the kill (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(first.Volumes(), second.Volumes()); diff != "" {
			t.Errorf("volumes after the kill (-want +got):\n%s", diff)
		}
		if got := rows(second, pairs[2]); got != "restoring-backup/restoring" {
			t.Errorf("the waiting one: %s", got)
		}
		time.Sleep(time.Hour)
		// The first cloud lives on in memory: what it comes to is what must come of
		// the journal, too. It is asked last, for it also writes.
		got, volumes := second.Executions(), second.Volumes()
		if diff := cmp.Diff(first.Executions(), got); diff != "" {
			t.Errorf("executions in the end (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(first.Volumes(), volumes); diff != "" || len(got) != 4 {
			t.Errorf("volumes in the end, %d executions (-want +got):\n%s", len(got), diff)
		}
	})
}

func TestTheJournalKeepsADeadServiceAndItsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := simulator.Config{Journal: t.TempDir()}
		first := killed(t, cfg)
		d, failed, stuck := inside(t, first), pair(first, 1), pair(first, 1)
		first.Script("POST restore", simulator.Fault{Kind: simulator.AsyncFailure})
		d.restore(failed)
		time.Sleep(time.Minute)
		d.restore(stuck)
		first.KillBackupService()

		second := killed(t, cfg)
		d = inside(t, second)
		time.Sleep(2 * time.Minute)
		if r := d.restore(pair(second, 1)); r.status != 404 {
			t.Errorf("a service that died before: %d %s", r.status, r.body)
		}
		messages := d.send(t.Context(), "GET", "/v3/{p}/messages?resource_uuid="+failed.BackupID, "", map[string]string{"OpenStack-API-Version": "volume 3.5"})
		second.StartBackupService()
		got := []string{rows(second, failed), rows(second, stuck)}
		if diff := cmp.Diff([]string{"error_restoring/available", "error_restoring/available"}, got); diff != "" || len(messages.body) < 100 {
			t.Errorf("messages %s; statuses (-want +got):\n%s", messages.body, diff)
		}
	})
}

func TestALineCutOffIsForgotten(t *testing.T) {
	cfg := simulator.Config{Journal: t.TempDir(), Volumes: 2}
	before := killed(t, cfg).Volumes()
	file := filepath.Join(cfg.Journal, "cloud.jsonl")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"no_volumes":["` + before[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, killed(t, cfg).Volumes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAJournalThatIsNoneIsAnError(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "cloud.jsonl"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := simulator.New(simulator.Config{Journal: folder}); err == nil {
		t.Error("no error")
	}
}

func TestIdsDoNotRepeatAfterARestart(t *testing.T) {
	cfg := simulator.Config{Journal: t.TempDir(), Seed: 5}
	first := killed(t, cfg).AddVolume(simulator.Volume{})
	if second := killed(t, cfg).AddVolume(simulator.Volume{}); first.ID == second.ID {
		t.Errorf("both %s", first.ID)
	}
}
