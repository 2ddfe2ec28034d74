package worker_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
)

// small is a cloud of a few small volumes.
func small() simulator.Config { return simulator.Config{Volumes: 4, Seed: 3, GiBPerSecond: 10} }

func bubble(t *testing.T, c simulator.Config, run func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c)
		defer w.close()
		run(t, w)
	})
}

// want checks the end of a restore and how often the cloud executed it.
func (w *world) want(id string, state results.State, executions int) results.Restore {
	w.t.Helper()
	row := w.until(id, 4*time.Hour, state)
	if n := len(w.executions(id)); n != executions {
		w.t.Errorf("the cloud executed it %d times, want %d\n%s", n, executions, w.story(id))
	}
	return row
}

// A door is a gateway of our own before the cloud.
type door func(r *http.Request, next http.RoundTripper) (*http.Response, error)

func (w *world) gateway(d door) {
	w.door = func(next http.RoundTripper) http.RoundTripper { return doorTo{d, next} }
}

type doorTo struct {
	d    door
	next http.RoundTripper
}

func (d doorTo) RoundTrip(r *http.Request) (*http.Response, error) { return d.d(r, d.next) }

func isRestore(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/restore")
}

func html(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html><h1>Gateway Time-out</h1></html>"))}
}

// heldBack answers the first restore POST with 504 at once and hands it to the
// cloud only d later.
func (w *world) heldBack(d time.Duration) {
	var first atomic.Bool
	w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if !isRestore(r) || !first.CompareAndSwap(false, true) {
			return next.RoundTrip(r)
		}
		w.holdBack(r, next, d)
		return html(http.StatusGatewayTimeout), nil
	})
}

// holdBack hands a request to the cloud d later, whoever stopped waiting for it.
func (w *world) holdBack(r *http.Request, next http.RoundTripper, d time.Duration) {
	body, _ := io.ReadAll(r.Body) // in memory
	late := r.Clone(context.WithoutCancel(r.Context()))
	late.Body = io.NopCloser(strings.NewReader(string(body)))
	w.held.Go(func() {
		time.Sleep(d)
		ctx, cancel := context.WithTimeout(late.Context(), time.Minute)
		defer cancel()
		if res, err := next.RoundTrip(late.WithContext(ctx)); err == nil {
			res.Body.Close()
		}
	})
}

func Test504WhileTheAPIThreadHasNotBegun(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.heldBack(45 * time.Second) // below settle
		w.start()
		row := w.want(w.ask(w.cloud.Pairs()[0]), results.Succeeded, 1)
		if row.Attempt != 1 {
			t.Errorf("sent %d POSTs, want the one held back to be adopted", row.Attempt)
		}
	})
}

func TestAPOSTHeldBackBeyondSettleIsFoundBeforeTheNextPOST(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.heldBack(100 * time.Second) // settle is 90 s: taken for not executed by then
		w.start()
		id := w.ask(w.cloud.Pairs()[0])
		w.until(id, time.Hour, results.Posting)
		time.Sleep(50 * time.Second)
		_, err := w.store.Pause(t.Context(), cloudName, "test", "nothing may go out while the first POST runs late")
		must(t, err)
		w.until(id, time.Hour, results.Waiting)
		time.Sleep(5 * time.Minute)
		_, err = w.store.Resume(t.Context(), cloudName, "test", "go on")
		must(t, err)
		w.want(id, results.Succeeded, 1)
	})
}

// The POST held back runs after settle, and between it and the next one came an
// attempt that was proven not executed: the older doubt is not forgotten by that.
func TestADoubtOutlivesARefusedAttempt(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pair := w.cloud.Pairs()[0]
		w.heldBack(130 * time.Second)
		w.cloud.Script("POST restore "+pair.VolumeID, simulator.Fault{Kind: simulator.Answer, Status: 429, Form: simulator.Gateway, RetryAfter: "240"})
		w.start()
		row := w.want(w.ask(pair), results.Succeeded, 1)
		if row.Attempt != 2 {
			t.Errorf("%d POSTs, want the held one and the throttled one\n%s", row.Attempt, w.story(row.ID))
		}
	})
}

// The one case that cannot be excluded: a gateway holds the POST back until after
// settle and after the end of the next POST. It is never silent.
func TestAPOSTHeldBackUntilAfterTheEndIsDetected(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.heldBack(20 * time.Minute)
		w.start()
		id := w.ask(w.cloud.Pairs()[0])
		w.want(id, results.Succeeded, 1)
		time.Sleep(30 * time.Minute)
		if n := len(w.executions(id)); n != 2 {
			t.Fatalf("the cloud executed %d, the test means to have 2", n)
		}
		events, err := w.store.Story(t.Context(), id)
		must(t, err)
		told := slices.ContainsFunc(events, func(e results.Event) bool { return e.Kind == "executed again" })
		row, err := w.store.Get(t.Context(), id)
		must(t, err)
		if !told || row.Advice == "" {
			t.Errorf("the second execution was not told\n%s", w.story(id))
		}
	})
}

func TestAListingTakenBeforeThePOSTProvesNothing(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		var held atomic.Bool
		w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			if strings.HasSuffix(r.URL.Path, "/volumes/detail") && held.CompareAndSwap(false, true) {
				time.Sleep(20 * time.Second) // old when it arrives
			}
			return res, err
		})
		w.cloud.Script("POST restore", simulator.Fault{Kind: simulator.AnswerAfter, Status: 500, Form: simulator.Cinder})
		w.start()
		pairs := w.cloud.Pairs()
		first := w.ask(pairs[0])
		w.until(first, time.Minute, results.Posting)
		second := w.ask(pairs[1])
		w.want(first, results.Succeeded, 1)
		w.want(second, results.Succeeded, 1)
	})
}

// betweenAdmitAndClaim does something when the backup is looked at: after the row
// was admitted and before it is claimed.
func (w *world) betweenAdmitAndClaim(do func()) {
	var once atomic.Bool
	w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/backups/") && once.CompareAndSwap(false, true) {
			do()
		}
		return next.RoundTrip(r)
	})
}

func TestAPauseBetweenAdmitAndClaimHolds(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.betweenAdmitAndClaim(func() {
			_, err := w.store.Pause(t.Context(), cloudName, "operator", "wrong cloud!")
			must(t, err)
		})
		w.start()
		id := w.ask(w.cloud.Pairs()[0])
		time.Sleep(10 * time.Minute)
		if row := w.want(id, results.Waiting, 0); row.Wait != results.WaitPaused || row.Attempt != 0 {
			t.Errorf("got wait %q and %d attempts, want paused and none", row.Wait, row.Attempt)
		}
		_, err := w.store.Resume(t.Context(), cloudName, "operator", "right after all")
		must(t, err)
		w.want(id, results.Succeeded, 1)
	})
}

func TestACancelBetweenAdmitAndClaimHolds(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		ids := make(chan string, 1)
		w.betweenAdmitAndClaim(func() {
			_, err := w.store.Cancel(t.Context(), <-ids, "operator", "wrong volume!")
			must(t, err)
		})
		id := w.ask(w.cloud.Pairs()[0])
		ids <- id
		w.start()
		w.until(id, time.Minute, results.Cancelled)
		time.Sleep(10 * time.Minute)
		w.want(id, results.Cancelled, 0)
	})
}

func TestAMessageForARowInAnotherStoreIsKeptAndNeverExecuted(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		stranger := tasks.NewID()
		must(t, w.queue.Wake(t.Context(), cloudName, []tasks.Wake{{ID: stranger, Generation: 3}}))
		time.Sleep(time.Minute)
		kept, err := w.store.Rejections(t.Context(), results.Page{}, 10)
		must(t, err)
		if len(kept) != 1 || !strings.Contains(kept[0].Reason, stranger) {
			t.Errorf("rejected messages: %+v, want the one wake-up", kept)
		}
		if n := len(w.cloud.Executions()); n != 0 {
			t.Errorf("the cloud executed %d restores", n)
		}
	})
}

func TestTheSameIDWithAnotherVolumeIsAConflict(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		pairs := w.cloud.Pairs()
		id := w.ask(pairs[0])
		w.until(id, time.Minute, results.Restoring)
		other := w.request(pairs[1])
		other.ID = id
		_, err := w.queue.Restore(t.Context(), other)
		must(t, err)
		w.want(id, results.Succeeded, 1)
		time.Sleep(10 * time.Minute)
		if n := len(w.cloud.Executions()); n != 1 {
			t.Errorf("the cloud executed %d restores, want 1", n)
		}
		events, err := w.store.Story(t.Context(), id)
		must(t, err)
		if !slices.ContainsFunc(events, func(e results.Event) bool { return e.Kind == "conflict" && strings.Contains(e.Reason, other.VolumeID) }) {
			t.Errorf("the conflict is not shown\n%s", w.story(id))
		}
	})
}

func TestARestoreFasterThanATick(t *testing.T) {
	bubble(t, simulator.Config{Volumes: 3, Seed: 3, GiBPerSecond: 1e6, MinDuration: -1, BackupLag: -1}, func(t *testing.T, w *world) {
		w.start()
		if row := w.want(w.ask(w.cloud.Pairs()[0]), results.Succeeded, 1); row.Proof != results.ProofStatus {
			t.Errorf("proof %q, want status\n%s", row.Proof, w.story(row.ID))
		}
		w.cloud.Script("POST restore", simulator.Fault{Kind: simulator.AnswerAfter, Status: 504, Form: simulator.HTML})
		if row := w.want(w.ask(w.cloud.Pairs()[1]), results.Succeeded, 1); row.Proof != results.ProofWeak || row.Attempt != 1 {
			t.Errorf("after a 504: proof %q and %d attempts, want weak and 1\n%s", row.Proof, row.Attempt, w.story(row.ID))
		}
	})
}

func TestAFileEnqueuedTwiceDoublesNothing(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		for range 2 {
			var lines []tasks.Restore
			for i, p := range w.cloud.Pairs() {
				r := w.request(p)
				r.ID = tasks.LineID("sha256 of the file", i+1)
				lines = append(lines, r)
			}
			_, err := w.queue.Restores(t.Context(), lines)
			must(t, err)
			time.Sleep(3 * time.Minute)
		}
		for i := range w.cloud.Pairs() {
			w.want(tasks.LineID("sha256 of the file", i+1), results.Succeeded, 1)
		}
		if n := len(w.cloud.Executions()); n != len(w.cloud.Pairs()) {
			t.Errorf("the cloud executed %d restores for %d lines", n, len(w.cloud.Pairs()))
		}
	})
}

// TestAWorkerKilledAtEveryStep kills the only worker at its first, second, third
// … step towards store, cloud and Redis, and starts another one.
func TestAWorkerKilledAtEveryStep(t *testing.T) {
	for step := 1; step <= 60; step += stride {
		t.Run(fmt.Sprintf("step %d", step), func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				id := w.ask(w.cloud.Pairs()[0])
				p := w.start()
				p.power.dieIn(step)
				time.Sleep(20 * time.Second)
				p.kill()
				w.start()
				w.want(id, results.Succeeded, 1)
			})
		})
	}
}

// A process is suspended at its first, second, third … step, so also between the
// claim's commit and the POST, for longer than post_deadline and settle together:
// its row is judged and sent again by another. When it wakes up it must send
// nothing any more.
func TestAWorkerFrozenAtEveryStep(t *testing.T) {
	for step := 1; step <= 45; step += stride {
		t.Run(fmt.Sprintf("step %d", step), func(t *testing.T) {
			t.Parallel()
			bubble(t, small(), func(t *testing.T, w *world) {
				id := w.ask(w.cloud.Pairs()[0])
				frozen := w.start()
				frozen.power.freezeIn(step, 3*time.Minute) // post_deadline, settle and a bit
				time.Sleep(10 * time.Second)
				w.start()
				w.want(id, results.Succeeded, 1)
				time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 4, 0, 0, time.UTC))) // it is awake again
				w.want(id, results.Succeeded, 1)
			})
		})
	}
}

func (w *world) stateOf(id string) results.State {
	row, err := w.store.Get(w.t.Context(), id)
	if err != nil {
		return ""
	}
	return row.State
}

func TestAnAttachedVolumeWaitsAndGoesOnByItself(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pair := w.cloud.Pairs()[0]
		w.cloud.Attach(pair.VolumeID, "11111111-2222-3333-4444-555555555555")
		w.start()
		id := w.ask(pair)
		time.Sleep(20 * time.Minute)
		if row := w.want(id, results.Waiting, 0); row.Wait != results.WaitAttached || row.Attempt != 0 || !strings.Contains(row.Reason, "11111111") {
			t.Errorf("got %q, %d attempts, %q; want attached, 0, the server", row.Wait, row.Attempt, row.Reason)
		}
		w.cloud.Detach(pair.VolumeID)
		before := time.Now()
		w.want(id, results.Succeeded, 1)
		if took := time.Since(before); took > 2*time.Minute {
			t.Errorf("went on %s after the detach", took)
		}
	})
}

func TestALateRequestIsRefused(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		r := w.request(w.cloud.Pairs()[0])
		r.NotAfter = time.Now().Add(time.Hour)
		_, err := w.queue.Restore(t.Context(), r)
		must(t, err)
		time.Sleep(2 * time.Hour)
		w.start()
		if row := w.want(r.ID, results.Failed, 0); row.FailClass != "late" {
			t.Errorf("failed as %q, want late", row.FailClass)
		}
	})
}

func TestANotBeforeIsKept(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		r := w.request(w.cloud.Pairs()[0])
		r.NotBefore = time.Now().Add(time.Hour)
		_, err := w.queue.Restore(t.Context(), r)
		must(t, err)
		w.want(r.ID, results.Succeeded, 1)
		if at := w.executions(r.ID)[0].AcceptedAt; at.Before(r.NotBefore) || at.After(r.NotBefore.Add(time.Minute)) {
			t.Errorf("executed at %s, not before %s", at, r.NotBefore)
		}
	})
}

func TestAVolumeRestoredMeanwhileIsNotOverwritten(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pairs := w.cloud.Pairs()
		other := w.cloud.AddBackup(simulator.Backup{VolumeID: pairs[0].VolumeID, SizeGiB: 1})
		early := w.request(simulator.Pair{BackupID: other.ID, VolumeID: pairs[0].VolumeID}) // asked for first, sent last
		time.Sleep(time.Second)
		w.start()
		w.want(w.ask(pairs[0]), results.Succeeded, 1)
		_, err := w.queue.Restore(t.Context(), early)
		must(t, err)
		if row := w.want(early.ID, results.Failed, 0); row.FailClass != "already_restored" {
			t.Errorf("failed as %q, want already_restored", row.FailClass)
		}
		again := early
		again.ID, again.Again = tasks.NewID(), true
		_, err = w.queue.Restore(t.Context(), again)
		must(t, err)
		w.want(again.ID, results.Succeeded, 1)
	})
}

func TestTwoVolumesFromOneBackupGoOneAfterTheOther(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pairs := w.cloud.Pairs()
		target := w.cloud.AddVolume(simulator.Volume{SizeGiB: 500})
		w.start()
		a, b := w.ask(pairs[0]), w.ask(simulator.Pair{BackupID: pairs[0].BackupID, VolumeID: target.ID})
		ra, rb := w.want(a, results.Succeeded, 1), w.want(b, results.Succeeded, 1)
		if ra.Attempt+rb.Attempt != 2 {
			t.Errorf("%d POSTs for two restores", ra.Attempt+rb.Attempt)
		}
	})
}

// An old copy of the store is put back while Redis has seen a newer leader: the
// clouds are paused, and volumes that changed meanwhile end in doubt, not in a
// second restore.
func TestAStoreThatLostCommitsIsNotTrusted(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pair := w.cloud.Pairs()[0]
		r := w.request(pair)
		_, _, err := w.store.Record(t.Context(), r)
		must(t, err)
		time.Sleep(time.Minute)
		must(t, w.cloud.ForeignRestore(pair.VolumeID, pair.BackupID)) // what the lost commits had done
		time.Sleep(5 * time.Minute)
		_, err = w.store.Suspect(t.Context(), cloudName, "the store lost commits")
		must(t, err)
		w.start()
		time.Sleep(time.Minute)
		if s := w.stateOf(r.ID); s != results.Waiting {
			t.Errorf("while paused it is %s, want waiting", s)
		}
		_, err = w.store.Resume(t.Context(), cloudName, "operator", "checked")
		must(t, err)
		w.want(r.ID, results.InDoubt, 0)
	})
}

// inDoubt brings a restore into doubt: a 504 that was not executed, while the
// volume is renamed and another backup of it is made.
func (w *world) inDoubt(pair simulator.Pair) (id string, sibling simulator.Backup) {
	w.cloud.Script("POST restore "+pair.VolumeID, simulator.Fault{Kind: simulator.Answer, Status: 504, Form: simulator.HTML})
	id = w.ask(pair)
	w.until(id, time.Minute, results.Posting)
	w.cloud.Rename(pair.VolumeID, "renamed")
	w.cloud.TouchParent(pair.BackupID)
	sibling = w.cloud.AddBackup(simulator.Backup{VolumeID: pair.VolumeID, SizeGiB: 1, Created: time.Now(), Updated: time.Now().Add(time.Second)})
	w.until(id, time.Hour, results.InDoubt)
	return id, sibling
}

func TestADoubtDoesNotVanishWithItsCause(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		id, sibling := w.inDoubt(w.cloud.Pairs()[0])
		w.cloud.DeleteBackup(sibling.ID)
		time.Sleep(10 * time.Minute)
		w.want(id, results.InDoubt, 0)
	})
}

func TestARowBehindADoubtWaitsWithoutSpinning(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		w.start()
		pairs := w.cloud.Pairs()
		_, sibling := w.inDoubt(pairs[0])
		behind := w.ask(simulator.Pair{BackupID: sibling.ID, VolumeID: pairs[0].VolumeID})
		time.Sleep(5 * time.Minute)
		before := w.cloud.Calls()["GET backup"]
		time.Sleep(10 * time.Minute)
		if n := w.cloud.Calls()["GET backup"] - before; n > 10*3 { // the doubt is looked at twice a minute
			t.Errorf("%d looks at backups within ten minutes", n)
		}
		if row := w.want(behind, results.Waiting, 0); row.Wait != results.WaitHeld {
			t.Errorf("waits for %q: %s", row.Wait, row.Reason)
		}
		w.want(w.ask(pairs[1]), results.Succeeded, 1) // others are not held up
	})
}

func TestACloudWhoseMessagesCannotBeRead(t *testing.T) {
	for status, proof := range map[int]results.Proof{403: results.ProofStatus, 500: results.ProofWeak} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			bubble(t, small(), func(t *testing.T, w *world) {
				w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if strings.Contains(r.URL.Path, "/messages") {
						return html(status), nil
					}
					return next.RoundTrip(r)
				})
				tiny := w.cloud.AddVolume(simulator.Volume{SizeGiB: 1})
				backup := w.cloud.AddBackup(simulator.Backup{VolumeID: tiny.ID, SizeGiB: 1})
				w.start()
				if row := w.want(w.ask(simulator.Pair{BackupID: backup.ID, VolumeID: tiny.ID}), results.Succeeded, 1); row.Proof != proof {
					t.Errorf("proof %q, want %q", row.Proof, proof)
				}
			})
		})
	}
}

// A worker freezes right after its POST left; a front end queues the restore
// after its 202, so nothing shows when settle is over. The 202 comes late.
func TestALate202IsBelieved(t *testing.T) {
	bubble(t, small(), func(t *testing.T, w *world) {
		pair := w.cloud.Pairs()[0]
		w.cloud.Script("POST restore "+pair.VolumeID, simulator.Fault{Kind: simulator.Queue, After: 10 * time.Minute})
		first := w.start()
		posted := make(chan struct{})
		var once atomic.Bool
		w.gateway(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			if isRestore(r) && once.CompareAndSwap(false, true) {
				first.power.freeze(155 * time.Second) // past post_deadline and settle
				close(posted)
			}
			return res, err
		})
		first.kill() // it has no gateway yet
		first = w.start()
		id := w.ask(pair)
		<-posted
		_, err := w.store.SetCloud(t.Context(), cloudName, "test", "test", results.CloudSettings{Rate: ptr(0.1)})
		must(t, err)
		w.start()
		w.want(id, results.Succeeded, 1)
	})
}
