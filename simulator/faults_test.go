package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/simulator"
)

// patience is how long a client waits for an answer.
const patience = 60 * time.Second

// tryRestore sends one POST with patience, and returns what it got in a word.
func tryRestore(d *desk, p simulator.Pair) string {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	r := d.send(ctx, "POST", "/v3/{p}/backups/"+p.BackupID+"/restore", restoreBody(p.VolumeID), nil)
	return word(r)
}

func word(r reply) string {
	switch {
	case errors.Is(r.err, context.DeadlineExceeded) && r.status != 0:
		return fmt.Sprint(r.status, " endless")
	case errors.Is(r.err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(r.err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(r.err, io.EOF):
		return "eof"
	case r.err != nil:
		return r.err.Error()
	case r.status == 202 && !json.Valid([]byte(r.body)):
		return "202 unreadable"
	case len(r.body) > 1<<20:
		return fmt.Sprint(r.status, " huge")
	}
	return fmt.Sprint(r.status)
}

func TestEachFaultDoesWhatItSays(t *testing.T) {
	s := time.Second
	for _, test := range []struct {
		fault    simulator.Fault
		answer   string
		atOnce   string // statuses right after the answer
		took     time.Duration
		executed bool
		end      string // statuses in the end
	}{
		{simulator.Fault{Kind: simulator.Answer}, "503", "available/available", 0, false, "available/available"},
		{simulator.Fault{Kind: simulator.Answer, Status: 504, Form: simulator.HTML}, "504", "available/available", 0, false, "available/available"},
		{simulator.Fault{Kind: simulator.AnswerAfter, Form: simulator.HTML}, "504", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Reset}, "reset", "available/available", 0, false, "available/available"},
		{simulator.Fault{Kind: simulator.ResetAfter}, "reset", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.EOF}, "eof", "available/available", 0, false, "available/available"},
		{simulator.Fault{Kind: simulator.EOFAfter}, "eof", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Late, After: 2 * s}, "202", "restoring-backup/restoring", 2 * s, true, "available/available"},
		{simulator.Fault{Kind: simulator.Late, After: 70 * s}, "timeout", "available/available", patience, true, "available/available"},
		{simulator.Fault{Kind: simulator.Malformed}, "202 unreadable", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Truncated}, "202 unreadable", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Empty}, "202 unreadable", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Huge}, "202 huge", "restoring-backup/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Endless}, "202 endless", "available/available", patience, true, "available/available"},
		{simulator.Fault{Kind: simulator.AsyncFailure}, "202", "restoring-backup/restoring", 0, true, "error_restoring/available"},
		{simulator.Fault{Kind: simulator.AsyncFailure, Outcome: "error"}, "202", "restoring-backup/restoring", 0, true, "error/available"},
		{simulator.Fault{Kind: simulator.Stuck}, "202", "restoring-backup/restoring", 0, true, "restoring-backup/restoring"},
		{simulator.Fault{Kind: simulator.Crash, After: 10 * s}, "202", "restoring-backup/restoring", 0, true, "error_restoring/available"},
		{simulator.Fault{Kind: simulator.NoService}, "404", "available/available", 0, false, "available/available"},
		{simulator.Fault{Kind: simulator.Hang, After: 75 * s}, "timeout", "restoring-backup/restoring", patience, true, "available/available"},
		{simulator.Fault{Kind: simulator.HangUnseen, After: 75 * s}, "timeout", "available/available", patience, true, "available/available"},
		{simulator.Fault{Kind: simulator.Pause, After: 4 * s}, "202", "available/restoring", 0, true, "available/available"},
		{simulator.Fault{Kind: simulator.Queue, After: 4 * s}, "202", "available/available", 0, true, "available/available"},
	} {
		name := fmt.Sprintf("%s %d %s %v", test.fault.Kind, test.fault.Status, test.fault.Form, test.fault.After)
		t.Run(name, func(t *testing.T) {
			for _, door := range []func(testing.TB, *simulator.Cloud) *desk{inside, piped} {
				synctest.Test(t, func(t *testing.T) {
					c := newCloud(t, simulator.Config{})
					d, p := door(t, c), pair(c, 5)
					c.Script("POST restore", test.fault)
					start := time.Now()
					answer := tryRestore(d, p)
					if test.answer == "reset" && answer == "eof" && d.overPipe {
						answer = "reset" // a pipe cannot tell them apart
					}
					got := []any{answer, time.Since(start), d.statuses(p)}
					time.Sleep(10 * time.Minute)
					got = append(got, len(c.Executions()) == 1, d.statuses(p))
					if diff := cmp.Diff([]any{test.answer, test.took, test.atOnce, test.executed, test.end}, got); diff != "" {
						t.Errorf("answer, time, statuses, executed, statuses (-want +got):\n%s", diff)
					}
				})
			}
		})
	}
}

func TestResetsAreResetsOnTheWireToo(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p := outside(t, c), pair(c, 1)
	c.Script("POST restore", simulator.Fault{Kind: simulator.Reset}, simulator.Fault{Kind: simulator.EOF})
	got := []string{tryRestore(d, p), tryRestore(d, p), tryRestore(d, p)}
	if diff := cmp.Diff([]string{"reset", "eof", "202"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheServerGivesUpAnEndlessBodyWhenItIsClosed(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p := outside(t, c), pair(c, 1)
	c.Script("POST restore", simulator.Fault{Kind: simulator.Endless})
	r, err := http.NewRequestWithContext(t.Context(), "POST", d.base+"/v3/"+project+"/backups/"+p.BackupID+"/restore", strings.NewReader(restoreBody(p.VolumeID)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Auth-Token", d.token)
	resp, err := d.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end of the body: %v", err)
	}
}

func TestFaultyAnswersHaveTheFormWanted(t *testing.T) {
	for _, test := range []struct {
		fault simulator.Fault
		body  string
		own   bool // has Cinder's request ids
	}{
		{simulator.Fault{Status: 500}, `{"computeFault":{"code":500,"message":"The server has either erred or is incapable of performing the requested operation."}}`, true},
		{simulator.Fault{Status: 409}, `{"conflictingRequest":{"code":409,"message":"Conflict"}}`, true},
		{simulator.Fault{Status: 408}, `{"computeFault":{"code":408,"message":"Request Timeout"}}`, true},
		{simulator.Fault{Status: 413, RetryAfter: "0", Message: "exceeds quota"}, `{"overLimit":{"code":413,"message":"exceeds quota","retryAfter":"0"}}`, true},
		{simulator.Fault{Status: 502, Form: simulator.HTML}, "<h1>502 Bad Gateway</h1>", false},
		{simulator.Fault{Status: 429, Form: simulator.Gateway}, `"error_code":"APIG.0308"`, false},
		{simulator.Fault{Status: 504, Form: simulator.Gateway}, `"error_code":"APIG.0201"`, false},
		{simulator.Fault{Status: 409, Form: simulator.VBS}, `{"error":{"code":"VolumeBackup.0206","message":"A backup is being created for the disk."}}`, false},
		{simulator.Fault{Status: 500, Form: simulator.VBS, Code: "VBS.0014", Message: "Failed to submit the task."}, `{"error":{"code":"VBS.0014","message":"Failed to submit the task."}}`, false},
	} {
		t.Run(fmt.Sprintf("%d %s %s", test.fault.Status, test.fault.Form, test.fault.Code), func(t *testing.T) {
			c := newCloud(t, simulator.Config{})
			d := inside(t, c)
			test.fault.Kind = simulator.Answer
			c.Script("GET", test.fault)
			r := d.must("GET", "/v3/{p}/volumes", "")
			if r.status != test.fault.Status || !strings.Contains(r.body, test.body) {
				t.Errorf("%d %s, want %d %s", r.status, r.body, test.fault.Status, test.body)
			}
			if got := r.header.Get("Retry-After"); got != test.fault.RetryAfter {
				t.Errorf("Retry-After %q, want %q", got, test.fault.RetryAfter)
			}
			if own := r.header.Get("X-Compute-Request-Id") != ""; own != test.own {
				t.Errorf("has Cinder's request id: %v, want %v", own, test.own)
			}
			if r := d.must("GET", "/v3/{p}/volumes", ""); r.status != 200 {
				t.Errorf("the next request: %d", r.status)
			}
		})
	}
}

func TestOnlyANewTokenHealsAnExpiredOne(t *testing.T) {
	for shape, want := range map[simulator.Shape]string{
		simulator.ShapeKeystone: "401 requires authentication", simulator.ShapeCommon: "400 Common.0013", simulator.ShapeGateway: "401 APIG.0301",
	} {
		t.Run(string(shape), func(t *testing.T) {
			c := newCloud(t, simulator.Config{})
			d, p := inside(t, c), pair(c, 1)
			c.Script("POST restore", simulator.Fault{Kind: simulator.TokenExpired, Shape: shape})
			status, text, _ := strings.Cut(want, " ")
			for range 2 {
				if r := d.restore(p); fmt.Sprint(r.status) != status || !strings.Contains(r.body, text) {
					t.Errorf("%d %s, want %s", r.status, r.body, want)
				}
			}
			d.login()
			if r := d.restore(p); r.status != 202 {
				t.Errorf("with a new token: %d %s", r.status, r.body)
			}
		})
	}
}

func TestTokensEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inside(t, newCloud(t, simulator.Config{TokenLife: time.Hour}))
		time.Sleep(time.Hour - time.Nanosecond)
		before := d.must("GET", "/v3/{p}/volumes", "").status
		time.Sleep(time.Nanosecond)
		if after := d.must("GET", "/v3/{p}/volumes", "").status; before != 200 || after != 401 {
			t.Errorf("got %d then %d, want 200 then 401", before, after)
		}
	})
}

func TestAScriptCanBeForOneVolume(t *testing.T) {
	c := newCloud(t, simulator.Config{})
	d, p, other := inside(t, c), pair(c, 1), pair(c, 1)
	c.Script("POST restore "+p.VolumeID, simulator.Fault{Kind: simulator.Answer, Status: 500})
	c.Script("POST restore", simulator.Fault{Kind: simulator.Answer, Status: 502})
	got := []int{d.restore(p).status, d.restore(other).status, d.restore(other).status, d.restore(p).status}
	if diff := cmp.Diff([]int{500, 502, 202, 202}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Faults: simulator.Faults{RatePerSecond: 5}})
		d := inside(t, c)
		burst := func() (ok int) {
			for range 20 {
				if r := d.must("GET", "/v3/{p}/backups?limit=1", ""); r.status == 200 {
					ok++
				} else if r.status != 429 || !strings.Contains(r.body, "APIG.0308") {
					t.Fatalf("%d %s", r.status, r.body)
				}
			}
			return ok
		}
		got := []int{burst()}
		time.Sleep(400 * time.Millisecond)
		got = append(got, burst())
		time.Sleep(time.Minute)
		got = append(got, burst())
		if diff := cmp.Diff([]int{5, 2, 5}, got); diff != "" {
			t.Errorf("answered of 20, each time (-want +got):\n%s", diff)
		}
	})
}

// day sends n restores to n pairs and gives what each one got.
func day(t *testing.T, faults simulator.Faults, seed uint64, n int) (answers []string, executed int) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Seed: seed, Faults: faults, Volumes: n, Capacity: -1})
		d := inside(t, c)
		for _, p := range c.Pairs() {
			d.login()
			answers = append(answers, tryRestore(d, p))
		}
		time.Sleep(time.Hour)
		executed = len(c.Executions())
	})
	return answers, executed
}

func TestTheStandardDayHasEverything(t *testing.T) {
	answers, executed := day(t, simulator.StandardFaults(), 3, 400)
	for _, want := range []string{"202", "202 unreadable", "408", "409", "429", "500", "502", "503", "504", "reset", "eof"} {
		if !slices.Contains(answers, want) {
			t.Errorf("no %q", want)
		}
	}
	if good := count(answers, "202"); good < 280 || good > 340 {
		t.Errorf("%d of 400 got a good 202, want about 310", good)
	}
	if executed <= count(answers, "202")+count(answers, "202 unreadable") {
		t.Errorf("%d executed: no executed restore had a bad answer", executed)
	}
}

func TestTheHostileDayIsWorse(t *testing.T) {
	answers, _ := day(t, simulator.HostileFaults(), 3, 400)
	for _, want := range []string{"timeout", "401", "400", "202 huge", "202 endless"} {
		if !slices.Contains(answers, want) {
			t.Errorf("no %q", want)
		}
	}
	if good := count(answers, "202"); good > 100 {
		t.Errorf("%d of 400 got a good 202, want few", good)
	}
}

func count(list []string, s string) (n int) {
	for _, x := range list {
		if x == s {
			n++
		}
	}
	return n
}

func TestTheSeedDecides(t *testing.T) {
	one, _ := day(t, simulator.StandardFaults(), 11, 100)
	again, _ := day(t, simulator.StandardFaults(), 11, 100)
	if diff := cmp.Diff(one, again); diff != "" {
		t.Errorf("the same seed differs:\n%s", diff)
	}
	if other, _ := day(t, simulator.StandardFaults(), 12, 100); slices.Equal(one, other) {
		t.Error("another seed gives the same")
	}
}

func TestPOSTsInsideTheWindowAreAllAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, simulator.Config{Faults: simulator.Faults{NoLockWindow: 20 * time.Millisecond}})
		d, p := inside(t, c), pair(c, 1)
		answers := make(chan int, 7)
		for range 6 {
			go func() { answers <- d.restore(p).status }()
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		answers <- d.restore(p).status
		var got []int
		for range 7 {
			got = append(got, <-answers)
		}
		if diff := cmp.Diff([]int{202, 202, 202, 202, 202, 202, 400}, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if n := len(c.Executions()); n != 6 {
			t.Errorf("%d executions, want 6", n)
		}
	})
}

func TestParseFaults(t *testing.T) {
	got, err := simulator.ParseFaults([]byte(`{"rules":[{"match":"POST restore","p":0.5,"kind":"late","after":"2s"}],
		"no_lock_window":"5ms","rate_per_second":3,"max_late":"1m"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := simulator.Faults{NoLockWindow: 5 * time.Millisecond, RatePerSecond: 3, MaxLate: time.Minute,
		Rules: []simulator.Rule{{Match: "POST restore", P: 0.5, Fault: simulator.Fault{Kind: simulator.Late, After: 2 * time.Second}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseFaultsRefusesMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"rule":[]}`: `unknown field "rule"`,
		`{"rules":[{"match":"POST restore","p":1,"kind":"late","aftr":"2s"}]}`:                    `unknown field "aftr"`,
		`{"rules":[{"match":"POST restore","p":1,"kind":"boom"}]}`:                                `unknown kind "boom"`,
		`{"rules":[{"match":"restore","p":1,"kind":"late"}]}`:                                     `"METHOD kind"`,
		`{"rules":[{"match":"POST restore","p":2,"kind":"late"}]}`:                                `p is 2`,
		`{"rules":[{"match":"GET","p":0.6,"kind":"reset"},{"match":"GET","p":0.6,"kind":"eof"}]}`: `more than 1`,
		`{"rules":[{"match":"GET","p":0.6,"kind":"answer","form":"xml"}]}`:                        `unknown form "xml"`,
		`{"rules":[{"match":"GET","p":0.6,"kind":"answer","status":99}]}`:                         `status 99`,
		`{"rules":[{"match":"POST restore","p":1,"kind":"async-failure","outcome":"available"}]}`: `outcome "available"`,
		`{"rules":[{"match":"POST restore","p":1,"kind":"token-expired","shape":"round"}]}`:       `unknown shape "round"`,
		`{"max_late":"soon"}`:    `invalid duration "soon"`,
		`{"max_late":"-1s"}`:     `must not be negative`,
		`{"max_late":"1s"} {}`:   `more than one value`,
		`{"rate_per_second":-1}`: `must not be negative`,
	} {
		if _, err := simulator.ParseFaults([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
