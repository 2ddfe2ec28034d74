package results_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

// Rows recorded at the same moment are neither skipped nor shown twice.
func TestListPagesWithEqualTimes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		var want []string
		for n := range 25 {
			if n%10 == 9 {
				time.Sleep(time.Microsecond)
			}
			want = append(want, record(t, s, request(n)).ID)
		}
		for _, size := range []int{1, 3, 10, 100} {
			var got []string
			var at results.Page
			for {
				page, err := s.List(t.Context(), results.Filter{}, at, size)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				got = append(got, ids(page)...)
				last := page[len(page)-1]
				at = results.Page{CreatedAt: last.CreatedAt, ID: last.ID}
			}
			diff(t, "pages", want, got)
		}
	})
}

func TestListFilters(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		recordIn(t, s, requestOf(1, 1, 1, tasks.ClassUrgent), results.Succeeded)
		time.Sleep(time.Second)
		since := s.Now()
		recordIn(t, s, requestOf(2, 1, 2, tasks.ClassDirect), results.Waiting)
		other := request(3)
		other.Cloud = "other"
		record(t, s, other)
		for name, c := range map[string]struct {
			filter results.Filter
			want   []int
		}{
			"all": {results.Filter{}, []int{1, 2, 3}}, "cloud": {results.Filter{Cloud: "other"}, []int{3}},
			"state": {results.Filter{State: results.Succeeded}, []int{1}}, "class": {results.Filter{Class: "direct"}, []int{2, 3}},
			"volume": {results.Filter{VolumeID: volumeID(2)}, []int{2}}, "backup": {results.Filter{BackupID: backupID(1)}, []int{1, 2}},
			"name": {results.Filter{Name: "disk"}, []int{1}}, "since": {results.Filter{Since: since}, []int{2, 3}},
			"two": {results.Filter{BackupID: backupID(1), Since: since}, []int{2}}, "none": {results.Filter{Name: "dis"}, nil},
		} {
			got, err := s.List(t.Context(), c.filter, results.Page{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, n := range c.want {
				want = append(want, restoreID(n))
			}
			diff(t, name, want, ids(got))
		}
	})
}

func TestEachReadsPastAPage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n := range 501 {
			record(t, s, request(n))
		}
		seen := map[string]bool{}
		for r, err := range s.Each(t.Context(), results.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			seen[r.ID] = true
		}
		if len(seen) != 501 {
			t.Errorf("%d rows; want 501", len(seen))
		}
		for range s.Each(t.Context(), results.Filter{}) {
			break // a reader may stop
		}
	})
}

func TestFind(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		first := recordIn(t, s, request(1), results.Succeeded)
		time.Sleep(time.Second)
		again := record(t, s, requestOf(2, 9, 1, ""))
		third := record(t, s, request(3))
		for what, want := range map[string]string{
			first.ID: first.ID, "disk": first.ID, volumeID(1): again.ID, "00000003-": third.ID, third.ID[len(third.ID)-6:]: third.ID,
		} {
			if got, err := s.Find(t.Context(), what); err != nil || got.ID != want {
				t.Errorf("Find(%q) = %s, %v; want %s", what, got.ID, err, want)
			}
		}
		for _, what := range []string{"", "00003", "ffffff", "%%%%%%", "______", "none of these"} {
			if got, err := s.Find(t.Context(), what); !errors.Is(err, results.ErrNotFound) {
				t.Errorf("Find(%q) = %s, %v; want ErrNotFound", what, got.ID, err)
			}
		}
		if _, err := s.Find(t.Context(), "000000"); err == nil || errors.Is(err, results.ErrNotFound) || !strings.Contains(err.Error(), "several") {
			t.Errorf("Find of several = %v", err)
		}
	})
}

func TestGetUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		if _, err := s.Get(t.Context(), restoreID(1)); !errors.Is(err, results.ErrNotFound) || !strings.Contains(err.Error(), restoreID(1)) {
			t.Errorf("Get = %v; want ErrNotFound, naming the id", err)
		}
	})
}

func TestCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		recordIn(t, s, request(1), results.Restoring)
		record(t, s, request(2))
		other := request(3)
		other.Cloud = "other"
		record(t, s, other)
		for name, want := range map[string]map[results.State]int{
			"": {results.Restoring: 1, results.Waiting: 2}, cloud: {results.Restoring: 1, results.Waiting: 1}, "none": {},
		} {
			got, err := s.Counts(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "counts of "+name, want, got)
		}
	})
}

// A spreadsheet must not run what the cloud's users named their volumes.
func TestExportCSVGuardsCells(t *testing.T) {
	names := []string{"=1+2", "+1", "-1", "@SUM(A1)", "\ttab", "\rreturn", "plain", "a=b", `with "quotes", and comma`, "two\nlines"}
	want := []string{"'=1+2", "'+1", "'-1", "'@SUM(A1)", "'\ttab", "'\rreturn", "plain", "a=b", `with "quotes", and comma`, "two\nlines"}
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n, name := range names {
			m := step(record(t, s, request(n)), "")
			m.Seen = &results.Sighting{VolumeName: name}
			move(t, s, m)
		}
		var out bytes.Buffer
		if err := s.ExportCSV(t.Context(), &out, results.Filter{}); err != nil {
			t.Fatal(err)
		}
		lines, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(lines) != len(names)+1 || lines[0][6] != "volume_name" || lines[0][15] != "asked_at" {
			t.Fatalf("%q, %v", lines, err)
		}
		var got []string
		for _, line := range lines[1:] {
			got = append(got, line[6])
		}
		diff(t, "names", want, got)
		if lines[1][15] != "2000-01-01T00:00:00.000Z" || lines[1][18] != "" {
			t.Errorf("times %q, %q", lines[1][15], lines[1][18])
		}
	})
}

func TestExportJSONL(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		want := recordIn(t, s, request(1), results.Succeeded)
		record(t, s, request(2))
		var out bytes.Buffer
		if err := s.ExportJSONL(t.Context(), &out, results.Filter{State: results.Succeeded}); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "\n") != 1 {
			t.Fatalf("not one line: %q", out.String())
		}
		var got results.Restore
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want.Hash = "" // not for readers
		diff(t, "the line", want, got, sameRow)
	})
}

type fullDisk struct{}

var errFull = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestExportTellsOfAFullDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		record(t, s, request(1))
		if err := s.ExportCSV(t.Context(), fullDisk{}, results.Filter{}); !errors.Is(err, errFull) {
			t.Errorf("CSV: %v", err)
		}
		if err := s.ExportJSONL(t.Context(), fullDisk{}, results.Filter{}); !errors.Is(err, errFull) {
			t.Errorf("JSONL: %v", err)
		}
	})
}
