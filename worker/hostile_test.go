package worker_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/worker"
)

// cloudEvents are the kinds of what happened to the cloud, oldest first.
func (w *world) cloudEvents() []string {
	events, err := w.store.CloudEvents(w.t.Context(), cloudName, 1000)
	must(w.t, err)
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	slices.Reverse(kinds)
	return kinds
}

func (w *world) cloudRow() results.Cloud {
	c, err := w.store.Cloud(w.t.Context(), cloudName)
	must(w.t, err)
	return c
}

// TestOneHostileAnswer: whatever the cloud answers once, the restore is executed
// once and found restored, with no more POSTs than it needs.
func TestOneHostileAnswer(t *testing.T) {
	post := func(f simulator.Fault) map[string][]simulator.Fault {
		return map[string][]simulator.Fault{"POST restore": {f}}
	}
	for name, row := range map[string]struct {
		faults map[string][]simulator.Fault
		posts  int  // claimed
		paused bool // for a while
	}{
		"malformed 202":              {post(simulator.Fault{Kind: simulator.Malformed}), 1, false},
		"truncated 202":              {post(simulator.Fault{Kind: simulator.Truncated}), 1, false},
		"empty 202":                  {post(simulator.Fault{Kind: simulator.Empty}), 1, false},
		"202 of 4 MiB":               {post(simulator.Fault{Kind: simulator.Huge}), 1, false},
		"202 that never ends":        {post(simulator.Fault{Kind: simulator.Endless}), 1, false},
		"200 that is a page":         {post(simulator.Fault{Kind: simulator.Answer, Status: 200, Form: simulator.HTML}), 2, false},
		"200 page, though executed":  {post(simulator.Fault{Kind: simulator.AnswerAfter, Status: 200, Form: simulator.HTML}), 1, false},
		"499, though executed":       {post(simulator.Fault{Kind: simulator.AnswerAfter, Status: 499, Form: simulator.HTML}), 1, false},
		"504 page, though executed":  {post(simulator.Fault{Kind: simulator.AnswerAfter, Status: 504, Form: simulator.HTML}), 1, false},
		"501 of the gateway":         {post(simulator.Fault{Kind: simulator.Answer, Status: 501, Form: simulator.Gateway}), 2, false},
		"409 of VBS, our own replay": {post(simulator.Fault{Kind: simulator.AnswerAfter, Status: 409, Form: simulator.VBS}), 1, false},
		"403 with a busy code":       {post(simulator.Fault{Kind: simulator.AnswerAfter, Status: 403, Form: simulator.VBS, Code: "VolumeBackup.0206"}), 1, false},
		"token ended, keystone":      {post(simulator.Fault{Kind: simulator.TokenExpired}), 1, false},
		"token ended, 400":           {post(simulator.Fault{Kind: simulator.TokenExpired, Shape: simulator.ShapeCommon}), 1, false},
		"token ended, gateway":       {post(simulator.Fault{Kind: simulator.TokenExpired, Shape: simulator.ShapeGateway}), 1, false},
		"backup service down":        {post(simulator.Fault{Kind: simulator.NoService}), 2, false},
		"302":                        {post(simulator.Fault{Kind: simulator.Answer, Status: 302, Form: simulator.HTML}), 2, true},
		"403":                        {post(simulator.Fault{Kind: simulator.Answer, Status: 403}), 2, true},
		"route unknown":              {post(simulator.Fault{Kind: simulator.Answer, Status: 404, Form: simulator.HTML}), 2, true},
		"another project":            {post(simulator.Fault{Kind: simulator.Answer, Status: 400, Message: "Malformed request url"}), 2, true},
		"volume is a page":           {map[string][]simulator.Fault{"GET volume": {{Kind: simulator.Answer, Status: 200, Form: simulator.HTML}}}, 1, false},
		"volume of 4 MiB":            {map[string][]simulator.Fault{"GET volume": {{Kind: simulator.Huge}}}, 1, false},
		"volume never ends":          {map[string][]simulator.Fault{"GET volume": {{Kind: simulator.Endless}}}, 1, false},
		"backup is truncated":        {map[string][]simulator.Fault{"GET backup": {{Kind: simulator.Truncated}, {Kind: simulator.Empty}}}, 1, false},
		"backup: token ended":        {map[string][]simulator.Fault{"GET backup": {{Kind: simulator.TokenExpired, Shape: simulator.ShapeCommon}}}, 1, false},
		"listing is a page, thrice":  {map[string][]simulator.Fault{"GET volumes": {{Kind: simulator.Answer, Status: 200, Form: simulator.HTML}, {Kind: simulator.Endless}, {Kind: simulator.Truncated}}}, 1, false},
		"everything at once": {map[string][]simulator.Fault{"POST restore": {{Kind: simulator.AnswerAfter, Status: 502, Form: simulator.HTML}},
			"GET volume": {{Kind: simulator.Reset}, {Kind: simulator.Answer, Status: 502, Form: simulator.HTML}}, "GET backup": {{Kind: simulator.Empty}}, "GET volumes": {{Kind: simulator.Huge}}}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				for match, faults := range row.faults {
					w.cloud.Script(match, faults...)
				}
				w.start()
				r := w.want(w.ask(w.cloud.Pairs()[0]), results.Succeeded, 1)
				if r.Attempt != row.posts {
					t.Errorf("%d POSTs, want %d\n%s", r.Attempt, row.posts, w.story(r.ID))
				}
				if paused := slices.Contains(w.cloudEvents(), "cloud paused"); paused != row.paused {
					t.Errorf("paused: %v, want %v: %v", paused, row.paused, w.cloudEvents())
				}
				if c := w.cloudRow(); c.Paused() {
					t.Errorf("the cloud is still paused: %s", c.Reason)
				}
			})
		})
	}
}

// TestHostileRefusals: what is refused for good fails at once, with the class
// and without a second POST.
func TestHostileRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		fault simulator.Fault
		class string
	}{
		"quota":            {simulator.Fault{Kind: simulator.Answer, Status: 413, RetryAfter: "0"}, "quota"},
		"no such backup":   {simulator.Fault{Kind: simulator.Answer, Status: 404, Form: simulator.VBS, Code: "VBS.0111"}, "not_found"},
		"too small":        {simulator.Fault{Kind: simulator.Answer, Status: 400, Form: simulator.VBS, Code: "VolumeBackup.0209"}, "too_small"},
		"400 that is page": {simulator.Fault{Kind: simulator.Answer, Status: 400, Form: simulator.HTML}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				w.cloud.Script("POST restore", row.fault)
				w.start()
				r := w.want(w.ask(w.cloud.Pairs()[0]), results.Failed, 0)
				if r.FailClass != row.class || r.Advice == "" || r.Attempt != 1 {
					t.Errorf("class %q, advice %q after %d POSTs, want %q after one", r.FailClass, r.Advice, r.Attempt, row.class)
				}
				if c := w.cloudRow(); c.Paused() {
					t.Errorf("one restore's refusal paused the cloud: %s", c.Reason)
				}
			})
		})
	}
}

// refusing is a door that answers like this while it is shut: everything, or
// only restores.
func (w *world) refusing(status int, onlyRestores bool) *atomic.Bool {
	var shut atomic.Bool
	w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if !shut.Load() || onlyRestores && !isRestore(r) {
			return next.RoundTrip(r)
		}
		return html(status), nil
	})
	return &shut
}

// TestCredentialsRefusedForLong: one wrong password fails no restore. The cloud
// is paused by verdict, asked again ever more seldom, and goes on by itself.
func TestCredentialsRefusedForLong(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		shut := w.refusing(http.StatusUnauthorized, false)
		w.start()
		time.Sleep(5 * time.Second) // it logs in while it can
		shut.Store(true)
		var ids []string
		for _, p := range w.cloud.Pairs() {
			ids = append(ids, w.ask(p))
		}
		time.Sleep(16 * time.Minute)
		if c := w.cloudRow(); c.PausedBy != "verdict" || !strings.Contains(c.Reason, "401") {
			t.Errorf("paused by %q (%s), want by verdict, for the 401", c.PausedBy, c.Reason)
		}
		for _, id := range ids {
			if r := w.until(id, time.Minute, results.Waiting); r.Attempt != 0 {
				t.Errorf("a restore that could not be looked at was sent %d times\n%s", r.Attempt, w.story(id))
			}
		}
		probes := 0
		for _, kind := range w.cloudEvents() {
			if kind == "probe failed" {
				probes++
			}
		}
		if probes < 3 || probes > 5 { // after 1, 2, 4, 8 min
			t.Errorf("%d probes in 16 min, want 4", probes)
		}
		shut.Store(false)
		for _, id := range ids {
			w.want(id, results.Succeeded, 1)
		}
		if c := w.cloudRow(); c.Paused() || !slices.Contains(w.cloudEvents(), "cloud resumed") {
			t.Errorf("the cloud is paused by %q: %v", c.PausedBy, w.cloudEvents())
		}
	})
}

// TestForbiddenRestoresSpendNothing: GETs work and every restore gets a 403. One
// wrong role must not use up ten restores: each is tried once at most per probe,
// none fails, and no budget is spent.
func TestForbiddenRestoresSpendNothing(t *testing.T) {
	t.Parallel()
	bubble(t, simulator.Config{Volumes: 10, Seed: 5, GiBPerSecond: 10}, func(t *testing.T, w *world) {
		shut := w.refusing(http.StatusForbidden, true)
		shut.Store(true)
		w.start()
		var ids []string
		for _, p := range w.cloud.Pairs() {
			ids = append(ids, w.ask(p))
		}
		time.Sleep(8 * time.Minute) // probes after 1, 2, 4 min
		posts := 0
		for _, id := range ids {
			r := w.until(id, time.Minute, results.Waiting)
			if posts += r.Attempt; r.Attempt > 1 || r.Spent != 0 || r.Reason == "" {
				t.Errorf("after 8 min: %d POSTs, %d spent, %q\n%s", r.Attempt, r.Spent, r.Reason, w.story(id))
			}
		}
		if posts == 0 || posts > 10 {
			t.Errorf("%d POSTs of all ten, want a few", posts)
		}
		if c := w.cloudRow(); c.PausedBy != "verdict" || !strings.Contains(c.Reason, "403") {
			t.Errorf("paused by %q (%s), want by verdict, for the 403", c.PausedBy, c.Reason)
		}
		shut.Store(false)
		for _, id := range ids {
			w.want(id, results.Succeeded, 1)
		}
		if c := w.cloudRow(); c.Paused() {
			t.Errorf("still paused by %q", c.PausedBy)
		}
	})
}

// TestAPersonsPauseIsNotProbedAway: what a person stopped, only a person starts.
func TestAPersonsPauseIsNotProbedAway(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		_, err := w.store.Pause(t.Context(), cloudName, "ann", "maintenance")
		must(t, err)
		w.start()
		id := w.ask(w.cloud.Pairs()[0])
		time.Sleep(8 * time.Minute)
		if r := w.until(id, time.Minute, results.Waiting); r.Attempt != 0 {
			t.Errorf("sent %d times during a person's pause", r.Attempt)
		}
		if n := w.cloud.Calls()["POST restore"]; n != 0 {
			t.Errorf("%d restore POSTs during a person's pause", n)
		}
		_, err = w.store.Resume(t.Context(), cloudName, "ann", "done")
		must(t, err)
		w.want(id, results.Succeeded, 1)
	})
}

// TestARequestForAnotherProject is refused before anything is sent: the ids of
// one project mean nothing in another.
func TestARequestForAnotherProject(t *testing.T) {
	t.Parallel()
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		r := w.request(w.cloud.Pairs()[0])
		r.ProjectID = "0123456789abcdef0123456789abcdef"
		got, err := w.queue.Restore(t.Context(), r)
		must(t, err)
		row := w.want(got.ID, results.Failed, 0)
		if row.FailClass != "project" || row.Attempt != 0 {
			t.Errorf("class %q after %d POSTs, want project after none", row.FailClass, row.Attempt)
		}
		if c := w.cloudRow(); c.Paused() || w.cloud.Calls()["POST restore"] != 0 {
			t.Errorf("paused by %q, calls %v", c.PausedBy, w.cloud.Calls())
		}
	})
}

// TestEveryPOSTIsATimeout: the cloud executes nothing and answers nothing but
// 504. The budget ends it, with the truth.
func TestEveryPOSTIsATimeout(t *testing.T) {
	t.Parallel()
	always504 := simulator.Rule{Match: "POST restore", P: 1, Fault: simulator.Fault{Kind: simulator.Answer, Status: 504, Form: simulator.HTML}}
	bubble(t, simulator.Config{Volumes: 1, Seed: 3, Faults: simulator.Faults{Rules: []simulator.Rule{always504}}}, func(t *testing.T, w *world) {
		w.config = func(c *worker.Config) { c.Budget = 3 }
		w.start()
		r := w.want(w.ask(w.cloud.Pairs()[0]), results.Failed, 0)
		if r.FailClass != "gave_up" || r.Attempt != 3 || r.Spent != 3 {
			t.Errorf("class %q after %d POSTs, %d spent, want gave_up after the budget of 3\n%s", r.FailClass, r.Attempt, r.Spent, w.story(r.ID))
		}
	})
}

// TestNeverRetried: a status that the settings do not retry ends the restore only
// when the cloud shows that it did nothing.
func TestNeverRetried(t *testing.T) {
	for name, row := range map[string]struct {
		kind       simulator.Kind
		want       results.State
		executions int
	}{
		"not executed": {simulator.Answer, results.Failed, 0},
		"executed":     {simulator.AnswerAfter, results.Succeeded, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				w.config = func(c *worker.Config) { c.Policy = worker.Policy{Never: []int{504}} }
				w.cloud.Script("POST restore", simulator.Fault{Kind: row.kind, Status: 504, Form: simulator.HTML})
				w.start()
				if r := w.want(w.ask(w.cloud.Pairs()[0]), row.want, row.executions); r.Attempt != 1 {
					t.Errorf("%d POSTs, want one\n%s", r.Attempt, w.story(r.ID))
				}
			})
		})
	}
}
