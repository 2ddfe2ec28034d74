package main

import (
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/results"
)

// TestLimitsOfTheFileDoNotUndoAPersons: what an operator sets in an incident stays,
// however often workers start.
func TestLimitsOfTheFileDoNotUndoAPersons(t *testing.T) {
	ctx := t.Context()
	store, err := results.Open(ctx, "sqlite://"+filepath.Join(t.TempDir(), "r.db"), results.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.EnsureCloud(ctx, "otc"); err != nil {
		t.Fatal(err)
	}
	starts := func(limit, want int) {
		t.Helper()
		c := &crew{store: store, log: zerolog.Nop()}
		c.settings.Clouds = map[string]cloudSettings{"otc": {Cap: &limit}}
		if err := c.applyLimits(ctx, "otc"); err != nil {
			t.Fatal(err)
		}
		if row, err := store.Cloud(ctx, "otc"); err != nil || row.Cap != want {
			t.Errorf("a worker with cap %d in its file leaves cap %d, %v; want %d", limit, row.Cap, err, want)
		}
	}
	acts := func(act func(*results.Store) (results.Cloud, error)) {
		t.Helper()
		if _, err := act(store); err != nil {
			t.Fatal(err)
		}
	}
	starts(9, 9) // nobody has set any
	starts(8, 8) // only the file has
	acts(func(s *results.Store) (results.Cloud, error) { return s.Pause(ctx, "otc", "anna", "maintenance") })
	starts(7, 7) // a pause is no limit
	two := 2
	acts(func(s *results.Store) (results.Cloud, error) {
		return s.SetCloud(ctx, "otc", "anna", "incident", results.CloudSettings{Cap: &two})
	})
	starts(7, 2)
	acts(func(s *results.Store) (results.Cloud, error) { return s.Resume(ctx, "otc", "config", "over") })
	starts(7, 2)
	for range 120 { // the operator's act is far down in the list of events
		acts(func(s *results.Store) (results.Cloud, error) {
			return s.Probed(ctx, "otc", false, "the cloud still refuses")
		})
	}
	starts(7, 2)
}
