package results_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
)

// answered brings an effect on the cloud with the answer to the POST of a row of its own.
func answered(t *testing.T, s *results.Store, n int, e results.Effect) {
	t.Helper()
	m := step(recordIn(t, s, request(n), results.Posting), results.Waiting)
	m.Effect = e
	move(t, s, m)
}

func TestEnsureCloudMakesTheDefaultsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		got, err := s.EnsureCloud(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		want := results.Cloud{Name: "other", Cap: 15, Rate: 5, RateNow: 5, ReadRate: 10, Settle: 90 * time.Second, Ambiguous: "repost", UpdatedAt: s.Now()}
		diff(t, "the cloud", want, got, sameRow)
		must(t)(s.Pause(t.Context(), "other", "anna", "why"))
		if again, err := s.EnsureCloud(t.Context(), "other"); err != nil || again.PausedBy != "person" {
			t.Errorf("made again: %+v, %v", again, err)
		}
		clouds, err := s.Clouds(t.Context())
		if err != nil || len(clouds) != 2 || clouds[0].Name != "other" || clouds[1].Name != cloud {
			t.Errorf("clouds %+v, %v", clouds, err)
		}
	})
}

func TestUnknownCloud(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		_, get := s.Cloud(t.Context(), "none")
		_, pause := s.Pause(t.Context(), "none", "anna", "why")
		_, release := s.Release(t.Context(), "none", 1)
		for _, err := range []error{get, pause, release} {
			if !errors.Is(err, results.ErrNotFound) {
				t.Errorf("%v; want ErrNotFound", err)
			}
		}
	})
}

func TestSetCloud(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		c := results.CloudSettings{Cap: new(7), Rate: new(2.5), ReadRate: new(20.0), Settle: new(2 * time.Minute), Ambiguous: new("in_doubt")}
		got, err := s.SetCloud(t.Context(), cloud, "anna", "slower", c)
		if err != nil || got.Cap != 7 || got.Rate != 2.5 || got.RateNow != 2.5 || got.ReadRate != 20 || got.Settle != 2*time.Minute || got.Ambiguous != "in_doubt" {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err = s.SetCloud(t.Context(), cloud, "anna", "", results.CloudSettings{Cap: new(8)}); err != nil || got.Cap != 8 || got.Rate != 2.5 {
			t.Errorf("%+v, %v", got, err)
		}
		for _, bad := range []results.CloudSettings{{Cap: new(-1)}, {Rate: new(-1.0)}, {Rate: new(0.09)}, {ReadRate: new(0.01)}, {Settle: new(time.Millisecond)},
			{Settle: new(2 * time.Hour)}, {Ambiguous: new("guess")}} {
			if _, err := s.SetCloud(t.Context(), cloud, "anna", "", bad); err == nil {
				t.Errorf("SetCloud took %+v", bad)
			}
		}
		events, err := s.CloudEvents(t.Context(), cloud, 2)
		if err != nil || events[1].Actor != "anna" || !strings.Contains(events[1].Reason, "slower: cap 7") {
			t.Errorf("events %+v, %v", events, err)
		}
	})
}

func TestThrottling(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		limits(t, s, 0, 4)
		for n, c := range []struct {
			after time.Duration
			rate  float64
		}{{0, 2}, {9 * time.Second, 2}, {time.Second, 1}, {time.Minute, 0.5}, {time.Minute, 0.25}, {time.Minute, 0.125}, {time.Minute, 0.1}, {time.Minute, 0.1}} {
			time.Sleep(c.after)
			answered(t, s, n, results.Effect{Slow: true})
			if got := getCloud(t, s); got.RateNow != c.rate || got.Rate != 4 {
				t.Errorf("429 number %d: %g POSTs a second; want %g", n+1, got.RateNow, c.rate)
			}
		}
		if c := getCloud(t, s); !strings.Contains(c.Reason, "throttled") {
			t.Errorf("reason %q", c.Reason)
		}
	})
}

func TestPaceRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		limits(t, s, 0, 4)
		answered(t, s, 1, results.Effect{Slow: true})
		before := getCloud(t, s).RateNow
		for n := 2; n < 30; n++ {
			time.Sleep(time.Minute)
			answered(t, s, n, results.Effect{Accepted: true})
			now := getCloud(t, s).RateNow
			if now < before || now > 4 || now-before > 0.2+1e-9 {
				t.Errorf("%g → %g", before, now)
			}
			before = now
		}
		c := getCloud(t, s)
		if c.RateNow != 4 || c.Reason != "" {
			t.Errorf("after 28 successes: %g, %q", c.RateNow, c.Reason)
		}
		events, err := s.CloudEvents(t.Context(), cloud, 2)
		if err != nil || events[0].Kind != "pace restored" || events[1].Kind != "throttled" || !strings.Contains(events[1].Reason, "4 → 2") {
			t.Errorf("events %+v, %v", events, err)
		}
	})
}

func TestSlowWithoutARateHolds(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		answered(t, s, 1, results.Effect{Slow: true})
		if c := getCloud(t, s); !c.NotBefore.Equal(s.Now().Add(time.Second)) || math.IsNaN(c.RateNow) || c.RateNow != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestHoldIsTenMinutesAtMostAndNeverShortens(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		first := recordIn(t, s, request(1), results.Posting)
		second := recordIn(t, s, request(2), results.Posting)
		for _, c := range []struct {
			row  results.Restore
			hold time.Duration
		}{{first, 24 * time.Hour}, {second, time.Second}} {
			m := step(c.row, results.Waiting)
			m.Effect = results.Effect{Hold: c.hold}
			move(t, s, m)
			if c := getCloud(t, s); !c.NotBefore.Equal(s.Now().Add(10 * time.Minute)) {
				t.Errorf("held until %s", c.NotBefore)
			}
		}
	})
}

// A pause made by a verdict ends by itself: GETs after 1, 2, 4 … 10 minutes,
// then one other row, and when the cloud takes that, all.
func TestVerdictPauseProbesAndResumes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		guilty := refuseAll(t, s, 1)
		record(t, s, request(2))
		record(t, s, request(3))
		time.Sleep(3 * time.Second)
		for _, wait := range []int{1, 2, 4, 8, 10, 10} {
			c := getCloud(t, s)
			if c.PausedBy != "verdict" || c.Reason != "403 by policy" || !c.ProbeAt.Equal(c.UpdatedAt.Add(time.Duration(wait)*time.Minute)) {
				t.Errorf("want a probe in %d min: %+v", wait, c)
			}
			checkReleased(t, s)
			time.Sleep(time.Until(c.ProbeAt))
			must(t)(s.Probed(t.Context(), cloud, false, "still 403"))
		}
		must(t)(s.Probed(t.Context(), cloud, true, "200"))
		checkReleased(t, s, restoreID(2)) // not the row that paused it, and one only
		checkReleased(t, s)
		refused(t, s, get(t, s, guilty.ID), results.WaitPaused)
		refused(t, s, get(t, s, restoreID(3)), results.WaitPaused)
		m := step(claim(t, s, get(t, s, restoreID(2))), results.Restoring)
		m.Accepted, m.Effect = true, results.Effect{Accepted: true}
		move(t, s, m)
		if c := getCloud(t, s); c.Paused() || c.Reason != "" || c.Probing != "" || !c.ProbeAt.IsZero() {
			t.Errorf("not resumed: %+v", c)
		}
		checkReleased(t, s, restoreID(3), guilty.ID)
	})
}

func checkReleased(t *testing.T, s *results.Store, want ...string) {
	t.Helper()
	got, err := s.Release(t.Context(), cloud, 100)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "released", want, ids(got))
}

func refused(t *testing.T, s *results.Store, row results.Restore, want results.Wait) {
	t.Helper()
	var r *results.Refusal
	if _, err := s.Claim(t.Context(), claimOf(s, row)); !errors.As(err, &r) || r.Wait != want {
		t.Errorf("Claim = %v; want a refusal: %s", err, want)
	}
}

// The row sent through the open door is refused as well: the door is shut.
func TestProbeRowRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		refuseAll(t, s, 1)
		record(t, s, request(2))
		time.Sleep(3 * time.Second)
		must(t)(s.Probed(t.Context(), cloud, true, "200"))
		checkReleased(t, s, restoreID(2))
		m := step(claim(t, s, get(t, s, restoreID(2))), results.Waiting)
		m.Effect = results.Effect{Pause: "403 again"}
		move(t, s, m)
		c := getCloud(t, s)
		if c.PausedBy != "verdict" || c.Probing != "" || c.Reason != "403 again" || !c.ProbeAt.After(s.Now()) {
			t.Errorf("%+v", c)
		}
		checkReleased(t, s)
	})
}

func TestProbeFallsBackOnTheGuiltyRow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := refuseAll(t, s, 1)
		must(t)(s.Probed(t.Context(), cloud, true, "200"))
		checkReleased(t, s, row.ID)
	})
}

// What answers of restores still on their way say changes nothing of a
// person's pause, nor of its reason.
func TestPauseOfAPersonIsUntouched(t *testing.T) {
	for name, e := range map[string]results.Effect{
		"refused": {Pause: "403"}, "accepted": {Accepted: true}, "slow": {Slow: true}, "held": {Hold: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				limits(t, s, 0, 5)
				answered(t, s, 1, results.Effect{Slow: true})
				rows := []results.Restore{}
				for n := 2; n < 30; n++ {
					rows = append(rows, recordIn(t, s, request(n), results.Posting))
					time.Sleep(time.Second)
				}
				paused, err := s.Pause(t.Context(), cloud, "anna", "hands off")
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					m := step(row, results.Waiting)
					m.Effect = e
					move(t, s, m)
				}
				must(t)(s.Probed(t.Context(), cloud, true, "200"))
				got := getCloud(t, s)
				if got.PausedBy != "person" || got.Reason != "hands off" || got.Actor != "anna" || !got.PausedAt.Equal(paused.PausedAt) || got.Probing != "" {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestPersonTakesOverThePauseOfAVerdict(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		refuseAll(t, s, 1)
		pause(t, s)
		answered := step(get(t, s, restoreID(1)), "")
		answered.Effect = results.Effect{Accepted: true}
		move(t, s, answered)
		if c := getCloud(t, s); c.PausedBy != "person" {
			t.Errorf("%+v", c)
		}
		c, err := s.Resume(t.Context(), cloud, "anna", "go on")
		if err != nil || c.Paused() || c.PausedRow != "" || c.ProbeStep != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestSuspect(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		c, err := s.Suspect(t.Context(), cloud, "its term is behind")
		if err != nil || c.PausedBy != "person" || !c.SuspectAt.Equal(s.Now()) {
			t.Errorf("%+v, %v", c, err)
		}
		if c, err = s.Resume(t.Context(), cloud, "anna", "looked"); err != nil || c.SuspectAt.IsZero() {
			t.Errorf("resuming forgot what is suspect: %+v, %v", c, err)
		}
	})
}

func TestEffectOnACloudWithoutARow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		r := request(1)
		r.Cloud = "unserved"
		m := step(record(t, s, r), results.Failed)
		m.Effect = results.Effect{Slow: true}
		move(t, s, m)
		if _, err := s.Cloud(t.Context(), "unserved"); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("%v; want ErrNotFound", err)
		}
	})
}

// With a token of another project every volume looks deleted.
func TestACloudStaysInItsProject(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for range 2 {
			if err := s.BindProject(t.Context(), cloud, "project a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.BindProject(t.Context(), cloud, "project b"); !errors.Is(err, results.ErrOtherProject) {
			t.Errorf("BindProject to another project = %v; want ErrOtherProject", err)
		}
		if err := s.BindProject(t.Context(), "unknown", "project a"); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("BindProject of an unknown cloud = %v; want ErrNotFound", err)
		}
	})
}

// A row that waited for another restore's volume or backup is due when that ends.
func TestTheEndOfARestoreFreesThoseBehindIt(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		first := recordIn(t, s, request(1), results.Restoring)
		behind := request(2)
		behind.VolumeID = first.VolumeID
		m := step(record(t, s, behind), results.Waiting)
		m.Wait, m.NotBefore = results.WaitHeld, s.Now().Add(time.Hour)
		waiting := move(t, s, m)
		move(t, s, step(first, results.Succeeded))
		if row := get(t, s, waiting.ID); !row.NotBefore.IsZero() {
			t.Errorf("still waits until %s", row.NotBefore)
		}
	})
}
