package results_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
)

func lease(t *testing.T, s *results.Store, name, holder string, wantMine bool, wantHolder string, wantTerm int64) results.Lease {
	t.Helper()
	l, mine, err := s.Lease(t.Context(), name, holder, time.Minute)
	if err != nil || mine != wantMine || l.Holder != wantHolder || l.Term != wantTerm {
		t.Errorf("%s takes %s: %+v, mine %t, %v; want mine %t, held by %s, term %d", holder, name, l, mine, err, wantMine, wantHolder, wantTerm)
	}
	return l
}

func TestLease(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		taken := lease(t, s, "prod", "a", true, "a", 1)
		lease(t, s, "prod", "b", false, "a", 1)
		time.Sleep(30 * time.Second)
		renewed := lease(t, s, "prod", "a", true, "a", 1)
		if !renewed.TakenAt.Equal(taken.TakenAt) || !renewed.ExpiresAt.Equal(s.Now().Add(time.Minute)) {
			t.Errorf("renewed: %+v", renewed)
		}
		time.Sleep(time.Minute - time.Microsecond)
		lease(t, s, "prod", "b", false, "a", 1) // the renewal counts
		time.Sleep(time.Microsecond)
		lease(t, s, "prod", "b", true, "b", 2) // expired
		lease(t, s, "prod", "a", false, "b", 2)
		lease(t, s, "rest", "a", true, "a", 3) // terms grow over all leases
		if err := s.GiveUp(t.Context(), "prod", "a"); err != nil {
			t.Fatal(err)
		}
		lease(t, s, "prod", "a", false, "b", 2) // only the holder can give it up
		if err := s.GiveUp(t.Context(), "prod", "b"); err != nil {
			t.Fatal(err)
		}
		lease(t, s, "prod", "a", true, "a", 4)
		all, err := s.Leases(t.Context())
		if err != nil || len(all) != 2 || all[0].Name != "prod" || all[1].Name != "rest" {
			t.Errorf("leases %+v, %v", all, err)
		}
	})
}

func TestLeaseExpiredButNotTakenKeepsItsTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		lease(t, s, "prod", "a", true, "a", 1)
		time.Sleep(time.Hour)
		lease(t, s, "prod", "a", true, "a", 1)
	})
}

func TestRaiseTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for _, c := range []struct{ raise, want int64 }{{0, 0}, {41, 41}, {9, 41}, {100, 100}} {
			if err := s.RaiseTerm(t.Context(), c.raise); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Term(t.Context()); got != c.want || err != nil {
				t.Errorf("raised to %d: term %d, %v; want %d", c.raise, got, err, c.want)
			}
		}
		lease(t, s, "prod", "a", true, "a", 101)
	})
}

func TestOneOfManyTakesTheLease(t *testing.T) {
	over := stores(t, 4, 0)
	var holders atomic.Int32
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			_, mine, err := over[i%4].Lease(context.Background(), "prod", restoreID(i), time.Hour)
			if err != nil {
				t.Error(err)
			}
			if mine {
				holders.Add(1)
			}
		})
	}
	wg.Wait()
	if n := holders.Load(); n != 1 {
		t.Errorf("%d hold one lease", n)
	}
}
