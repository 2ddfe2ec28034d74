package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/enqueue/enqueuetest"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	fleetVolumes  = 40
	fleetPatience = 4 * time.Minute // a slow machine, with the race detector
	lookEvery     = 50 * time.Millisecond
)

// fleetFaults is what half of the POSTs meet. The late ones run at once and are
// answered 2 to 4 s later: so long they are on the wire, where a kill hits them.
const fleetFaults = `{"max_late": "4s", "rules": [
	{"match": "POST restore", "p": 0.20, "kind": "late"},
	{"match": "POST restore", "p": 0.08, "kind": "answer-after", "status": 504, "form": "html"},
	{"match": "POST restore", "p": 0.06, "kind": "reset-after"},
	{"match": "POST restore", "p": 0.06, "kind": "malformed"},
	{"match": "POST restore", "p": 0.06, "kind": "answer", "status": 503, "retry_after": "1"},
	{"match": "POST restore", "p": 0.06, "kind": "answer", "status": 429, "form": "apig"}]}`

// fleet is vbsrestore as it runs in earnest: three workers, a cloud and Redis,
// each a process of its own, one store on disk, and a producer.
type fleet struct {
	*testing.T
	dir     string
	vars    []string
	redis   *enqueuetest.Server
	cloud   string // its URL
	store   *results.Store
	rdb     redis.UniversalClient
	pairs   [][]string
	workers map[string]*process
	asked   []tasks.Restore
}

// startWorker starts one more worker. Its name is new: attempts tell by it who made them.
func (f *fleet) startWorker(name string) {
	f.workers[name] = start(f.T, f.dir, f.vars, "worker", "--name", name, "--post-timeout", "6s", "--log", "json")
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{T: t, dir: t.TempDir(), redis: enqueuetest.StartServer(t), workers: map[string]*process{}}
	f.vars = []string{"VBSRESTORE_REDIS=" + f.redis.URL(), "OS_CLOUD=simulator", "OS_CLIENT_CONFIG_FILE=" + filepath.Join(f.dir, "clouds.yaml")}
	f.must(os.WriteFile(filepath.Join(f.dir, "faults.json"), []byte(fleetFaults), 0o600))
	line := start(t, f.dir, f.vars, "simulate", "--listen", "127.0.0.1:0", "--volumes", strconv.Itoa(fleetVolumes), "--speed", "50", "--faults", "faults.json",
		"--clouds-file", "clouds.yaml", "--pairs-file", "pairs.csv").says(t, "listening on")
	_, line, _ = strings.Cut(line, "listening on ")
	f.cloud, _, _ = strings.Cut(line, " ")
	f.pairs = readCSV(t, filepath.Join(f.dir, "pairs.csv"))[1:]
	for _, name := range []string{"worker-1", "worker-2", "worker-3"} {
		f.startWorker(name)
	}
	f.await("the workers serve the cloud", func() bool { return f.setCloud() == 0 })
	var err error
	f.store, err = results.Open(t.Context(), "sqlite://"+filepath.Join(f.dir, "vbsrestore.db"), results.Options{MustExist: true})
	f.must(err)
	t.Cleanup(func() { f.store.Close() })
	f.rdb, err = enqueue.Connect(enqueue.RedisOptions{URL: f.redis.URL()})
	f.must(err)
	t.Cleanup(func() { f.rdb.Close() })
	return f
}

func (f *fleet) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// setCloud fails as long as no worker has made the store.
func (f *fleet) setCloud() int {
	return start(f.T, f.dir, f.vars, "cloud", "set", "simulator", "--settle", "5s", "--cap", "15", "--rate", "20", "--read-rate", "0", "--reason", "test").code(f.T)
}

// await asks again and again.
func (f *fleet) await(what string, ask func() bool) {
	f.Helper()
	for end := time.Now().Add(fleetPatience); !ask(); {
		if time.Now().After(end) {
			f.Fatalf("waited in vain: %s", what)
		}
		<-time.After(lookEvery)
	}
}

// ask asks for the next n restores.
func (f *fleet) ask(n int) {
	f.Helper()
	at := len(f.asked)
	for _, pair := range f.pairs[at : at+n] {
		f.asked = append(f.asked, tasks.Restore{Cloud: "simulator", BackupID: pair[0], VolumeID: pair[1], Actor: f.Name()})
	}
	_, err := enqueue.New(f.rdb, enqueue.Options{}).Restores(f.Context(), f.asked[at:])
	f.must(err)
}

// askAgain is what a producer does who must not lose a request: whatever is not
// recorded is asked for again, with the same id.
func (f *fleet) askAgain() (lost int) {
	for i := range f.asked {
		_, err := f.store.Get(f.Context(), f.asked[i].ID)
		if !errors.Is(err, results.ErrNotFound) {
			f.must(err)
			continue
		}
		lost++
		ctx, cancel := context.WithTimeout(f.Context(), 5*time.Second)
		if _, err := enqueue.New(f.rdb, enqueue.Options{}).Restores(ctx, f.asked[i:i+1]); err != nil {
			f.Logf("not asked again yet: %v", err)
		}
		cancel()
	}
	return lost
}

func (f *fleet) rows() []results.Restore {
	rows, err := f.store.List(f.Context(), results.Filter{}, results.Page{}, 2*fleetVolumes)
	f.must(err)
	return rows
}

// count counts the rows that are so.
func (f *fleet) count(so func(results.Restore) bool) (n int) {
	for _, r := range f.rows() {
		if so(r) {
			n++
		}
	}
	return n
}

func final(r results.Restore) bool { return r.State.Final() }
func tried(r results.Restore) bool { return r.Attempt > 0 }

// onTheWire returns the newest attempts that have no answer yet, by worker.
func (f *fleet) onTheWire() map[string][]results.Attempt {
	out := map[string][]results.Attempt{}
	for _, r := range f.rows() {
		if r.State != results.Posting {
			continue
		}
		attempts, err := f.store.Attempts(f.Context(), r.ID)
		f.must(err)
		if last := attempts[len(attempts)-1]; last.AnsweredAt.IsZero() {
			out[last.Worker] = append(out[last.Worker], last)
		}
	}
	return out
}

// kill is kill -9. It returns the POSTs that nobody will store an answer of.
func (f *fleet) kill(names ...string) (orphans []results.Attempt) {
	for _, name := range names {
		f.must(f.workers[name].Process.Kill())
	}
	for _, name := range names {
		f.workers[name].code(f.T)
		delete(f.workers, name)
	}
	wire := f.onTheWire()
	for _, name := range names {
		orphans = append(orphans, wire[name]...)
	}
	return orphans
}

// killOneInMidPost kills a worker whose POST is on the wire: one for which no
// answer came for a while is a late one.
func (f *fleet) killOneInMidPost() (orphans []results.Attempt) {
	const awhile = 300 * time.Millisecond
	f.await("a POST is on the wire", func() bool {
		for name, posts := range f.onTheWire() {
			if f.workers[name] != nil && time.Since(posts[0].StartedAt) > awhile {
				orphans = f.kill(name)
				return true
			}
		}
		return false
	})
	return orphans
}

// finish waits for the end of everything that was asked for and holds it against
// what the cloud itself says.
func (f *fleet) finish() {
	f.Helper()
	began := time.Now()
	f.await("all restores end", func() bool {
		return f.askAgain() == 0 && f.count(func(r results.Restore) bool { return final(r) || r.State == results.InDoubt }) == len(f.asked)
	})
	f.Logf("the rest took %s", time.Since(began).Round(100*time.Millisecond))
	runs := f.executions()
	for _, r := range f.rows() {
		f.checkTruth(r, runs)
	}
	if n := len(f.rows()); n != len(f.asked) || len(runs) != fleetVolumes || n != fleetVolumes {
		f.Errorf("%d asked, %d recorded, %d volumes written; want %d of each", len(f.asked), n, len(runs), fleetVolumes)
	}
}

// checkTruth: one execution, by a POST of this restore, and the verdict is its outcome.
func (f *fleet) checkTruth(r results.Restore, runs map[string][]simulator.Execution) {
	f.Helper()
	attempts, err := f.store.Attempts(f.Context(), r.ID)
	f.must(err)
	ours := map[string]bool{}
	for _, a := range attempts {
		ours[a.RequestID] = true
	}
	of := runs[r.VolumeID]
	if len(of) == 1 && ours[of[0].RequestID] && of[0].BackupID == r.BackupID && of[0].Outcome == "available" && r.State == results.Succeeded {
		return
	}
	f.Errorf("restore %s is %s (%s) after %d POSTs; the cloud says %+v", r.ID, r.State, r.Reason, len(attempts), of)
	story, err := f.store.Story(f.Context(), r.ID)
	f.must(err)
	for _, e := range story {
		f.Logf("  %s %s → %s by %s: %s", e.At.Format("15:04:05.000"), e.From, e.To, e.Actor, e.Reason)
	}
}

// executions asks the cloud what it carried out, by volume.
func (f *fleet) executions() map[string][]simulator.Execution {
	f.Helper()
	resp, err := http.Get(f.cloud + "/simulator/executions")
	f.must(err)
	defer resp.Body.Close()
	var all []simulator.Execution
	f.must(json.NewDecoder(resp.Body).Decode(&all))
	out := map[string][]simulator.Execution{}
	for _, e := range all {
		out[e.VolumeID] = append(out[e.VolumeID], e)
	}
	return out
}

// judged logs how long after a kill its POSTs were judged.
func (f *fleet) judged(orphans []results.Attempt, killed time.Time) {
	for _, o := range orphans {
		story, err := f.store.Story(f.Context(), o.RestoreID)
		f.must(err)
		for _, e := range story {
			if e.Attempt == o.Attempt && e.From == results.Posting && e.To != results.Posting && e.To != "" {
				f.Logf("POST of killed %s: %s after %s", o.Worker, e.To, e.At.Sub(killed).Round(100*time.Millisecond))
			}
		}
	}
}

func TestWorkersKilledInMidPOST(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.ask(fleetVolumes)
	one := f.killOneInMidPost()
	firstKill := time.Now()
	f.startWorker("worker-4")
	two := f.killOneInMidPost()
	secondKill := time.Now()
	f.startWorker("worker-5")

	three := f.kill(slices.Collect(maps.Keys(f.workers))...)
	if len(one) == 0 || len(two) == 0 {
		t.Errorf("kills hit %d and %d POSTs on the wire, want some", len(one), len(two))
	}
	touched := f.count(tried)
	restart := time.Now()
	for _, name := range []string{"worker-6", "worker-7", "worker-8"} {
		f.startWorker(name)
	}
	f.await("work goes on", func() bool { return f.count(tried) > touched || f.count(final) == fleetVolumes })
	t.Logf("everything killed with %d of %d never tried: the next of them claimed %s after the restart",
		fleetVolumes-touched, fleetVolumes, time.Since(restart).Round(100*time.Millisecond))
	f.finish()
	f.judged(one, firstKill)
	f.judged(two, secondKill)
	f.judged(three, restart)
}

func TestRedisKilledRestartedAndFlushed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.ask(20)
	f.await("some are at work", func() bool { return f.count(tried) >= 5 })
	f.ask(10)
	f.redis.Kill()
	pause(t.Context(), 2*time.Second)
	back := time.Now()
	f.redis.Start(t)
	t.Logf("Redis killed: %d of 30 were not recorded", 30-len(f.rows()))
	before := f.count(tried)
	f.await("work goes on", func() bool { return f.count(tried) > before })
	t.Logf("Redis back: the next restore claimed after %s", time.Since(back).Round(100*time.Millisecond))

	f.await("half of it is done", func() bool { return f.count(final) >= 15 })
	f.ask(10)
	f.must(f.rdb.FlushAll(t.Context()).Err())
	t.Logf("Redis flushed with %d open: %d of 40 were not recorded", len(f.asked)-f.count(final), f.askAgain())
	f.finish()
}

func TestRollingRestartUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, w := range f.workers {
		w.says(t, "cloud is served")
	}
	f.ask(fleetVolumes)
	f.await("some are at work", func() bool { return f.count(tried) >= 5 })
	for i, next := range []string{"worker-4", "worker-5", "worker-6"} {
		old := []string{"worker-1", "worker-2", "worker-3"}[i]
		open := fleetVolumes - f.count(final)
		began := time.Now()
		f.workers[old].signal(t, syscall.SIGTERM)
		f.startWorker(next)
		if code := f.workers[old].code(t); code != 0 {
			t.Errorf("%s: exit code %d, want 0", old, code)
		}
		t.Logf("%s ended after %s, %d restores open", old, time.Since(began).Round(100*time.Millisecond), open)
		if left := f.onTheWire()[old]; len(left) > 0 {
			t.Errorf("%s left %d POSTs behind that nobody settled", old, len(left))
		}
		f.workers[next].says(t, "cloud is served")
	}
	f.finish()
}
