package results_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestReleaseInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		record(t, s, requestOf(1, 1, 1, tasks.ClassDrill))
		record(t, s, requestOf(2, 2, 2, tasks.ClassCampaign))
		move(t, s, step(recordIn(t, s, requestOf(3, 3, 3, tasks.ClassDirect), results.Posting), results.Waiting)) // tried before
		time.Sleep(time.Second)
		record(t, s, requestOf(4, 4, 4, tasks.ClassDirect))
		time.Sleep(time.Second)
		record(t, s, requestOf(5, 5, 5, tasks.ClassDirect))
		record(t, s, requestOf(6, 6, 6, tasks.ClassUrgent))
		time.Sleep(3 * time.Second)
		var want []string
		for _, n := range []int{6, 4, 5, 3, 2, 1} {
			want = append(want, restoreID(n))
		}
		checkReleased(t, s, want...)
		row := get(t, s, restoreID(6))
		if row.State != results.Queued || row.Generation != 1 || row.Releases != 1 || !row.ReleasedAt.Equal(s.Now()) {
			t.Errorf("%+v", row)
		}
		diff(t, "events", []string{"recorded", "released"}, kinds(story(t, s, row.ID)))
	})
}

func TestReleaseLeavesAlone(t *testing.T) {
	for name, setup := range map[string]func(*testing.T, *results.Store){
		"a row of another cloud": func(t *testing.T, s *results.Store) {
			r := request(1)
			r.Cloud = "other"
			record(t, s, r)
		},
		"a row not due": func(t *testing.T, s *results.Store) {
			r := request(1)
			r.NotBefore = s.Now().Add(time.Hour)
			record(t, s, r)
		},
		"a fresh row": func(t *testing.T, s *results.Store) {
			time.Sleep(time.Minute - 2*time.Second)
			record(t, s, request(1))
		},
		"a paused cloud":   func(t *testing.T, s *results.Store) { record(t, s, request(1)); pause(t, s) },
		"a refusing cloud": func(t *testing.T, s *results.Store) { refuseAll(t, s, 1) },
		"a held cloud":     func(t *testing.T, s *results.Store) { hold(t, s, 2*time.Minute) },
		"every other state": func(t *testing.T, s *results.Store) {
			for n, state := range results.States {
				if state != results.Waiting && state != results.Queued {
					recordIn(t, s, request(n), state)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				begin := time.Now()
				setup(t, s)
				time.Sleep(time.Until(begin.Add(time.Minute)))
				checkReleased(t, s)
			})
		})
	}
}

// A row just recorded has its own delivery; after two seconds it is dispatch's.
func TestReleaseOfFreshRows(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		time.Sleep(2 * time.Second)
		checkReleased(t, s)
		time.Sleep(time.Microsecond)
		checkReleased(t, s, row.ID)
	})
}

// A row that already waited once has no delivery of its own any more.
func TestReleaseOfARowSentBackAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		checkReleased(t, s)
		move(t, s, step(row, "")) // its delivery stored that it waits
		checkReleased(t, s, row.ID)
	})
}

func TestReleaseAsManyAsSlots(t *testing.T) {
	for _, c := range []struct {
		name              string
		cap, live, queued int
		class             tasks.Class
		want              int
	}{
		{"twice the free slots", 5, 0, 0, tasks.ClassDirect, 8},
		{"less the live", 5, 2, 0, tasks.ClassDirect, 4},
		{"less the queued", 5, 2, 3, tasks.ClassDirect, 1},
		{"none free", 5, 4, 0, tasks.ClassDirect, 0},
		{"urgent uses the last", 5, 4, 0, tasks.ClassUrgent, 2},
		{"drills", 15, 0, 0, tasks.ClassDrill, 4},
		{"no cap", 0, 9, 3, tasks.ClassDirect, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				live(t, s, c.live, tasks.ClassUrgent)
				for n := range c.queued {
					move(t, s, step(record(t, s, request(200+n)), results.Queued))
				}
				tamperQueuedNow(t, s, c.queued)
				for n := range 30 {
					record(t, s, requestOf(n, n, n, c.class))
				}
				limits(t, s, c.cap, 0)
				time.Sleep(3 * time.Second)
				got, err := s.Release(t.Context(), cloud, 100)
				if err != nil || len(got) != c.want {
					t.Errorf("released %d, %v; want %d", len(got), err, c.want)
				}
			})
		})
	}
}

// tamperQueuedNow makes rows queued by a move look like rows just released.
func tamperQueuedNow(t *testing.T, s *results.Store, n int) {
	t.Helper()
	if n > 0 {
		tamper(t, s, `UPDATE restores SET released_at = $1 WHERE state = 'queued'`, s.Now().UnixMicro())
	}
}

func TestReleaseAsThePaceCanUse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n := range 30 {
			record(t, s, request(n))
		}
		limits(t, s, 0, 3)
		time.Sleep(3 * time.Second)
		if got, err := s.Release(t.Context(), cloud, 100); err != nil || len(got) != 6 {
			t.Errorf("released %d, %v; want two seconds of POSTs: 6", len(got), err)
		}
		checkReleased(t, s) // those are still queued
	})
}

func TestReleaseAtMostTheLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n := range 5 {
			record(t, s, request(n))
		}
		time.Sleep(3 * time.Second)
		if got, err := s.Release(t.Context(), cloud, 2); err != nil || len(got) != 2 {
			t.Errorf("released %d, %v; want 2", len(got), err)
		}
	})
}

func TestLostRowsAreSentAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		time.Sleep(3 * time.Second)
		checkReleased(t, s, row.ID)
		time.Sleep(15 * time.Second)
		checkReleased(t, s)
		time.Sleep(time.Microsecond)
		got, err := s.Release(t.Context(), cloud, 10)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "sent again", []results.Release{{ID: row.ID, Generation: 2}}, got)
		diff(t, "events", []string{"recorded", "released"}, kinds(story(t, s, row.ID)))
	})
}

// After twenty wake-ups without an outcome a row rests for ten minutes, and says so.
func TestTwentyReleasesThenRest(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		for sent := range 20 {
			time.Sleep(16 * time.Second)
			checkReleased(t, s, row.ID)
			if got := get(t, s, row.ID); got.Releases != sent+1 {
				t.Fatalf("%d releases; want %d", got.Releases, sent+1)
			}
		}
		time.Sleep(16 * time.Second)
		checkReleased(t, s)
		got := get(t, s, row.ID)
		if got.State != results.Waiting || got.Wait != results.WaitCloud || !got.NotBefore.Equal(s.Now().Add(10*time.Minute)) || got.Releases != 0 {
			t.Errorf("%+v", got)
		}
		events := story(t, s, row.ID)
		if last := events[len(events)-1]; last.Kind != "no outcome" || !strings.Contains(last.Reason, cloud) {
			t.Errorf("the last event: %+v", last)
		}
		time.Sleep(10 * time.Minute)
		checkReleased(t, s, row.ID)
	})
}

func TestOthersDue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, requestOf(1, 1, 1, tasks.ClassDirect))
		others := func(want bool, when string) {
			t.Helper()
			if got, err := s.OthersDue(t.Context(), row); got != want || err != nil {
				t.Errorf("%s: %t, %v; want %t", when, got, err, want)
			}
		}
		time.Sleep(time.Minute)
		others(false, "alone")
		record(t, s, requestOf(2, 2, 2, tasks.ClassDrill))
		time.Sleep(time.Minute)
		others(false, "behind it only a drill")
		later := requestOf(3, 3, 3, tasks.ClassUrgent)
		later.NotBefore = s.Now().Add(time.Hour)
		record(t, s, later)
		time.Sleep(time.Minute)
		others(false, "an urgent one not due")
		same := record(t, s, requestOf(4, 4, 4, tasks.ClassDirect))
		others(false, "a fresh one")
		time.Sleep(time.Minute)
		others(true, "one of its class")
		lead(t, s, same, results.Posting)
		others(false, "that one is posted")
		time.Sleep(time.Hour)
		others(true, "the urgent one is due")
	})
}

// Blocked rows become due at once when the volume is free; others keep their time.
func TestBlockedAndDue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		until := s.Now().Add(time.Hour)
		for n, wait := range []results.Wait{results.WaitAttached, results.WaitBackoff, results.WaitBusy} {
			m := step(record(t, s, request(n)), "")
			m.Wait, m.NotBefore = wait, until
			move(t, s, m)
			time.Sleep(time.Second)
		}
		blocked, err := s.Blocked(t.Context(), cloud, 10)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "blocked", []string{restoreID(0), restoreID(2)}, ids(blocked))
		if first, err := s.Blocked(t.Context(), cloud, 1); err != nil || len(first) != 1 || first[0].ID != restoreID(0) {
			t.Errorf("the oldest: %v, %v", ids(first), err)
		}
		if err := s.Due(t.Context(), []string{restoreID(1), restoreID(2), restoreID(9)}); err != nil {
			t.Fatal(err)
		}
		checkReleased(t, s, restoreID(2))
	})
}

func TestRestoredSince(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		begin := s.Now()
		time.Sleep(time.Second)
		done := recordIn(t, s, requestOf(1, 1, 1, ""), results.Succeeded)
		move(t, s, step(recordIn(t, s, requestOf(2, 2, 1, ""), results.Restoring), results.Failed))
		recordIn(t, s, requestOf(3, 3, 3, ""), results.Succeeded)
		time.Sleep(time.Second)
		for _, c := range []struct {
			name, volume, not string
			since             time.Time
			want              bool
		}{
			{"before", volumeID(1), restoreID(9), begin, true},
			{"at that moment", volumeID(1), restoreID(9), done.FinishedAt, false},
			{"after", volumeID(1), restoreID(9), s.Now(), false},
			{"itself", volumeID(1), done.ID, begin, false},
			{"another volume", volumeID(2), restoreID(9), begin, false},
		} {
			got, found, err := s.RestoredSince(t.Context(), c.volume, c.not, c.since)
			if err != nil || found != c.want || found && got.ID != done.ID {
				t.Errorf("%s: %s, %t, %v", c.name, got.ID, found, err)
			}
		}
	})
}
