package results_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
)

// acts are what a person may do, and the states they are allowed in.
var acts = map[string]struct {
	do      func(*testing.T, *results.Store, string) (results.Restore, error)
	allowed []results.State
	to      results.State
	event   string
}{
	"cancel": {func(t *testing.T, s *results.Store, id string) (results.Restore, error) {
		return s.Cancel(t.Context(), id, "anna", "test")
	}, []results.State{results.Waiting, results.Queued}, results.Cancelled, "cancelled"},
	"retry": {func(t *testing.T, s *results.Store, id string) (results.Restore, error) {
		return s.Retry(t.Context(), id, "anna", "test")
	}, []results.State{results.Failed, results.Cancelled}, results.Waiting, "retried"},
	"resolve as restored":  {resolve(results.ResolveRestored, false), []results.State{results.InDoubt}, results.Succeeded, "resolved"},
	"resolve as failed":    {resolve(results.ResolveFailed, false), []results.State{results.InDoubt}, results.Failed, "resolved"},
	"resolve as retry":     {resolve(results.ResolveRetry, true), []results.State{results.InDoubt}, results.Waiting, "resolved"},
	"retry without a look": {resolve(results.ResolveRetry, false), nil, "", ""},
}

func resolve(as results.Resolution, freshLook bool) func(*testing.T, *results.Store, string) (results.Restore, error) {
	return func(t *testing.T, s *results.Store, id string) (results.Restore, error) {
		return s.Resolve(t.Context(), id, "anna", "test", as, freshLook)
	}
}

func TestActs(t *testing.T) {
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				for n, state := range results.States {
					before := recordIn(t, s, request(n), state)
					row, err := act.do(t, s, before.ID)
					if slices.Contains(act.allowed, state) {
						checkActed(t, s, row, err, act.to, act.event)
						continue
					}
					var refused *results.ActError
					if !errors.As(err, &refused) || refused.State != state || refused.Hint == "" {
						t.Errorf("%s: %v; want an ActError with a hint", state, err)
					}
					diff(t, "the row", before, get(t, s, before.ID), sameRow)
				}
			})
		})
	}
}

func checkActed(t *testing.T, s *results.Store, row results.Restore, err error, to results.State, event string) {
	t.Helper()
	if err != nil || row.State != to || !strings.Contains(row.Reason, "test") {
		t.Errorf("%+v, %v; want %s", row, err, to)
	}
	stored := get(t, s, row.ID)
	if stored.State != to || stored.FinishedAt.IsZero() == to.Final() {
		t.Errorf("stored: %+v", stored)
	}
	events := story(t, s, row.ID)
	if last := events[len(events)-1]; last.Kind != event || last.Actor != "anna" || last.To != to {
		t.Errorf("the last event: %+v", last)
	}
}

func TestActsOnNoRow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for name, act := range acts {
			if _, err := act.do(t, s, restoreID(9)); !errors.Is(err, results.ErrNotFound) {
				t.Errorf("%s: %v; want ErrNotFound", name, err)
			}
		}
	})
}

// A retry starts a new budget and a new window, and keeps the attempts.
func TestRetryCountsFromNow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.Posting)
		m := step(row, results.Failed)
		m.Costs, m.FailClass, m.Advice, m.Overdue = true, "gave_up", "look", true
		row = move(t, s, m)
		time.Sleep(48 * time.Hour)
		got, err := s.Retry(t.Context(), row.ID, "anna", "again")
		if err != nil {
			t.Fatal(err)
		}
		if got.Attempt != 1 || got.Spent != 0 || got.FailClass != "" || got.Advice != "" || got.Overdue || !got.FinishedAt.IsZero() ||
			!got.AskedAt.Equal(s.Now()) || !got.NotAfter.Equal(s.Now().Add(24*time.Hour)) {
			t.Errorf("%+v", got)
		}
		if row = claim(t, s, got); row.Attempt != 2 {
			t.Errorf("attempt %d; want 2", row.Attempt)
		}
	})
}

func TestCancelWarnsOfAnUnprovenAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		m := step(recordIn(t, s, request(1), results.Posting), results.Waiting)
		m.Unproven = true
		row := move(t, s, m)
		row, err := s.Cancel(t.Context(), row.ID, "anna", "no longer wanted")
		if err != nil || !strings.Contains(row.Reason, "look at the volume") {
			t.Errorf("%q, %v", row.Reason, err)
		}
	})
}

func TestResolveWantsAReasonAndAKnownResolution(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.InDoubt)
		if _, err := s.Resolve(t.Context(), row.ID, "anna", " ", results.ResolveFailed, false); err == nil {
			t.Error("resolved without a reason")
		}
		if _, err := s.Resolve(t.Context(), row.ID, "anna", "why", "maybe", false); err == nil {
			t.Error("resolved as maybe")
		}
		diff(t, "the row", row, get(t, s, row.ID), sameRow)
	})
}
