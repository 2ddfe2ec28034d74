package results_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestRecordNew(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		r := request(1)
		r.Labels, r.Trace = map[string]string{"team": "db"}, map[string]string{"traceparent": "00-1-2-01"}
		r.NotBefore = time.Now().UTC().Add(time.Hour)
		want := results.Restore{ID: r.ID, Cloud: cloud, BackupID: r.BackupID, VolumeID: r.VolumeID, Class: tasks.ClassDirect, State: results.Waiting,
			StateSince: s.Now(), Wait: results.WaitTime, Reason: "not before 2000-01-01T01:00:00Z", NotBefore: r.NotBefore, NotAfter: r.NotAfter,
			AskedAt: r.AskedAt, CreatedAt: s.Now(), UpdatedAt: s.Now(), Labels: r.Labels, Trace: r.Trace, Actor: "anna", Hash: r.Hash()}
		diff(t, "the returned row", want, record(t, s, r), sameRow)
		diff(t, "the stored row", want, get(t, s, r.ID), sameRow)
		diff(t, "events", []string{"recorded"}, kinds(story(t, s, r.ID)))
	})
}

func TestRecordKnownWhateverTheTimes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		before := record(t, s, request(1))
		time.Sleep(time.Hour)
		again := request(1)
		again.NotBefore, again.Actor = time.Now().Add(time.Minute), "ben"
		row, outcome, err := s.Record(t.Context(), again)
		if outcome != results.RecordedKnown || err != nil {
			t.Errorf("Record = %q, %v; want known", outcome, err)
		}
		diff(t, "the returned row", before, row, sameRow)
		diff(t, "the stored row", before, get(t, s, before.ID), sameRow)
		diff(t, "events", []string{"recorded"}, kinds(story(t, s, before.ID)))
	})
}

func TestRecordConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		before := record(t, s, request(1))
		other := requestOf(1, 1, 2, tasks.ClassDirect)
		row, outcome, err := s.Record(t.Context(), other)
		if outcome != results.RecordedConflict || err != nil {
			t.Errorf("Record = %q, %v; want conflict", outcome, err)
		}
		diff(t, "the returned row", before, row, sameRow)
		diff(t, "the stored row", before, get(t, s, before.ID), sameRow)
		events := story(t, s, before.ID)
		diff(t, "events", []string{"recorded", "conflict"}, kinds(events))
		if last := events[len(events)-1]; !strings.Contains(last.Reason, other.VolumeID) {
			t.Errorf("the conflict event does not name the other volume: %s", last.Reason)
		}
	})
}

// While a restore of a pair is open, another of the same pair is cancelled and
// names it; afterwards it is a new one.
func TestRecordDuplicatePair(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n, state := range results.States {
			recordIn(t, s, request(n), state)
			row, outcome, err := s.Record(t.Context(), requestOf(100+n, n, n, tasks.ClassUrgent))
			if err != nil {
				t.Fatal(err)
			}
			if state.Final() {
				if outcome != results.RecordedNew || row.State != results.Waiting {
					t.Errorf("%s: %s, %s; want a new waiting row", state, outcome, row.State)
				}
				continue
			}
			if outcome != results.RecordedDuplicate || row.State != results.Cancelled || !strings.Contains(row.Reason, restoreID(n)) ||
				row.FinishedAt.IsZero() || row.Advice == "" {
				t.Errorf("%s: %s: %+v; want cancelled, naming %s", state, outcome, row, restoreID(n))
			}
			diff(t, "the stored row", row, get(t, s, row.ID), sameRow)
			diff(t, "events", []string{"duplicate"}, kinds(story(t, s, row.ID)))
		}
	})
}

func TestRecordOtherPairsAreNew(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		record(t, s, requestOf(1, 1, 1, tasks.ClassDirect))
		record(t, s, requestOf(2, 1, 2, tasks.ClassDirect)) // the same backup onto another volume
		record(t, s, requestOf(3, 2, 1, tasks.ClassDirect)) // another backup onto the same volume
	})
}

func TestRejectKeepsTheMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		payload := []byte("\x00\xffnot JSON")
		r := results.Rejected{Queue: "prod:in", TaskID: "t1", Payload: payload, Reason: "not_json", Worker: "w1"}
		for i, want := range []bool{true, false} {
			if fresh, err := s.Reject(t.Context(), r); fresh != want || err != nil {
				t.Errorf("rejection %d: new %t, %v; want %t", i, fresh, err, want)
			}
		}
		got, err := s.Rejections(t.Context(), results.Page{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		r.At = s.Now()
		diff(t, "rejections", []results.Rejected{r}, got, cmpopts.IgnoreFields(results.Rejected{}, "ID"))
		events, err := s.CloudEvents(t.Context(), cloud, 1)
		if err != nil || len(events) != 1 || events[0].Kind != "rejected" || !strings.Contains(events[0].Reason, "t1") {
			t.Errorf("the alarm of cloud %s: %+v, %v", cloud, events, err)
		}
	})
}

func TestRejectCutsAtTheLongestMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for i, size := range []int{tasks.MaxPayload, tasks.MaxPayload + 1} {
			payload := bytes.Repeat([]byte{byte('a' + i)}, size)
			must(t)(s.Reject(t.Context(), results.Rejected{Queue: "prod", Payload: payload, Reason: "too_large"}))
			time.Sleep(time.Second)
		}
		got, err := s.Rejections(t.Context(), results.Page{}, 10)
		if err != nil || len(got) != 2 {
			t.Fatalf("%d rejections, %v; want 2", len(got), err)
		}
		for i, r := range got {
			if len(r.Payload) != tasks.MaxPayload || r.Truncated != (i == 1) {
				t.Errorf("message %d: %d bytes kept, truncated %t", i, len(r.Payload), r.Truncated)
			}
		}
	})
}

func TestReplayedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		must(t)(s.Reject(t.Context(), results.Rejected{Queue: "prod", TaskID: "t1", Payload: []byte("x"), Reason: "newer_version"}))
		kept, err := s.Rejections(t.Context(), results.Page{}, 1)
		if err != nil || len(kept) != 1 {
			t.Fatal(kept, err)
		}
		row, outcome, err := s.Replayed(t.Context(), kept[0].ID, request(1))
		if err != nil || outcome != results.RecordedNew {
			t.Fatalf("Replayed = %q, %v; want new", outcome, err)
		}
		diff(t, "the stored row", row, get(t, s, row.ID), sameRow)
		if _, _, err := s.Replayed(t.Context(), kept[0].ID, request(2)); !errors.Is(err, results.ErrMoved) {
			t.Errorf("replayed twice: %v; want ErrMoved", err)
		}
		if _, err := s.Get(t.Context(), restoreID(2)); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("the second replay left a row: %v", err)
		}
		if kept, err = s.Rejections(t.Context(), results.Page{}, 1); len(kept) != 0 || err != nil {
			t.Errorf("still listed: %v, %v", kept, err)
		}
	})
}
