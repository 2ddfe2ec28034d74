package results_test

import (
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
)

// number numbers all events, three at a time, and returns how many there are.
func number(t *testing.T, s *results.Store) int {
	t.Helper()
	for total := 0; ; {
		n, err := s.NumberEvents(t.Context(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n == 0 {
			return total
		}
	}
}

func checkChain(t *testing.T, s *results.Store, want int64) {
	t.Helper()
	if got, err := s.CheckEvents(t.Context()); got != want || err != nil {
		t.Errorf("CheckEvents = %d, %v; want %d", got, err, want)
	}
}

func TestNumberEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		checkChain(t, s, 0)
		for n := range 4 {
			recordIn(t, s, request(n), results.Succeeded)
			time.Sleep(time.Second)
		}
		if events, err := s.Events(t.Context(), 0, 100); len(events) != 0 || err != nil {
			t.Errorf("events without a number are shown: %v, %v", events, err)
		}
		first := number(t, s)
		record(t, s, request(9))
		if n := number(t, s); n != 1 {
			t.Errorf("%d new events; want 1", n)
		}
		events, err := s.Events(t.Context(), 0, 100)
		if err != nil || len(events) != first+1 {
			t.Fatalf("%d events, %v; want %d", len(events), err, first+1)
		}
		for i, e := range events {
			if e.Seq != int64(i+1) || e.Hash == "" || i > 0 && e.At.Before(events[i-1].At) {
				t.Errorf("event %d: %+v", i, e)
			}
		}
		last, err := s.Events(t.Context(), events[len(events)-3].Seq, 1)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "one event after a number", events[len(events)-2:len(events)-1], last)
		checkChain(t, s, 0)
	})
}

// What anybody does to numbered events afterwards is found.
func TestCheckEventsFindsTampering(t *testing.T) {
	for _, c := range []struct {
		name, sql string
		want      int64
	}{
		{"changed", `UPDATE events SET reason = 'nothing happened' WHERE seq = 4`, 4},
		{"changed actor of the first", `UPDATE events SET actor = '' WHERE seq = 1`, 1},
		{"changed time of the last", `UPDATE events SET at = at + 1 WHERE seq = 9`, 9},
		{"changed hash", `UPDATE events SET hash = 'x' WHERE seq = 5`, 5},
		{"missing", `DELETE FROM events WHERE seq = 4`, 5},
		{"missing first", `DELETE FROM events WHERE seq = 1`, 2},
		{"missing and closed up", `DELETE FROM events WHERE seq = 8; UPDATE events SET seq = 8 WHERE seq = 9`, 8},
		{"added", `INSERT INTO events SELECT 'forged', 10, hash, at, cloud, restore_id, attempt, kind, from_state, to_state, reason, actor FROM events WHERE seq = 9`, 10},
		{"swapped", `UPDATE events SET seq = 99 WHERE seq = 6; UPDATE events SET seq = 6 WHERE seq = 7; UPDATE events SET seq = 7 WHERE seq = 99`, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				recordIn(t, s, request(1), results.Succeeded)
				recordIn(t, s, request(2), results.Succeeded)
				if n := number(t, s); n != 9 {
					t.Fatalf("%d events; the test is written for 9", n)
				}
				checkChain(t, s, 0)
				tamper(t, s, c.sql)
				checkChain(t, s, c.want)
			})
		})
	}
}

// CheckEvents reads in batches; the chain goes on from one to the next.
func TestCheckEventsOverManyBatches(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		record(t, s, request(1))
		tamper(t, s, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1099)
			INSERT INTO events SELECT id || i, NULL, '', at, cloud, restore_id, attempt, kind, from_state, to_state, reason, actor FROM events, n`)
		must(t)(s.NumberEvents(t.Context(), 10000))
		checkChain(t, s, 0)
		tamper(t, s, `UPDATE events SET reason = 'x' WHERE seq = 1050`)
		checkChain(t, s, 1050)
	})
}

func TestCloudEventsNewestFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		record(t, s, request(1))
		pause(t, s)
		time.Sleep(time.Second)
		must(t)(s.Resume(t.Context(), cloud, "anna", "go on"))
		events, err := s.CloudEvents(t.Context(), cloud, 2)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "events", []string{"cloud resumed", "cloud paused"}, kinds(events))
	})
}

// A volume restored once more after its restore ended is told, once.
func TestExecutedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		begin := s.Now()
		row := recordIn(t, s, request(1), results.Posting)
		m := step(row, results.Waiting)
		m.Outcome, m.Unproven = "not executed", true
		row = claim(t, s, move(t, s, m))
		time.Sleep(time.Second)
		row = move(t, s, step(row, results.Succeeded))
		recordIn(t, s, request(2), results.Succeeded) // every attempt of it was proven
		unsure := func(since time.Time, want ...string) {
			t.Helper()
			rows, err := s.Unsure(t.Context(), cloud, since)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "unsure", want, ids(rows))
		}
		unsure(begin, row.ID)
		unsure(s.Now())
		if err := s.ExecutedAgain(t.Context(), row, "the volume is being restored", "look at it", "w1"); err != nil {
			t.Fatal(err)
		}
		unsure(begin)
		got := get(t, s, row.ID)
		events := story(t, s, row.ID)
		if last := events[len(events)-1]; got.Advice != "look at it" || got.State != results.Succeeded || last.Kind != "executed again" {
			t.Errorf("%+v, last event %+v", got, last)
		}
	})
}
