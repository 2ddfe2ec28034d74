package simulator_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/vbsrestore/vbsrestore/simulator"
)

// direct calls the door without an http.Client, to measure the simulator alone.
func direct(b *testing.B, c *simulator.Cloud, token, method, path, body string) {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://cloud.test/v3/"+project+path, from)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.RoundTrip(r)
	if err != nil || resp.StatusCode >= 300 {
		b.Fatalf("%s %s: %v %v", method, path, resp, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
}

func fastCloud(b *testing.B, volumes int, journal string) (*simulator.Cloud, []simulator.Pair, string) {
	c := newCloud(b, simulator.Config{Volumes: volumes, Capacity: -1, MinDuration: -1, GiBPerSecond: 1e12, BackupLag: -1, Journal: journal})
	return c, c.Pairs(), inside(b, c).token
}

func BenchmarkGetVolume(b *testing.B) {
	c, pairs, token := fastCloud(b, 10000, "")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		direct(b, c, token, "GET", "/volumes/"+pairs[i%len(pairs)].VolumeID, "")
	}
}

func BenchmarkPostRestore(b *testing.B) {
	c, pairs, token := fastCloud(b, 10000, "")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := pairs[i%len(pairs)]
		direct(b, c, token, "POST", "/native/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID))
	}
}

func BenchmarkPostRestoreJournalled(b *testing.B) {
	c, pairs, token := fastCloud(b, 10000, b.TempDir())
	for i := 0; b.Loop(); i++ {
		p := pairs[i%len(pairs)]
		direct(b, c, token, "POST", "/native/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID))
	}
}

func BenchmarkListRestoring(b *testing.B) {
	c, pairs, token := fastCloud(b, 10000, "")
	for _, p := range pairs[:15] {
		c.ResetVolume(p.VolumeID, "restoring-backup")
	}
	for b.Loop() {
		direct(b, c, token, "GET", "/volumes/detail?status=restoring-backup", "")
	}
}
