package tasks

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	backupID = "2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"
	volumeID = "9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22"
	firstID  = "0198c0de-7a11-7bcd-8ef0-123456789abc"
)

var noon = time.Date(2026, 5, 14, 12, 0, 0, 123456789, time.UTC)

func newRestore() Restore {
	r := Restore{ID: firstID, Cloud: "prod", BackupID: backupID, VolumeID: volumeID}
	r.Normalize(noon)
	return r
}

func TestNormalizeFillsTheDefaults(t *testing.T) {
	r := Restore{Cloud: "prod", BackupID: strings.ToUpper(backupID), VolumeID: strings.ToUpper(volumeID)}
	r.Normalize(noon.In(time.FixedZone("", 7200)))
	if !isUUID(r.ID) || r.ID[14] != '7' {
		t.Errorf("ID %q is not a UUIDv7", r.ID)
	}
	asked := noon.Truncate(time.Microsecond)
	want := Restore{ID: r.ID, Cloud: "prod", BackupID: backupID, VolumeID: volumeID, Class: ClassDirect,
		AskedAt: asked, NotAfter: asked.Add(24 * time.Hour)}
	if diff := cmp.Diff(want, r); diff != "" || r.AskedAt.Location() != time.UTC {
		t.Errorf("normalized (-want +got):\n%s", diff)
	}
	again := r
	again.Normalize(noon.Add(time.Hour))
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("normalizing twice changed it:\n%s", diff)
	}
}

func TestNormalizeGivesSingleRestoresADayFromTheirStart(t *testing.T) {
	asked := noon.Truncate(time.Microsecond)
	for name, c := range map[string]struct {
		in   Restore
		want time.Time
	}{
		"urgent ends a day after it was asked for": {Restore{Class: ClassUrgent}, asked.Add(24 * time.Hour)},
		"a later start moves the end":              {Restore{NotBefore: asked.Add(72 * time.Hour)}, asked.Add(96 * time.Hour)},
		"a campaign has no end of its own":         {Restore{Class: ClassCampaign}, time.Time{}},
		"a drill has no end of its own":            {Restore{Class: ClassDrill}, time.Time{}},
		"a given end stays":                        {Restore{NotAfter: asked.Add(time.Hour)}, asked.Add(time.Hour)},
	} {
		c.in.Normalize(noon)
		if !c.in.NotAfter.Equal(c.want) {
			t.Errorf("%s: not after %v, want %v", name, c.in.NotAfter, c.want)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	many := map[string]string{}
	for i := range 33 {
		many[strings.Repeat("k", i+1)] = ""
	}
	for name, c := range map[string]struct {
		spoil func(*Restore)
		field string
	}{
		"no id":                 {func(r *Restore) { r.ID = "" }, "id"},
		"an id of another kind": {func(r *Restore) { r.ID = "restore-7" }, "id"},
		"no cloud":              {func(r *Restore) { r.Cloud = "" }, "cloud"},
		"a cloud with braces":   {func(r *Restore) { r.Cloud = "{prod}" }, "cloud"},
		"a cloud with a colon":  {func(r *Restore) { r.Cloud = "prod:in" }, "cloud"},
		"a cloud of 64 bytes":   {func(r *Restore) { r.Cloud = strings.Repeat("a", 64) }, "cloud"},
		"a trailing newline":    {func(r *Restore) { r.Cloud = "prod\n" }, "cloud"},
		"a short project":       {func(r *Restore) { r.ProjectID = "abc" }, "project_id"},
		"no backup":             {func(r *Restore) { r.BackupID = "" }, "backup_id"},
		"an upper-case volume":  {func(r *Restore) { r.VolumeID = strings.ToUpper(volumeID) }, "volume_id"},
		"a volume of 32 digits": {func(r *Restore) { r.VolumeID = strings.ReplaceAll(volumeID, "-", "") }, "volume_id"},
		"hyphens elsewhere":     {func(r *Restore) { r.VolumeID = strings.Repeat("-", 36) }, "volume_id"},
		"an unknown class":      {func(r *Restore) { r.Class = "vip" }, "class"},
		"never asked":           {func(r *Restore) { r.AskedAt = time.Time{} }, "asked_at"},
		"asked in 1999":         {func(r *Restore) { r.AskedAt = noon.AddDate(-27, 0, 0) }, "asked_at"},
		"starts in 2300":        {func(r *Restore) { r.NotAfter, r.NotBefore = time.Time{}, noon.AddDate(274, 0, 0) }, "not_before"},
		"ends before the start": {func(r *Restore) { r.NotBefore = r.NotAfter }, "not_after"},
		"ends as it is asked":   {func(r *Restore) { r.NotAfter = r.AskedAt }, "not_after"},
		"33 labels":             {func(r *Restore) { r.Labels = many }, "labels"},
		"an upper-case label":   {func(r *Restore) { r.Labels = map[string]string{"Team": ""} }, "labels"},
		"a label of 256 bytes":  {func(r *Restore) { r.Labels = map[string]string{"a": strings.Repeat("x", 256)} }, "labels"},
		"a label with a tab":    {func(r *Restore) { r.Labels = map[string]string{"a": "b\tc"} }, "labels"},
		"an actor of 129 bytes": {func(r *Restore) { r.Actor = strings.Repeat("x", 129) }, "actor"},
		"an actor not in UTF-8": {func(r *Restore) { r.Actor = "\xff" }, "actor"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestore()
			c.spoil(&r)
			var fe *FieldError
			if err := r.Validate(); !errors.As(err, &fe) || fe.Field != c.field || fe.Problem == "" {
				t.Errorf("got %v, want a problem with %s", err, c.field)
			}
		})
	}
}

func TestValidateReportsEveryProblem(t *testing.T) {
	err := Restore{}.Validate()
	for _, field := range []string{"id", "cloud", "backup_id", "volume_id", "class", "asked_at"} {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%q does not name %s", err, field)
		}
	}
}

func TestValidateAcceptsBothFormsOfProject(t *testing.T) {
	for _, project := range []string{strings.ReplaceAll(volumeID, "-", ""), volumeID} {
		r := newRestore()
		r.ProjectID = project
		if err := r.Validate(); err != nil {
			t.Errorf("project %s: %v", project, err)
		}
	}
}

func TestHashIsOfWhatWouldBeDone(t *testing.T) {
	r := newRestore()
	r.Labels = map[string]string{"team": "db", "env": "prod"}
	// Stored beside every restore: this value must not change between releases.
	const want = "e26c39695e3498eb89e59b170532ea251264c7f88b508277052b97ad5c5e2d65"
	if got := r.Hash(); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	same := r
	same.ID, same.Actor, same.AskedAt, same.NotBefore, same.NotAfter = NewID(), "bob", noon, noon, noon
	same.Trace = map[string]string{"traceparent": "x"}
	if same.Hash() != want {
		t.Error("id, actor, times or trace are part of the hash")
	}
	for name, change := range map[string]func(*Restore){
		"cloud":   func(r *Restore) { r.Cloud = "other" },
		"project": func(r *Restore) { r.ProjectID = volumeID },
		"backup":  func(r *Restore) { r.BackupID = firstID },
		"volume":  func(r *Restore) { r.VolumeID = firstID },
		"class":   func(r *Restore) { r.Class = ClassUrgent },
		"again":   func(r *Restore) { r.Again = true },
		"labels":  func(r *Restore) { r.Labels = map[string]string{"team": "d", "benv": "prod"} },
	} {
		other := r
		change(&other)
		if other.Hash() == want {
			t.Errorf("%s is not part of the hash", name)
		}
	}
}

func TestLineIDBelongsToTheLineOfTheContent(t *testing.T) {
	const want = "0492ab49-12dc-55ea-8536-3e8b9a52a80a"
	if got := LineID("ab", 1); got != want {
		t.Errorf("LineID = %s, want %s: it must never change", got, want)
	}
	seen := map[string]bool{}
	for _, id := range []string{LineID("ab", 1), LineID("ab", 2), LineID("ab", 11), LineID("ac", 1), LineID("ab\n1", 1)} {
		if seen[id] || !isUUID(id) {
			t.Errorf("%s is doubled or no UUID", id)
		}
		seen[id] = true
	}
}

func TestClassesRankInTheOrderOfWork(t *testing.T) {
	for rank, c := range append(Classes(), "vip") {
		if c.Rank() != rank {
			t.Errorf("%s has rank %d, want %d", c, c.Rank(), rank)
		}
	}
}
