package results

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Get returns one restore; ErrNotFound if the store does not have it.
func (s *Store) Get(ctx context.Context, id string) (Restore, error) {
	r, err := scanRestore(s.queryRow(ctx, getRestoreSQL, id))
	return r, wrapIf("restore "+id, err)
}

// A Filter selects restores; empty fields select all.
type Filter struct {
	Cloud    string
	State    State
	Class    string
	VolumeID string
	BackupID string
	Name     string    // exact volume name
	Since    time.Time // created at or after
}

// A Page is a place in a listing: the last row seen. The zero Page is the start.
type Page struct {
	CreatedAt time.Time
	ID        string
}

const listSQL = `SELECT ` + restoreColumns + ` FROM restores
	WHERE (created_at > $1 OR created_at = $1 AND id > $2)
	AND ($3 = '' OR cloud = $3) AND ($4 = '' OR state = $4) AND ($5 = '' OR class = $5) AND ($6 = '' OR volume_id = $6)
	AND ($7 = '' OR backup_id = $7) AND ($8 = '' OR volume_name = $8) AND created_at >= $9
	ORDER BY created_at, id LIMIT $10`

// List returns restores in the order they were recorded, after a page, at most limit.
func (s *Store) List(ctx context.Context, f Filter, after Page, limit int) ([]Restore, error) {
	rows, err := s.query(ctx, listSQL, micros(after.CreatedAt), after.ID, f.Cloud, f.State, f.Class, f.VolumeID, f.BackupID, f.Name,
		micros(f.Since), limit)
	if err != nil {
		return nil, fmt.Errorf("list restores: %w", err)
	}
	return all(rows, func(r scanner) (Restore, error) { return scanRestore(r) })
}

// Each walks over all restores that a filter selects, reading pages of 500.
func (s *Store) Each(ctx context.Context, f Filter) iter.Seq2[Restore, error] {
	return func(yield func(Restore, error) bool) {
		var at Page
		for {
			page, err := s.List(ctx, f, at, 500)
			if err != nil {
				yield(Restore{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				at = Page{r.CreatedAt, r.ID}
			}
			if len(page) < 500 {
				return
			}
		}
	}
}

// Find returns the restore with this id, with this unique beginning or end of
// an id (at least 6 characters), or the newest one of the volume with this name or id.
func (s *Store) Find(ctx context.Context, what string) (Restore, error) {
	r, err := s.Get(ctx, what)
	if err == nil || !errors.Is(err, ErrNotFound) || what == "" { // "" is the name of volumes not seen yet
		return r, err
	}
	const query = `SELECT ` + restoreColumns + ` FROM restores WHERE volume_name = $1 OR volume_id = $1 ORDER BY created_at DESC LIMIT 1`
	if r, err = scanRestore(s.queryRow(ctx, query, what)); err == nil || !errors.Is(err, ErrNotFound) {
		return r, err
	}
	return s.findShort(ctx, what)
}

func (s *Store) findShort(ctx context.Context, what string) (Restore, error) {
	if len(what) < 6 || strings.ContainsAny(what, "%_") {
		return Restore{}, fmt.Errorf("restore %s: %w", what, ErrNotFound)
	}
	rows, err := s.query(ctx, `SELECT `+restoreColumns+` FROM restores WHERE id LIKE $1 OR id LIKE $2 LIMIT 2`, what+"%", "%"+what)
	if err != nil {
		return Restore{}, err
	}
	found, err := all(rows, func(r scanner) (Restore, error) { return scanRestore(r) })
	switch {
	case err != nil:
		return Restore{}, err
	case len(found) == 0:
		return Restore{}, fmt.Errorf("restore %s: %w", what, ErrNotFound)
	case len(found) > 1:
		return Restore{}, fmt.Errorf("restore %s: several ids begin or end so; use the whole id", what)
	}
	return found[0], nil
}

// Counts returns how many restores of a cloud ("" = all) are in each state.
func (s *Store) Counts(ctx context.Context, cloud string) (map[State]int, error) {
	rows, err := s.query(ctx, `SELECT state, count(*) FROM restores WHERE ($1 = '' OR cloud = $1) GROUP BY state`, cloud)
	if err != nil {
		return nil, fmt.Errorf("count restores: %w", err)
	}
	counts := map[State]int{}
	_, err = all(rows, func(r scanner) (struct{}, error) {
		var st State
		var n int
		err := r.Scan(&st, &n)
		counts[st] = n
		return struct{}{}, err
	})
	return counts, err
}

// ExportHeader is the first line of the CSV export.
var exportHeader = []string{"id", "cloud", "project_id", "backup_id", "backup_name", "volume_id", "volume_name", "volume_gib", "class", "state", "proof",
	"reason", "fail_class", "advice", "attempts", "asked_at", "created_at", "accepted_at", "finished_at", "actor"}

// ExportCSV writes all restores that a filter selects as RFC 4180 CSV with a
// header. Cells that a spreadsheet would take for a formula begin with '.
func (s *Store) ExportCSV(ctx context.Context, w io.Writer, f Filter) error {
	out := csv.NewWriter(w)
	if err := out.Write(exportHeader); err != nil {
		return err
	}
	for r, err := range s.Each(ctx, f) {
		if err != nil {
			return err
		}
		if err := out.Write(exportLine(r)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func exportLine(r Restore) []string {
	line := []string{r.ID, r.Cloud, r.ProjectID, r.BackupID, r.BackupName, r.VolumeID, r.VolumeName, strconv.Itoa(r.VolumeGiB), string(r.Class),
		string(r.State), string(r.Proof), r.Reason, r.FailClass, r.Advice, strconv.Itoa(r.Attempt), stamp(r.AskedAt), stamp(r.CreatedAt),
		stamp(r.AcceptedAt), stamp(r.FinishedAt), r.Actor}
	for i, cell := range line {
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			line[i] = "'" + cell
		}
	}
	return line
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

// ExportJSONL writes all restores that a filter selects, one JSON object a line.
func (s *Store) ExportJSONL(ctx context.Context, w io.Writer, f Filter) error {
	out := json.NewEncoder(w)
	for r, err := range s.Each(ctx, f) {
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
