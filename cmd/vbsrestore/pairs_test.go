package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	backupA = "0e6d41c2-0000-4000-8000-00000000000a"
	volumeA = "9b1f0000-0000-4000-8000-00000000000a"
	volumeB = "9b1f0000-0000-4000-8000-00000000000b"
)

func baseRequest() tasks.Restore {
	return tasks.Restore{Cloud: "otc", AskedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Actor: "anna", Labels: map[string]string{"ticket": "1"}}
}

func TestReadPairsOfEveryForm(t *testing.T) {
	for name, content := range map[string]string{
		"csv":                      "backup_id,volume_id\n" + backupA + "," + volumeA + "\n",
		"csv from a spreadsheet":   "\xef\xbb\xbfBackup_ID, volume_id ,volume_name\r\n " + strings.ToUpper(backupA) + "," + volumeA + ",\"a,\r\nb\"\r\n",
		"csv without a last break": "volume_id,backup_id,class\n" + volumeA + "," + backupA + ",direct",
		"jsonl":                    "\n" + `{"backup_id": "` + backupA + `", "volume_id": "` + volumeA + `", "class": "", "actor": null}` + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readPairs("f", []byte(content), "digest", baseRequest())
			if err != nil {
				t.Fatal(err)
			}
			want := baseRequest()
			want.BackupID, want.VolumeID, want.ID = backupA, volumeA, tasks.LineID("digest", 2)
			want.Normalize(want.AskedAt)
			if diff := cmp.Diff([]tasks.Restore{want}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestALineOverridesWhatAllHaveInCommon(t *testing.T) {
	content := `{"backup_id": "` + backupA + `", "volume_id": "` + volumeA + `", "cloud": "prod", "class": "urgent", "actor": "bert", "again": true,
"labels": {"wave": "2"}, "not_before": "2026-02-01T00:00:00+01:00", "not_after": "2026-02-02T00:00:00Z", "id": "` + volumeB + `"}`
	got, err := readPairs("f", []byte(strings.ReplaceAll(content, "\n", " ")), "digest", baseRequest())
	if err != nil {
		t.Fatal(err)
	}
	want := tasks.Restore{ID: volumeB, Cloud: "prod", BackupID: backupA, VolumeID: volumeA, Class: tasks.ClassUrgent, AskedAt: baseRequest().AskedAt, Again: true,
		Actor: "bert", Labels: map[string]string{"ticket": "1", "wave": "2"},
		NotBefore: time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)}
	if diff := cmp.Diff([]tasks.Restore{want}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWhatIsWrongInAFileIsSaidWithItsPlace(t *testing.T) {
	line := backupA + "," + volumeA
	object := `{"backup_id": "` + backupA + `", "volume_id": "` + volumeA + `"`
	for name, c := range map[string]struct{ content, want string }{
		"nothing":                   {" \n", "f: it is empty"},
		"latin-1":                   {"backup_id,volume_id\n\xe4,b", "f: it is not UTF-8"},
		"only a header":             {"backup_id,volume_id\n", "f:1:1: there is a header but no line below it"},
		"no header":                 {line + "\n", `f:1:1: there is no column "` + backupA + `"`},
		"a column is missing":       {"backup_id\n" + backupA, "f:1:1: the column volume_id is missing"},
		"a column twice":            {"backup_id,backup_id\na,b", "f:1:11: the column backup_id is there twice"},
		"too few fields":            {"backup_id,volume_id\nx", "f:2:1: 1 field, but the header has 2"},
		"a quote inside":            {"backup_id,volume_id\na\"b,c", "f:2:2: bare \" in non-quoted-field"},
		"after a field of 2 lines":  {"volume_name,backup_id,volume_id\n\"a\nb\"," + line + "\n,x," + volumeB, "f:4:2: backup_id: "},
		"a wrong time":              {"backup_id,volume_id,not_before\n" + line + ",soon", `f:2:75: not_before: "soon" is no time`},
		"a volume twice":            {"backup_id,volume_id\n" + line + "\n" + line, "f:3:38: volume_id: line 2 restores this volume already"},
		"an id twice":               {"id,backup_id,volume_id\n" + backupA + "," + line + "\n" + backupA + "," + backupA + "," + volumeB, "f:3:1: id: line 2 has this id already"},
		"json of another kind":      {object + "}\n[1]", "f:2:1: a JSON object is wanted"},
		"an object without its end": {object, "f:1:"},
		"two objects":               {object + "} {}", "there is more after the object"},
		"a key twice":               {object + `, "backup_id": "x"}`, "the key backup_id is there twice"},
		"an unknown key":            {object + `, "Volume_id": "x"}`, `there is no key "Volume_id"`},
		"a number":                  {object + `, "class": 3}`, "class: a string is wanted"},
		"labels of numbers":         {object + `, "labels": {"a": 1}}`, "labels: an object of strings is wanted"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readPairs("f", []byte(c.content), "digest", baseRequest())
			if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
				t.Errorf("got %v, %v\nwant an error with %q", got, err, c.want)
			}
		})
	}
}

func TestOnlyTheFirstProblemsAreShown(t *testing.T) {
	content := "backup_id,volume_id\n" + strings.Repeat("x,y\n", 30)
	_, err := readPairs("f", []byte(content), "digest", baseRequest())
	var p *problems
	if !errors.As(err, &p) || len(p.lines) != mostProblems || !strings.Contains(err.Error(), "and 79 more") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadPairs(f *testing.F) {
	f.Add("backup_id,volume_id\n" + backupA + "," + volumeA + "\n")
	f.Add(`{"backup_id": "` + backupA + `", "volume_id": "` + volumeA + `"}`)
	f.Add("{}\n{\"labels\":{}}")
	f.Fuzz(func(t *testing.T, content string) {
		got, err := readPairs("f", []byte(content), "digest", baseRequest())
		if (err == nil) == (len(got) == 0) {
			t.Fatalf("%d requests and error %v", len(got), err)
		}
		for _, r := range got {
			if err := r.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
