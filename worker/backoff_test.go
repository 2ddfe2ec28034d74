package worker

import (
	"fmt"
	"testing"
	"time"
)

// TestBackoffBounds: 1 s, doubling, ± 50 %, never above two minutes.
func TestBackoffBounds(t *testing.T) {
	for _, row := range []struct {
		n         int
		low, high time.Duration
	}{
		{-3, 500 * time.Millisecond, 1500 * time.Millisecond},
		{0, 500 * time.Millisecond, 1500 * time.Millisecond},
		{1, 500 * time.Millisecond, 1500 * time.Millisecond},
		{2, time.Second, 3 * time.Second},
		{3, 2 * time.Second, 6 * time.Second},
		{4, 4 * time.Second, 12 * time.Second},
		{5, 8 * time.Second, 24 * time.Second},
		{6, 16 * time.Second, 48 * time.Second},
		{7, 32 * time.Second, 96 * time.Second},
		{8, 40 * time.Second, 2 * time.Minute}, // from here on the cap
		{9, 40 * time.Second, 2 * time.Minute},
		{20, 40 * time.Second, 2 * time.Minute},
		{21, 40 * time.Second, 2 * time.Minute},
		{1 << 30, 40 * time.Second, 2 * time.Minute},
	} {
		t.Run(fmt.Sprint(row.n), func(t *testing.T) {
			for range 300 {
				if got := Backoff(row.n, 0); got < row.low || got > row.high {
					t.Fatalf("waits %s, want %s to %s", got, row.low, row.high)
				}
			}
		})
	}
}

// TestBackoffFloor: a Retry-After is never undercut, also above the cap.
func TestBackoffFloor(t *testing.T) {
	for _, floor := range []time.Duration{2 * time.Second, time.Minute, 10 * time.Minute} {
		for n := range 12 {
			for range 50 {
				if got := Backoff(n, floor); got < floor {
					t.Fatalf("n %d waits %s, below the floor of %s", n, got, floor)
				}
			}
		}
	}
	if got := Backoff(1, 10*time.Minute); got != 10*time.Minute {
		t.Errorf("waits %s, want just the floor of 10m", got)
	}
	if got := Backoff(1, -time.Hour); got < 500*time.Millisecond {
		t.Errorf("a negative floor shortens the wait to %s", got)
	}
}

// TestBackoffSpreads: a thousand rows that failed together must not come back
// together, at the cap neither. Each fifth of the range gets its share.
func TestBackoffSpreads(t *testing.T) {
	for n, low := range map[int]time.Duration{5: 8 * time.Second, 12: 40 * time.Second} {
		spreads(t, n, low, 3*low)
	}
}

func spreads(t *testing.T, n int, low, high time.Duration) {
	const draws = 5000
	var share [5]int
	for range draws {
		i := int((Backoff(n, 0) - low) * 5 / (high - low))
		share[max(0, min(i, 4))]++
	}
	for i, got := range share { // expected 1000 ± 28; twelve times that is no accident
		if got < draws/5-340 || got > draws/5+340 {
			t.Errorf("after %d tries fifth %d of the range gets %d of %d draws: %v", n, i, got, draws, share)
		}
	}
}
