package main

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
)

// doubt is a restore in doubt, in a store and a cloud of its own.
type doubt struct {
	cloud    *simulator.Cloud
	pair     simulator.Pair
	settings settings
	env      env
	out      *bytes.Buffer
	id       string
}

func newDoubt(t *testing.T) *doubt {
	t.Helper()
	cloud, err := simulator.New(simulator.Config{Volumes: 1, Seed: 7, MinDuration: -1, GiBPerSecond: 1e9, BackupLag: -1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	t.Cleanup(func() {
		_ = cloud.Close()
		server.Close()
	})
	dir := t.TempDir()
	yaml := filepath.Join(dir, "clouds.yaml")
	if err := os.WriteFile(yaml, cloud.CloudsYAML(server.URL+"/v3"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &doubt{cloud: cloud, pair: cloud.Pairs()[0], settings: defaultSettings(), out: &bytes.Buffer{}, id: tasks.NewID()}
	d.settings.Store = "sqlite://" + filepath.Join(dir, "r.db")
	d.env = testEnv(d.out, map[string]string{"OS_CLIENT_CONFIG_FILE": yaml, "USER": "anna"})
	d.record(t)
	return d
}

// record brings a restore to in_doubt: claimed, then never heard of.
func (d *doubt) record(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	store, err := results.Open(ctx, d.settings.Store, results.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := tasks.Restore{ID: d.id, Cloud: "simulator", BackupID: d.pair.BackupID, VolumeID: d.pair.VolumeID}
	r.Normalize(time.Now())
	volume, backup := d.cloud.Volumes()[0], d.cloud.Backups()[0]
	_, err = store.EnsureCloud(ctx, "simulator")
	if err == nil {
		_, _, err = store.Record(ctx, r)
	}
	if err == nil {
		_, err = store.Claim(ctx, results.Claim{ID: r.ID, From: []results.State{results.Waiting}, Worker: "w", RequestID: "req-x", ObservedAt: store.Now(), PostTimeout: time.Minute,
			VolumeName: volume.Name, Before: results.Before{VolumeStatus: volume.Status, VolumeUpdated: volume.Updated.UTC().Truncate(time.Second),
				BackupStatus: backup.Status, BackupUpdated: backup.Updated.UTC().Truncate(time.Second)}})
	}
	if err == nil {
		_, err = store.Move(ctx, results.Move{ID: r.ID, From: []results.State{results.Posting}, Attempt: 1, To: results.InDoubt, Kind: "in doubt", Actor: "w", Reason: "nobody knows"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (d *doubt) resolve(ctx context.Context, as string) error {
	return runResolve(ctx, resolveOptions{as: as, actOptions: actOptions{settings: d.settings, ids: []string{d.id}, reason: "because"}}, d.env)
}

func TestTheSuggestionFollowsTheCloud(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(t *testing.T, d *doubt)
		want    string
	}{
		"nothing moved": {func(*testing.T, *doubt) {}, "--as retry"},
		"it was restored": {func(t *testing.T, d *doubt) {
			if err := d.cloud.ForeignRestore(d.pair.VolumeID, d.pair.BackupID); err != nil {
				t.Fatal(err)
			}
		}, "--as restored"},
		"it runs": {func(_ *testing.T, d *doubt) {
			d.cloud.ResetVolume(d.pair.VolumeID, "restoring-backup")
			d.cloud.ResetBackup(d.pair.BackupID, "restoring")
		}, "wait: the cloud is restoring"},
		"it failed": {func(_ *testing.T, d *doubt) {
			d.cloud.ResetVolume(d.pair.VolumeID, "error_restoring")
			d.cloud.TouchParent(d.pair.BackupID)
		}, "--as failed"},
		"the volume is gone": {func(_ *testing.T, d *doubt) { d.cloud.DeleteVolume(d.pair.VolumeID) }, "--as failed"},
		"the backup is gone": {func(_ *testing.T, d *doubt) { d.cloud.DeleteBackup(d.pair.BackupID) }, "--as retry"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubt(t)
			c.happens(t, d)
			if err := d.resolve(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(d.out.String(), c.want) {
				t.Errorf("no %q in\n%s", c.want, d.out)
			}
		})
	}
}

func TestARetryNeedsVolumeAndBackupAtRest(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(d *doubt)
		want    string // of the refusal; "" for none
	}{
		"at rest":            {func(*doubt) {}, ""},
		"volume at work":     {func(d *doubt) { d.cloud.ResetVolume(d.pair.VolumeID, "restoring-backup") }, "volume restoring-backup, backup available"},
		"volume attached":    {func(d *doubt) { d.cloud.Attach(d.pair.VolumeID, "s1") }, "volume in-use, attached, backup available"},
		"backup being read":  {func(d *doubt) { d.cloud.ResetBackup(d.pair.BackupID, "restoring") }, "backup restoring"},
		"volume gone":        {func(d *doubt) { d.cloud.DeleteVolume(d.pair.VolumeID) }, "volume gone"},
		"cloud out of reach": {func(d *doubt) { _ = d.cloud.Close() }, "retry needs a look at the cloud"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubt(t)
			c.happens(d)
			err := d.resolve(t.Context(), "retry")
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want == "":
				if !strings.Contains(d.out.String(), d.id+"  waiting  ") {
					t.Errorf("printed %q", d.out)
				}
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCancelSaysWhyItCannot(t *testing.T) {
	d := newDoubt(t)
	err := runAct(t.Context(), actOptions{settings: d.settings, ids: []string{d.id}, reason: "no"}, (*results.Store).Cancel, d.env)
	var act *results.ActError
	if !errors.As(err, &act) || exitCode(err) != exitConflict || !strings.Contains(hintOf(err), "restore resolve") {
		t.Errorf("got %v", err)
	}
}
