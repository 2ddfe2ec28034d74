package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
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

// cause is how a restore came to be in doubt.
type cause struct {
	class    string         // of the doubt
	project  string         // of the restore; "" for the cloud's
	answer   results.Answer // to its POST
	accepted bool           // it was accepted or adopted
	unposted bool           // the store knows of no POST
}

func newDoubt(t *testing.T, why cause) *doubt {
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
	d.record(t, why)
	return d
}

// record brings a restore to in_doubt: claimed, then never heard of.
func (d *doubt) record(t *testing.T, why cause) {
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
	m := results.Move{ID: r.ID, From: []results.State{results.Waiting}, To: results.InDoubt, Kind: "in doubt", Actor: "w", Reason: "nobody knows", FailClass: why.class}
	if err == nil && !why.unposted {
		m.From, m.Attempt, m.Answer, m.Accepted = []results.State{results.Posting}, 1, &why.answer, why.accepted
		_, err = store.Claim(ctx, results.Claim{ID: r.ID, From: []results.State{results.Waiting}, Worker: "w", RequestID: "req-x", ObservedAt: store.Now(), PostTimeout: time.Minute,
			ProjectID: cmp.Or(why.project, ourProject), VolumeName: volume.Name, Before: results.Before{VolumeStatus: volume.Status, VolumeUpdated: volume.Updated.UTC().Truncate(time.Second),
				BackupStatus: backup.Status, BackupUpdated: backup.Updated.UTC().Truncate(time.Second), CloudTime: volume.Created.Add(time.Second)}})
	}
	if err == nil {
		_, err = store.Move(ctx, m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (d *doubt) resolve(ctx context.Context, as string, force bool) error {
	return runResolve(ctx, resolveOptions{as: as, force: force, actOptions: actOptions{settings: d.settings, ids: []string{d.id}, reason: "because"}}, d.env)
}

// ourProject is the only one of a simulated cloud.
const ourProject = "5eed0000c10d4000a000000000000001"

func restored(t *testing.T, d *doubt) {
	t.Helper()
	if err := d.cloud.ForeignRestore(d.pair.VolumeID, d.pair.BackupID); err != nil {
		t.Fatal(err)
	}
}

func untouched(*testing.T, *doubt) {}

func runs(_ *testing.T, d *doubt) {
	d.cloud.ResetVolume(d.pair.VolumeID, "restoring-backup")
	d.cloud.ResetBackup(d.pair.BackupID, "restoring")
}

func broken(_ *testing.T, d *doubt) {
	d.cloud.ResetVolume(d.pair.VolumeID, "error_restoring")
	d.cloud.TouchParent(d.pair.BackupID)
}

// failedElsewhere is a restore that somebody's POST began and that failed, with a
// message of the cloud; an administrator has reset the volume since.
func failedElsewhere(t *testing.T, d *doubt) {
	t.Helper()
	d.cloud.Script("POST restore", simulator.Fault{Kind: simulator.AsyncFailure, Outcome: "error_restoring"})
	files, err := findClouds(d.env)
	if err != nil {
		t.Fatal(err)
	}
	login, err := files.load("simulator")
	if err != nil {
		t.Fatal(err)
	}
	client, err := d.settings.open(t.Context(), login, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Restore(t.Context(), vbs.Post{BackupID: d.pair.BackupID, VolumeID: d.pair.VolumeID, NotAfter: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	d.cloud.ResetVolume(d.pair.VolumeID, "available")
}

func TestTheSuggestionFollowsTheCloud(t *testing.T) {
	for name, c := range map[string]struct {
		why     cause
		happens func(t *testing.T, d *doubt)
		want    string
	}{
		"nothing moved":      {cause{}, untouched, "--as retry"},
		"it was restored":    {cause{}, restored, "--as restored"},
		"it runs":            {cause{}, runs, "wait: the cloud is restoring"},
		"it failed":          {cause{}, broken, "--as failed"},
		"the volume is gone": {cause{}, func(_ *testing.T, d *doubt) { d.cloud.DeleteVolume(d.pair.VolumeID) }, "--as failed"},
		"the backup is gone": {cause{}, func(_ *testing.T, d *doubt) { d.cloud.DeleteBackup(d.pair.BackupID) }, "--as retry"},

		"others moved it too":             {cause{class: "siblings"}, restored, "none: another restore or another backup moved meanwhile"},
		"others moved it, it looks whole": {cause{class: "siblings"}, untouched, "none: another restore or another backup moved meanwhile"},
		"others moved it, it runs":        {cause{class: "siblings"}, runs, "wait: the cloud is restoring"},
		"the store lost the POST":         {cause{class: "suspect", unposted: true}, untouched, "none: this store lost commits"},
		"the store lost a later POST":     {cause{class: "suspect"}, untouched, "none: this store lost commits"},

		"our failure":             {cause{accepted: true}, failedElsewhere, "--as failed"},
		"somebody else's failure": {cause{accepted: true, answer: results.Answer{Status: 202, Answerer: "cinder", RequestID: "req-ours"}}, failedElsewhere, "--as restored"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubt(t, c.why)
			c.happens(t, d)
			if err := d.resolve(t.Context(), "", false); err != nil {
				t.Fatal(err)
			}
			_, got, _ := strings.Cut(d.out.String(), "\nSuggestion\n")
			if !strings.Contains(got, c.want) || strings.Contains(got, "--as") != strings.HasPrefix(c.want, "--as") {
				t.Errorf("no %q in\n%s", c.want, d.out)
			}
		})
	}
}

// TestTheMessagesOfOthersAreNotOurs: only what the cloud tells about our own POST is shown.
func TestTheMessagesOfOthersAreNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		why  cause
		want int
	}{
		"ours by time":       {cause{}, 1},
		"not ours by id":     {cause{answer: results.Answer{Status: 202, Answerer: "cinder", RequestID: "req-ours"}}, 0},
		"nothing was POSTed": {cause{unposted: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubt(t, c.why)
			failedElsewhere(t, d)
			o := showOptions{settings: d.settings, output: output{format: "json"}, what: d.id}
			if err := runShow(t.Context(), o, d.env); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(d.out.String(), "Backup driver failed"); n != c.want {
				t.Errorf("%d messages, want %d, in\n%s", n, c.want, d.out)
			}
		})
	}
}

// TestAnotherProjectShowsNothing: with its credentials everything looks deleted.
func TestAnotherProjectShowsNothing(t *testing.T) {
	const says = "the credentials of cloud simulator are of project " + ourProject + ", this restore is of project 0123456789abcdef0123456789abcdef"
	d := newDoubt(t, cause{project: "0123456789abcdef0123456789abcdef"})
	if err := d.resolve(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	got := d.out.String()
	if !strings.Contains(got, says) || !strings.Contains(got, "none: look at the volume in the cloud") || strings.Contains(got, "does not exist") || strings.Contains(got, "--as") {
		t.Errorf("got\n%s", got)
	}
	if err := d.resolve(t.Context(), "retry", true); !errors.Is(err, results.ErrOtherProject) || exitCode(err) != exitConflict || !strings.Contains(err.Error(), says) {
		t.Errorf("retry: %v", err)
	}
}

// TestADecisionAgainstTheEvidenceNeedsForce: and with it, it is as the person says.
func TestADecisionAgainstTheEvidenceNeedsForce(t *testing.T) {
	for name, c := range map[string]struct {
		as      string
		why     cause
		happens func(t *testing.T, d *doubt)
		refused string // "" if it needs no force
		end     string
	}{
		"retry of what looks restored":       {"retry", cause{}, restored, "it looks restored", "waiting"},
		"retry of what looks untouched":      {"retry", cause{}, untouched, "", "waiting"},
		"retry after others moved it":        {"retry", cause{class: "siblings"}, restored, "", "waiting"},
		"retry after the store lost commits": {"retry", cause{class: "suspect", unposted: true}, restored, "", "waiting"},
		"restored, but looks untouched":      {"restored", cause{}, untouched, "as before the POST", "succeeded"},
		"restored, but looks failed":         {"restored", cause{}, broken, "the cloud says that it failed", "succeeded"},
		"restored, but runs":                 {"restored", cause{}, runs, "is restoring onto the volume right now", "succeeded"},
		"restored, and looks so":             {"restored", cause{}, restored, "", "succeeded"},
		"restored, and nobody can look":      {"restored", cause{}, func(_ *testing.T, d *doubt) { _ = d.cloud.Close() }, "", "succeeded"},
		"failed, though it looks restored":   {"failed", cause{}, restored, "", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoubt(t, c.why)
			c.happens(t, d)
			err := d.resolve(t.Context(), c.as, false)
			if c.refused != "" {
				if err == nil || exitCode(err) != exitConflict || !strings.Contains(err.Error(), c.refused) || !strings.Contains(hintOf(err), "--force") || d.out.Len() > 0 {
					t.Fatalf("got %v, printed %q; want %q", err, d.out, c.refused)
				}
				err = d.resolve(t.Context(), c.as, true)
			}
			if err != nil || !strings.Contains(d.out.String(), d.id+"  "+c.end+"  ") {
				t.Errorf("%v, printed %q", err, d.out)
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
			d := newDoubt(t, cause{})
			c.happens(d)
			err := d.resolve(t.Context(), "retry", true) // force does not help here
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
	d := newDoubt(t, cause{})
	err := runAct(t.Context(), actOptions{settings: d.settings, ids: []string{d.id}, reason: "no"}, (*results.Store).Cancel, d.env)
	var act *results.ActError
	if !errors.As(err, &act) || exitCode(err) != exitConflict || !strings.Contains(hintOf(err), "restore resolve") {
		t.Errorf("got %v", err)
	}
}
