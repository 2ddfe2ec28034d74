package worker_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
)

// In virtual time: how long it takes until the fleet is at work again.

const (
	soonClaimed = 30 * time.Second
	twoTicks    = 2 * 30 * time.Second // of a watcher that had nothing new to see
)

// hung lets every restore POST reach the cloud and its answer get lost.
func hung(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	res, err := next.RoundTrip(r)
	if isRestore(r) && err == nil {
		res.Body.Close()
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return res, err
}

func TestEverythingKilledIsAtWorkAgainSoon(t *testing.T) {
	bubble(t, simulator.Config{Volumes: 12, Seed: 5, GiBPerSecond: 0.05}, func(t *testing.T, w *world) {
		w.set(results.CloudSettings{Cap: ptr(10), Rate: ptr(2.0)})
		w.gateway(hung)
		first, second := w.start(), w.start()
		var posted []string
		for _, p := range w.cloud.Pairs()[:3] {
			posted = append(posted, w.ask(p))
		}
		for _, id := range posted {
			w.until(id, time.Minute, results.Posting)
		}
		first.kill()
		second.kill()
		var untouched []string
		for _, p := range w.cloud.Pairs()[3:5] {
			r := w.request(p)
			_, _, err := w.store.Record(t.Context(), r)
			must(t, err)
			untouched = append(untouched, r.ID)
		}
		w.redis.FlushAll()
		restarted := time.Now()
		w.start()
		for _, id := range untouched {
			row := w.until(id, time.Hour, results.Posting, results.Restoring)
			took := time.Since(restarted)
			t.Logf("%s claimed %s after the restart", id, took)
			if row.Attempt == 0 || took > soonClaimed {
				t.Errorf("claimed %s after the restart, want less than %s\n%s", took, soonClaimed, w.story(id))
			}
		}
		for _, id := range posted {
			w.until(id, time.Hour, results.Restoring, results.Succeeded)
			attempts, err := w.store.Attempts(t.Context(), id)
			must(t, err)
			events, err := w.store.Story(t.Context(), id)
			must(t, err)
			late := events[2].At.Sub(attempts[0].PostDeadline) // recorded, posting, judged
			t.Logf("posting row judged %s after its post_deadline", late)
			if late > 90*time.Second+twoTicks {
				t.Errorf("judged %s after post_deadline, want settle and two ticks at most\n%s", late, w.story(id))
			}
		}
	})
}

func TestAFlushedRedisCostsSeconds(t *testing.T) {
	bubble(t, simulator.Config{Volumes: 12, Seed: 5, GiBPerSecond: 20}, func(t *testing.T, w *world) {
		w.set(results.CloudSettings{Cap: ptr(3), Rate: ptr(1.0)})
		w.start()
		var ids []string
		for _, p := range w.cloud.Pairs() {
			ids = append(ids, w.ask(p))
		}
		for _, id := range ids {
			w.until(id, time.Minute, results.Waiting, results.Queued, results.Posting, results.Restoring, results.Succeeded)
		}
		var queued []string
		for len(queued) == 0 {
			time.Sleep(100 * time.Millisecond)
			for _, id := range ids {
				if w.stateOf(id) == results.Queued {
					queued = append(queued, id)
				}
			}
		}
		w.redis.FlushAll()
		flushed := time.Now()
		for _, id := range queued {
			w.until(id, time.Hour, results.Posting, results.Restoring, results.Succeeded)
		}
		took := time.Since(flushed)
		t.Logf("%d rows were queued when Redis was flushed; the last was claimed %s later", len(queued), took)
		if took > time.Minute { // 15 s until it is sent again, and its turn under cap and pace
			t.Errorf("claimed %s after the flush", took)
		}
		for _, id := range ids {
			w.want(id, results.Succeeded, 1)
		}
	})
}
