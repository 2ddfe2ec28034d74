package results_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

// BenchmarkRecordClaimSettle is the store's part of one restore: recorded,
// claimed, its 202 stored; each commit on the disk, cap and pace off.
func BenchmarkRecordClaimSettle(b *testing.B) {
	s, err := results.Open(context.Background(), urlOf(filepath.Join(b.TempDir(), "store.db")), results.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ensureCloud(b, s, 0, 0)
	var n atomic.Int64
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := restoreOnce(s, int(n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "restores/s")
}

func restoreOnce(s *results.Store, n int) error {
	row, _, err := s.Record(context.Background(), request(n))
	if err != nil {
		return err
	}
	if row, err = s.Claim(context.Background(), claimOf(s, row)); err != nil {
		return err
	}
	m := step(row, results.Restoring)
	m.Kind, m.Accepted, m.Answer, m.WatchDeadline = "accepted", true, &results.Answer{Status: 202}, s.Now().Add(time.Hour)
	m.Effect = results.Effect{Accepted: true}
	_, err = s.Move(context.Background(), m)
	return err
}

// BenchmarkList100k is the first page of a listing of 100,000 restores.
func BenchmarkList100k(b *testing.B) {
	s := open(b, newURL(b), results.Options{})
	ensureCloud(b, s, 0, 0)
	recordIn(b, s, request(0), results.Failed)
	for n := 1; n < 100; n++ {
		record(b, s, requestOf(n, n, n, tasks.ClassCampaign))
	}
	multiply(b, s, 1000)
	for _, c := range []struct {
		name   string
		filter results.Filter
		want   int
	}{
		{"all", results.Filter{}, 50},
		{"by state", results.Filter{State: results.Failed}, 50},
		{"by volume", results.Filter{VolumeID: volumeID(7)}, 50},
		{"by unknown name", results.Filter{Name: "none"}, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if rows, err := s.List(context.Background(), c.filter, results.Page{}, 50); err != nil || len(rows) != c.want {
					b.Fatal(len(rows), err)
				}
			}
		})
	}
}

// multiply makes each row of the store so many rows with ids and times of their
// own: those of the first copy are kept.
func multiply(b *testing.B, s *results.Store, by int) {
	b.Helper()
	columns := restoreColumns(b, s)
	values := make([]string, len(columns))
	for i, c := range columns {
		switch values[i] = c; c {
		case "id":
			values[i] = "id || '-' || i"
		case "created_at":
			values[i] = "created_at + i * 1000"
		}
	}
	tamper(b, s, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1 - 1)
		INSERT INTO restores (`+strings.Join(columns, ", ")+`) SELECT `+strings.Join(values, ", ")+` FROM restores, n`, by)
}

// restoreColumns reads the names of a table's columns.
func restoreColumns(b *testing.B, s *results.Store) []string {
	b.Helper()
	_, table, _ := strings.Cut(results.Schema(), "CREATE TABLE restores (\n")
	table, _, _ = strings.Cut(table, ");")
	var out []string
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 1 {
			out = append(out, fields[0])
		}
	}
	return out
}
