package results_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestClaimStoresTheIntent(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		before := record(t, s, request(1))
		c := claimOf(s, before)
		c.Before = results.Before{VolumeStatus: "available", VolumeUpdated: s.Now().Add(-time.Hour), BackupStatus: "available",
			BackupUpdated: s.Now().Add(-2 * time.Hour), BackupSource: "src", SrcBackupID: "old", CloudTime: s.Now().Add(time.Second)}
		row, err := s.Claim(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want := before
		want.State, want.Attempt, want.Wait, want.Reason = results.Posting, 1, "", "attempt 1: sending the restore POST"
		want.PostDeadline = s.Now().Add(time.Minute)
		want.ProjectID, want.VolumeName, want.BackupName, want.VolumeGiB, want.BackupGiB = "p", "disk", "nightly", 20, 10
		diff(t, "the returned row", want, row, sameRow)
		diff(t, "the stored row", want, get(t, s, row.ID), sameRow)
		attempts, err := s.Attempts(t.Context(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "attempts", []results.Attempt{{RestoreID: row.ID, Attempt: 1, RequestID: "req-1", Worker: "w1", StartedAt: s.Now(),
			PostDeadline: want.PostDeadline, Before: c.Before}}, attempts)
		diff(t, "events", []string{"recorded", "posting"}, kinds(story(t, s, row.ID)))
	})
}

// A later attempt starts without what the one before left behind.
func TestClaimForgetsTheAttemptBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.Posting)
		m := step(row, results.InDoubt)
		m.Answer, m.Accepted, m.Running, m.Overdue, m.WatchDeadline = &results.Answer{Status: 202}, true, true, true, s.Now().Add(time.Hour)
		m.Seen = &results.Sighting{VolumeGoneAt: s.Now(), BackupGoneAt: s.Now()}
		row = move(t, s, m)
		row, err := s.Resolve(t.Context(), row.ID, "anna", "it never ran", results.ResolveRetry, true)
		if err != nil {
			t.Fatal(err)
		}
		row = claim(t, s, row)
		if row.Attempt != 2 || row.Accepted || row.SeenRunning || row.Overdue || row.Unproven || !row.SettledAt.IsZero() || !row.AcceptedAt.IsZero() ||
			!row.WatchDeadline.IsZero() || !row.VolumeGoneAt.IsZero() || !row.BackupGoneAt.IsZero() || row.Waits != 0 {
			t.Errorf("attempt 2 remembers attempt 1: %+v", row)
		}
		attempts, err := s.Attempts(t.Context(), row.ID)
		if err != nil || len(attempts) != 2 || attempts[0].Answer.Status != 202 || attempts[1].Answer.Status != 0 {
			t.Errorf("attempts %+v, %v", attempts, err)
		}
	})
}

func pause(t *testing.T, s *results.Store) { must(t)(s.Pause(t.Context(), cloud, "anna", "hands off")) }

// refuseAll brings an answer that pauses the cloud: what a wrong password does.
func refuseAll(t *testing.T, s *results.Store, n int) results.Restore {
	t.Helper()
	m := step(recordIn(t, s, request(n), results.Posting), results.Waiting)
	m.Effect = results.Effect{Pause: "403 by policy"}
	return move(t, s, m)
}

func limits(t *testing.T, s *results.Store, limit int, rate float64) {
	t.Helper()
	must(t)(s.SetCloud(t.Context(), cloud, "test", "test", results.CloudSettings{Cap: &limit, Rate: &rate}))
}

// live fills slots with n restores of a class, all on pairs of their own.
func live(t *testing.T, s *results.Store, n int, class tasks.Class) {
	t.Helper()
	for i := range n {
		recordIn(t, s, requestOf(100+i, 100+i, 100+i, class), results.Posting)
	}
}

var refusals = []struct {
	name   string
	class  tasks.Class
	setup  func(*testing.T, *results.Store)
	change func(*results.Store, *results.Claim)
	want   results.Refusal // Reason: a part of it
}{
	{name: "not from this state", change: func(_ *results.Store, c *results.Claim) { c.From = []results.State{results.Queued} },
		want: results.Refusal{Wait: results.WaitTurn, Reason: "waiting"}},
	{name: "another attempt", change: func(_ *results.Store, c *results.Claim) { c.Attempt = 1 },
		want: results.Refusal{Wait: results.WaitTurn, Reason: "moved"}},
	{name: "paused by a person", setup: pause, want: results.Refusal{Wait: results.WaitPaused, Reason: "hands off"}},
	{name: "paused by a verdict", setup: func(t *testing.T, s *results.Store) { refuseAll(t, s, 100) },
		want: results.Refusal{Wait: results.WaitPaused, Reason: "403 by policy"}},
	{name: "held", setup: func(t *testing.T, s *results.Store) { hold(t, s, time.Minute) },
		want: results.Refusal{Wait: results.WaitPace, Until: at(time.Minute), Reason: "pause until"}},
	{name: "no POST token", setup: func(t *testing.T, s *results.Store) { limits(t, s, 0, 0.5); live(t, s, 1, tasks.ClassDirect) },
		want: results.Refusal{Wait: results.WaitPace, Until: at(time.Second), Reason: "pace"}},
	{name: "direct, one below the cap", setup: func(t *testing.T, s *results.Store) { limits(t, s, 3, 0); live(t, s, 2, tasks.ClassDirect) },
		want: results.Refusal{Wait: results.WaitSlot, Reason: "2 restores are live, the cap is 3"}},
	{name: "campaign, one below the cap", class: tasks.ClassCampaign,
		setup: func(t *testing.T, s *results.Store) { limits(t, s, 3, 0); live(t, s, 2, tasks.ClassUrgent) },
		want:  results.Refusal{Wait: results.WaitSlot, Reason: "cap is 3"}},
	{name: "urgent, at the cap", class: tasks.ClassUrgent,
		setup: func(t *testing.T, s *results.Store) { limits(t, s, 3, 0); live(t, s, 3, tasks.ClassUrgent) },
		want:  results.Refusal{Wait: results.WaitSlot, Reason: "cap is 3"}},
	{name: "drill, two drills are live", class: tasks.ClassDrill,
		setup: func(t *testing.T, s *results.Store) { limits(t, s, 15, 0); live(t, s, 2, tasks.ClassDrill) },
		want:  results.Refusal{Wait: results.WaitSlot, Reason: "no free slot"}},
	{name: "drill, one below the cap", class: tasks.ClassDrill,
		setup: func(t *testing.T, s *results.Store) { limits(t, s, 3, 0); live(t, s, 2, tasks.ClassDirect) },
		want:  results.Refusal{Wait: results.WaitSlot, Reason: "no free slot"}},
	{name: "direct, the cap of one is taken", setup: func(t *testing.T, s *results.Store) { limits(t, s, 1, 0); live(t, s, 1, tasks.ClassDirect) },
		want: results.Refusal{Wait: results.WaitSlot, Reason: "cap is 1"}},
	{name: "stale observation", change: func(s *results.Store, c *results.Claim) {
		c.ObservedAt = s.Now().Add(-10*time.Second - time.Microsecond)
	},
		want: results.Refusal{Wait: results.WaitTurn, Reason: "older than 10 s"}},
	{name: "the volume is posted to", setup: otherOn(2, 1, results.Posting), want: results.Refusal{Wait: results.WaitHeld, Reason: "volume"}},
	{name: "the volume is restored", setup: otherOn(2, 1, results.Restoring), want: results.Refusal{Wait: results.WaitHeld, Reason: "volume"}},
	{name: "the volume is verified", setup: otherOn(2, 1, results.Verifying), want: results.Refusal{Wait: results.WaitHeld, Reason: "volume"}},
	{name: "the volume is in doubt", setup: otherOn(2, 1, results.InDoubt), want: results.Refusal{Wait: results.WaitHeld, Reason: "volume"}},
	{name: "the backup is posted", setup: otherOn(1, 2, results.Posting), want: results.Refusal{Wait: results.WaitHeld, Reason: "backup"}},
	{name: "the backup is restored", setup: otherOn(1, 2, results.Restoring), want: results.Refusal{Wait: results.WaitHeld, Reason: "backup"}},
}

// at is a store time in a bubble, which begins with the year 2000.
func at(d time.Duration) time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d) }

func hold(t *testing.T, s *results.Store, d time.Duration) {
	t.Helper()
	m := step(recordIn(t, s, request(100), results.Posting), results.Waiting)
	m.Effect = results.Effect{Hold: d}
	move(t, s, m)
}

func otherOn(backup, volume int, state results.State) func(*testing.T, *results.Store) {
	return func(t *testing.T, s *results.Store) {
		recordIn(t, s, requestOf(100, backup, volume, tasks.ClassDirect), state)
	}
}

func TestClaimRefusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				if c.class == "" {
					c.class = tasks.ClassDirect
				}
				row := record(t, s, requestOf(1, 1, 1, c.class))
				if c.setup != nil {
					c.setup(t, s)
				}
				claim := claimOf(s, row)
				if c.change != nil {
					c.change(s, &claim)
				}
				checkRefused(t, s, row, claim, c.want)
			})
		})
	}
}

// checkRefused: the claim is refused as wanted, and nothing at all is written.
func checkRefused(t *testing.T, s *results.Store, row results.Restore, c results.Claim, want results.Refusal) {
	t.Helper()
	cloudBefore, eventsBefore := getCloud(t, s), len(story(t, s, row.ID))
	_, err := s.Claim(t.Context(), c)
	var got *results.Refusal
	if !errors.As(err, &got) {
		t.Fatalf("Claim = %v; want a refusal", err)
	}
	diff(t, "refusal", want, *got, cmpopts.IgnoreFields(results.Refusal{}, "Reason"))
	if !strings.Contains(got.Reason, want.Reason) {
		t.Errorf("reason %q does not say %q", got.Reason, want.Reason)
	}
	diff(t, "the row", row, get(t, s, row.ID), sameRow)
	diff(t, "the cloud", cloudBefore, getCloud(t, s), cmp.AllowUnexported(results.Cloud{}))
	if n := len(story(t, s, row.ID)); n != eventsBefore {
		t.Errorf("%d new events", n-eventsBefore)
	}
	if attempts, err := s.Attempts(t.Context(), row.ID); err != nil || len(attempts) != 0 {
		t.Errorf("attempts %+v, %v; want none", attempts, err)
	}
}

func TestClaimNotBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		r := request(1)
		r.NotBefore = s.Now().Add(time.Minute)
		row := record(t, s, r)
		checkRefused(t, s, row, claimOf(s, row), results.Refusal{Wait: results.WaitTime, Until: r.NotBefore, Reason: "not before"})
		time.Sleep(time.Minute)
		claim(t, s, row)
	})
}

func TestClaimUnknownRow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		if _, err := s.Claim(t.Context(), results.Claim{ID: restoreID(9)}); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("Claim = %v; want ErrNotFound", err)
		}
	})
}

// What only looks like a reason to refuse.
func TestClaimPasses(t *testing.T) {
	for _, c := range []struct {
		name  string
		class tasks.Class
		setup func(*testing.T, *results.Store)
	}{
		{"urgent takes the last slot", tasks.ClassUrgent, func(t *testing.T, s *results.Store) { limits(t, s, 3, 0); live(t, s, 2, tasks.ClassUrgent) }},
		{"direct takes the only slot", tasks.ClassDirect, func(t *testing.T, s *results.Store) { limits(t, s, 1, 0) }},
		{"a drill takes the second", tasks.ClassDrill, func(t *testing.T, s *results.Store) { limits(t, s, 15, 0); live(t, s, 1, tasks.ClassDrill) }},
		{"no cap", tasks.ClassDirect, func(t *testing.T, s *results.Store) { live(t, s, 40, tasks.ClassDirect) }},
		{"in_doubt holds no slot", tasks.ClassDirect, func(t *testing.T, s *results.Store) { limits(t, s, 1, 0); otherOn(2, 2, results.InDoubt)(t, s) }},
		{"verifying holds no slot", tasks.ClassDirect, func(t *testing.T, s *results.Store) { limits(t, s, 1, 0); otherOn(2, 2, results.Verifying)(t, s) }},
		{"the backup of a row in doubt", tasks.ClassDirect, otherOn(1, 2, results.InDoubt)},
		{"the backup of a row being verified", tasks.ClassDirect, otherOn(1, 2, results.Verifying)},
		{"the volume of a waiting row", tasks.ClassDirect, otherOn(2, 1, results.Waiting)},
		{"the volume of a failed row", tasks.ClassDirect, otherOn(2, 1, results.Failed)},
		{"the tokens of a second", tasks.ClassDirect, func(t *testing.T, s *results.Store) { limits(t, s, 0, 5); live(t, s, 5, tasks.ClassDirect) }},
		{"a hold that has ended", tasks.ClassDirect, func(t *testing.T, s *results.Store) { hold(t, s, time.Minute); time.Sleep(time.Minute) }},
		{"resumed by a person", tasks.ClassDirect, func(t *testing.T, s *results.Store) {
			pause(t, s)
			must(t)(s.Resume(t.Context(), cloud, "anna", "go on"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				row := record(t, s, requestOf(1, 1, 1, c.class))
				c.setup(t, s)
				if refusal, err := s.Admits(t.Context(), row); refusal != nil || err != nil {
					t.Errorf("Admits = %v, %v", refusal, err)
				}
				claim(t, s, row)
			})
		})
	}
}

// Admits says before the cloud is looked at what Claim will say afterwards.
func TestAdmitsAgreesWithClaim(t *testing.T) {
	for _, c := range refusals {
		if c.change != nil || c.want.Wait == results.WaitHeld {
			continue // not known before the claim
		}
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				class := c.class
				if class == "" {
					class = tasks.ClassDirect
				}
				row := record(t, s, requestOf(1, 1, 1, class))
				c.setup(t, s)
				got, err := s.Admits(t.Context(), row)
				if err != nil || got == nil {
					t.Fatalf("Admits = %v, %v; want a refusal", got, err)
				}
				_, err = s.Claim(t.Context(), claimOf(s, row))
				diff(t, "refusals", err, error(got))
			})
		})
	}
}

// The pace holds over a long time: after the burst of a second, one POST in each interval.
func TestPaceOfClaims(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		limits(t, s, 0, 2)
		claimed := 0
		for n := 1; n <= 100; n++ {
			row := record(t, s, request(n))
			if _, err := s.Claim(t.Context(), claimOf(s, row)); err == nil {
				claimed++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if claimed < 20 || claimed > 23 {
			t.Errorf("%d POSTs in 10 s at 2 a second", claimed)
		}
	})
}

// stores opens one file as several processes would.
func stores(t *testing.T, n, limit int) []*results.Store {
	t.Helper()
	u := newURL(t)
	var out []*results.Store
	for range n {
		out = append(out, open(t, u, results.Options{}))
	}
	ensureCloud(t, out[0], limit, 0)
	return out
}

// claimAll claims rows at the same moment, each over the next of the stores, and returns the errors.
func claimAll(t *testing.T, over []*results.Store, rows []results.Restore) []error {
	t.Helper()
	errs := make([]error, len(rows))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, row := range rows {
		s := over[i%len(over)]
		c := claimOf(s, row)
		c.Worker = fmt.Sprintf("w%d", i)
		wg.Go(func() {
			<-start
			_, errs[i] = s.Claim(context.Background(), c)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func won(t *testing.T, errs []error, loser results.Wait) (n int) {
	t.Helper()
	for _, err := range errs {
		var r *results.Refusal
		if err == nil {
			n++
		} else if !errors.As(err, &r) || r.Wait != loser {
			t.Errorf("a loser got %v; want a refusal: %s", err, loser)
		}
	}
	return n
}

func TestFiftyClaimsOfOneRow(t *testing.T) {
	t.Parallel()
	over := stores(t, 4, 0)
	row := record(t, over[0], request(1))
	rows := make([]results.Restore, 50)
	for i := range rows {
		rows[i] = row
	}
	if n := won(t, claimAll(t, over, rows), results.WaitTurn); n != 1 {
		t.Errorf("%d of 50 claims won; want 1", n)
	}
	if row := get(t, over[0], row.ID); row.Attempt != 1 || row.State != results.Posting {
		t.Errorf("the row: %+v", row)
	}
	diff(t, "events", []string{"recorded", "posting"}, kinds(story(t, over[0], row.ID)))
}

func TestClaimsNeverExceedTheCap(t *testing.T) {
	t.Parallel()
	over := stores(t, 4, 5)
	var rows []results.Restore
	for n := 1; n <= 40; n++ {
		rows = append(rows, record(t, over[0], requestOf(n, n, n, tasks.ClassUrgent)))
	}
	if n := won(t, claimAll(t, over, rows), results.WaitSlot); n != 5 {
		t.Errorf("%d claims won; the cap is 5", n)
	}
	if counts, err := over[0].Counts(context.Background(), cloud); err != nil || counts[results.Posting] != 5 {
		t.Errorf("counts %v, %v", counts, err)
	}
}

func TestClaimsOfOneVolume(t *testing.T) {
	t.Parallel()
	over := stores(t, 4, 0)
	var rows []results.Restore
	for n := 1; n <= 20; n++ {
		rows = append(rows, record(t, over[0], requestOf(n, n, 1, tasks.ClassDirect)))
	}
	if n := won(t, claimAll(t, over, rows), results.WaitHeld); n != 1 {
		t.Errorf("%d restores of one volume at once", n)
	}
}
