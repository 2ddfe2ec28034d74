package results_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const modelRows = 6

// A model does random things to a store with a few rows that share volumes and
// backups, and checks after each what must always hold.
type model struct {
	store *results.Store
	won   map[string]int // claims, by restore
	table map[arrow]bool
}

func TestAnyOrderOfOperations(t *testing.T) {
	arrows := table()
	inBubble(t, func(t *testing.T, s *results.Store) {
		used := false
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { // without Deadline, which a bubble does not allow
			if used {
				empty(t, s)
			}
			used = true
			ensureCloud(t, s, 15, 5)
			m := &model{store: s, won: map[string]int{}, table: arrows}
			rt.Repeat(map[string]func(*rapid.T){
				"": m.check, "record": m.record, "claim": m.claim, "move": m.move, "move on": m.moveOn, "release": m.release,
				"act": m.act, "cloud": m.cloud, "wait": m.wait, "number": m.number,
			})
		})
	})
}

// empty takes everything out of a store.
func empty(t *testing.T, s *results.Store) {
	t.Helper()
	tamper(t, s, `DELETE FROM restores; DELETE FROM attempts; DELETE FROM events; DELETE FROM clouds`)
}

var ctx = context.Background()

// expected are the refusals that any operation may meet.
func expected(rt *rapid.T, err error) {
	var arrow *results.ArrowError
	var act *results.ActError
	var refusal *results.Refusal
	if err == nil || errors.Is(err, results.ErrMoved) || errors.Is(err, results.ErrNotFound) || errors.As(err, &arrow) || errors.As(err, &act) ||
		errors.As(err, &refusal) {
		return
	}
	rt.Fatal(err)
}

func (m *model) rows(rt *rapid.T) []results.Restore {
	rows, err := m.store.List(ctx, results.Filter{}, results.Page{}, 100)
	if err != nil {
		rt.Fatal(err)
	}
	return rows
}

func (m *model) row(rt *rapid.T) results.Restore {
	rows := m.rows(rt)
	if len(rows) == 0 {
		rt.Skip("no rows yet")
	}
	return rapid.SampledFrom(rows).Draw(rt, "row")
}

func (m *model) record(rt *rapid.T) {
	n := rapid.IntRange(1, modelRows).Draw(rt, "n")
	class := rapid.SampledFrom(tasks.Classes()).Draw(rt, "class")
	_, _, err := m.store.Record(ctx, requestOf(n, n%3, n%4, class))
	expected(rt, err)
}

func (m *model) claim(rt *rapid.T) {
	row := m.row(rt)
	c := claimOf(m.store, row)
	c.Attempt += rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(rt, "attempt")
	c.ObservedAt = c.ObservedAt.Add(-rapid.SampledFrom([]time.Duration{0, 0, 11 * time.Second}).Draw(rt, "age"))
	cloudBefore, err := m.store.Cloud(ctx, cloud)
	if err != nil {
		rt.Fatal(err)
	}
	_, err = m.store.Claim(ctx, c)
	expected(rt, err)
	if err != nil {
		return
	}
	m.won[row.ID]++
	counts, err := m.store.Counts(ctx, cloud)
	if err != nil {
		rt.Fatal(err)
	}
	if n := counts[results.Posting] + counts[results.Restoring]; cloudBefore.Cap > 0 && n > cloudBefore.Cap {
		rt.Fatalf("%d live restores after a claim; the cap is %d", n, cloudBefore.Cap)
	}
	if cloudBefore.Paused() && cloudBefore.Probing != row.ID {
		rt.Fatalf("claimed on a paused cloud: %+v", cloudBefore)
	}
}

var effects = []results.Effect{{}, {}, {}, {Accepted: true}, {Slow: true}, {Hold: time.Second}, {Pause: "403"}}

// move tries any move at all, but to posting, which is a claim's.
func (m *model) move(rt *rapid.T) {
	row := m.row(rt)
	to := rapid.SampledFrom(results.States).Draw(rt, "to")
	if to == results.Posting {
		rt.Skip("only Claim posts")
	}
	mv := step(row, to)
	mv.From = []results.State{rapid.SampledFrom(append(slices.Clone(results.States), row.State, row.State)).Draw(rt, "from")}
	mv.Person = rapid.Bool().Draw(rt, "person")
	mv.Attempt += rapid.SampledFrom([]int{0, 0, 0, -1}).Draw(rt, "attempt")
	m.apply(rt, mv)
}

// moveOn goes along an arrow, so that rows get anywhere.
func (m *model) moveOn(rt *rapid.T) {
	row := m.row(rt)
	always, _ := results.Arrows(row.State)
	always = slices.DeleteFunc(always, func(st results.State) bool { return st == results.Posting })
	if len(always) == 0 {
		rt.Skip("at its end")
	}
	m.apply(rt, step(row, rapid.SampledFrom(always).Draw(rt, "to")))
}

func (m *model) apply(rt *rapid.T, mv results.Move) {
	mv.Effect = rapid.SampledFrom(effects).Draw(rt, "effect")
	if rapid.Bool().Draw(rt, "answered") {
		mv.Answer, mv.Accepted, mv.Outcome = &results.Answer{Status: 202}, rapid.Bool().Draw(rt, "accepted"), "answered"
	}
	got, err := m.store.Move(ctx, mv)
	expected(rt, err)
	if err != nil {
		return
	}
	stored, err := m.store.Get(ctx, mv.ID)
	if err != nil {
		rt.Fatal(err)
	}
	diff(rt, "returned and stored", got, stored, sameRow)
}

func (m *model) release(rt *rapid.T) {
	before := m.rows(rt)
	released, err := m.store.Release(ctx, cloud, rapid.IntRange(0, 4).Draw(rt, "limit"))
	if err != nil {
		rt.Fatal(err)
	}
	for _, r := range released {
		i := slices.IndexFunc(before, func(row results.Restore) bool { return row.ID == r.ID })
		if row := before[i]; row.State != results.Waiting && row.State != results.Queued || r.Generation != row.Generation+1 {
			rt.Fatalf("released %+v of %+v", r, row)
		}
	}
}

func (m *model) act(rt *rapid.T) {
	row := m.row(rt)
	var err error
	switch rapid.SampledFrom([]string{"cancel", "retry", "restored", "failed", "again"}).Draw(rt, "act") {
	case "cancel":
		_, err = m.store.Cancel(ctx, row.ID, "anna", "test")
	case "retry":
		_, err = m.store.Retry(ctx, row.ID, "anna", "test")
	case "restored":
		_, err = m.store.Resolve(ctx, row.ID, "anna", "test", results.ResolveRestored, false)
	case "failed":
		_, err = m.store.Resolve(ctx, row.ID, "anna", "test", results.ResolveFailed, false)
	case "again":
		_, err = m.store.Resolve(ctx, row.ID, "anna", "test", results.ResolveRetry, true)
	}
	expected(rt, err)
}

func (m *model) cloud(rt *rapid.T) {
	var err error
	switch rapid.SampledFrom([]string{"pause", "resume", "resume", "probe", "limits"}).Draw(rt, "cloud") {
	case "pause":
		_, err = m.store.Pause(ctx, cloud, "anna", "test")
	case "resume":
		_, err = m.store.Resume(ctx, cloud, "anna", "test")
	case "probe":
		_, err = m.store.Probed(ctx, cloud, rapid.Bool().Draw(rt, "good"), "test")
	case "limits":
		limit, rate := rapid.IntRange(0, 3).Draw(rt, "cap"), rapid.SampledFrom([]float64{0, 0.1, 5}).Draw(rt, "rate")
		_, err = m.store.SetCloud(ctx, cloud, "anna", "test", results.CloudSettings{Cap: &limit, Rate: &rate})
	}
	expected(rt, err)
}

func (m *model) wait(rt *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{time.Microsecond, time.Second, 3 * time.Second, time.Minute, time.Hour}).Draw(rt, "time"))
}

func (m *model) number(rt *rapid.T) {
	if _, err := m.store.NumberEvents(ctx, rapid.IntRange(1, 20).Draw(rt, "limit")); err != nil {
		rt.Fatal(err)
	}
	if broken, err := m.store.CheckEvents(ctx); broken != 0 || err != nil {
		rt.Fatalf("CheckEvents = %d, %v", broken, err)
	}
}

// check: what must hold after every operation.
func (m *model) check(rt *rapid.T) {
	rows := m.rows(rt)
	byVolume, byBackup := map[string]string{}, map[string]string{}
	for _, row := range rows {
		m.checkStory(rt, row)
		if slices.Contains([]results.State{results.Posting, results.Restoring, results.Verifying, results.InDoubt}, row.State) {
			onlyOne(rt, byVolume, row.VolumeID, row.ID)
		}
		if row.State == results.Posting || row.State == results.Restoring {
			onlyOne(rt, byBackup, row.BackupID, row.ID)
		}
		if row.Attempt != m.won[row.ID] {
			rt.Fatalf("%d attempts, but %d claims won: %+v", row.Attempt, m.won[row.ID], row)
		}
		if row.FinishedAt.IsZero() == row.State.Final() {
			rt.Fatalf("finished_at does not fit the state: %+v", row)
		}
	}
	c, err := m.store.Cloud(ctx, cloud)
	if err != nil {
		rt.Fatal(err)
	}
	if c.RateNow > c.Rate || c.Rate > 0 && c.RateNow < 0.1 || c.NotBefore.After(m.store.Now().Add(10*time.Minute)) {
		rt.Fatalf("pace out of its limits: %+v", c)
	}
}

func onlyOne(rt *rapid.T, held map[string]string, what, id string) {
	if other := held[what]; other != "" {
		rt.Fatalf("%s and %s both hold %s", other, id, what)
	}
	held[what] = id
}

// checkStory: the events of a row lead from nothing to its state, along arrows only.
func (m *model) checkStory(rt *rapid.T, row results.Restore) {
	events, err := m.store.Story(ctx, row.ID)
	if err != nil {
		rt.Fatal(err)
	}
	var at results.State
	for _, e := range events {
		if e.To == "" { // of the cloud, or a conflict
			continue
		}
		if e.From != at {
			rt.Fatalf("%s: event %q leaves %q, but the row was %q", row.ID, e.Kind, e.From, at)
		}
		if _, known := m.table[arrow{e.From, e.To}]; !known && e.From != "" && e.From != e.To {
			rt.Fatalf("%s: illegal arrow %s → %s", row.ID, e.From, e.To)
		}
		at = e.To
	}
	if at != row.State {
		rt.Fatalf("%s is %s, its events end with %s", row.ID, row.State, at)
	}
}
