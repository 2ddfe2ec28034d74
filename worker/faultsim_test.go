package worker_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/simulator"
)

// seeds is how many seeds a fault simulation runs: a few by itself, 100 and more
// by VBSRESTORE_SEEDS, as the whole check and make soak do.
func seeds(t *testing.T) int {
	text := os.Getenv("VBSRESTORE_SEEDS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// firstSeed lets a failing seed be run alone: VBSRESTORE_FIRST_SEED=n VBSRESTORE_SEEDS=1.
func firstSeed(t *testing.T) int {
	n, err := strconv.Atoi("0" + os.Getenv("VBSRESTORE_FIRST_SEED"))
	must(t, err)
	return n
}

func eachSeed(t *testing.T, run func(t *testing.T, seed uint64)) {
	first := firstSeed(t)
	for seed := first; seed < first+seeds(t); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { run(t, uint64(seed)) })
		})
	}
}

// TestFaultSimulation runs the standard mix: a cloud that answers wrongly, late
// or not at all, workers that are killed at every step, frozen and cut off,
// Redis that goes away and forgets everything. Truthful GETs can decide all of
// it, so nothing may end in doubt.
func TestFaultSimulation(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		f := newFleet(t, seed, standardMix())
		defer f.close()
		f.trouble(8, f.machines())
		f.check(f.finish())
	})
}

// TestFaultSimulationWithNeighbours adds other people on the same volumes:
// their restores, backups, renames and attachments. A doubt is allowed where
// they touched the volume or its backup.
func TestFaultSimulationWithNeighbours(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		f := newFleet(t, seed, standardMix())
		defer f.close()
		f.trouble(12, append(f.machines(), f.people()...))
		f.check(f.finish())
	})
}

// TestFaultSimulationHostile has a cloud that is three times as bad, whose
// backup service crashes and whose tokens expire.
func TestFaultSimulationHostile(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		f := newFleet(t, seed, simulator.HostileFaults())
		defer f.close()
		f.trouble(6, f.machines())
		f.check(f.finish())
	})
}

// standardMix is the simulator's standard faults, and restores that the cloud
// accepts and then fails, front ends that queue after their 202, and POSTs that
// hang: those that change the statuses at once for as long as they like, the
// others for less than settle.
func standardMix() simulator.Faults {
	f := simulator.StandardFaults()
	f.MaxLate = 45 * time.Second
	for _, kind := range []simulator.Kind{simulator.AsyncFailure, simulator.Queue, simulator.HangUnseen, simulator.Pause} {
		f.Rules = append(f.Rules, simulator.Rule{Match: "POST restore", P: 0.02, Fault: simulator.Fault{Kind: kind}})
	}
	f.Rules = append(f.Rules, simulator.Rule{Match: "POST restore", P: 0.02, Fault: simulator.Fault{Kind: simulator.Hang, After: 4 * time.Minute}})
	return f
}

// A fleet is a world with three workers, two dozen restores and a seed.
type fleet struct {
	*world
	rng     *rand.Rand
	asked   map[string]simulator.Pair
	touched map[string]bool // volumes and backups that somebody else touched
	flushed bool            // Redis forgot everything once: what was not recorded then is asked for again
	cap     int
	wg      sync.WaitGroup
}

// lyingGateway answers some restore POSTs with an error of its own and hands
// them to Cinder later all the same. Together with what Cinder may wait for
// (MaxLate) that stays below settle.
func (f *fleet) lyingGateway(rng *rand.Rand) door {
	var mu sync.Mutex
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		mu.Lock()
		lies, late, status := rng.IntN(10) == 0, between(rng, time.Second, 35*time.Second), []int{408, 502, 503, 504}[rng.IntN(4)]
		mu.Unlock()
		if !isRestore(r) || !lies {
			return next.RoundTrip(r)
		}
		f.holdBack(r, next, late)
		return html(status), nil
	}
}

const (
	fleetVolumes = 24
	fleetCap     = 6
)

func newFleet(t *testing.T, seed uint64, faults simulator.Faults) *fleet {
	w := newWorld(t, simulator.Config{Volumes: fleetVolumes, Seed: seed, GiBPerSecond: 4, Capacity: 4, Faults: faults, NoDate: seed%5 == 4,
		Skew: []time.Duration{0, -7 * time.Minute, 3 * time.Minute}[seed%3]})
	f := &fleet{world: w, rng: rand.New(rand.NewPCG(seed, 17)), asked: map[string]simulator.Pair{}, touched: map[string]bool{}, cap: fleetCap}
	f.gateway(f.lyingGateway(rand.New(rand.NewPCG(seed, 23))))
	w.set(results.CloudSettings{Cap: ptr(f.cap), Rate: ptr(2.0), ReadRate: ptr(20.0)})
	for range 3 {
		w.start()
	}
	for i, p := range w.cloud.Pairs() {
		id := w.ask(p)
		f.asked[id] = p
		if i%6 == 0 { // impatient producers ask again, for the same and for the same pair
			r := w.request(p)
			r.ID = id
			_, err := w.queue.Restore(t.Context(), r)
			must(t, err)
			f.asked[w.ask(p)] = p
		}
	}
	return f
}

// trouble does random things, one after the other.
func (f *fleet) trouble(rounds int, things []func()) {
	for range rounds {
		time.Sleep(between(f.rng, time.Second, 30*time.Second))
		things[f.rng.IntN(len(things))]()
	}
	f.wg.Wait()
}

func (f *fleet) later(d time.Duration, do func()) {
	f.wg.Go(func() {
		time.Sleep(d)
		do()
	})
}

func (f *fleet) some() *process {
	alive := f.processes()
	if len(alive) == 0 {
		return f.start()
	}
	return alive[f.rng.IntN(len(alive))]
}

// machines is what goes wrong with the machines.
func (f *fleet) machines() []func() {
	return []func(){f.killSome, f.killSome, f.restartSome, f.partitionSome, f.redisAway, f.flush, f.blip, f.freezeSome, f.handOver, f.redisMemoryFull}
}

// killSome kills a process at one of its next steps, wherever that is.
func (f *fleet) killSome() {
	p := f.some()
	p.power.dieIn(1 + f.rng.IntN(80))
	f.later(between(f.rng, 5*time.Second, 40*time.Second), func() {
		p.kill()
		f.start()
	})
}

func (f *fleet) restartSome() {
	f.some().stop()
	f.start()
}

func (f *fleet) partitionSome() {
	p := f.some()
	p.link.cutOff()
	f.later(between(f.rng, time.Second, 90*time.Second), p.link.heal)
}

func (f *fleet) redisAway() {
	all := f.processes()
	for _, p := range all {
		p.link.cutOff()
	}
	f.later(between(f.rng, time.Second, 50*time.Second), func() {
		for _, p := range all {
			p.link.heal()
		}
	})
}

func (f *fleet) flush() {
	f.flushed = true
	f.redis.FlushAll()
}

func (f *fleet) blip() {
	p := f.some()
	p.link.cutOff()
	f.later(700*time.Millisecond, p.link.heal)
}

// redisMemoryFull makes every command fail at once for a while.
func (f *fleet) redisMemoryFull() {
	f.redis.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	f.later(between(f.rng, time.Second, 20*time.Second), func() { f.redis.SetError("") })
}

func (f *fleet) freezeSome() { f.some().power.freeze(between(f.rng, 5*time.Second, 150*time.Second)) }

// handOver takes the lease from its holder in mid-watch: for a moment two lead.
func (f *fleet) handOver() {
	leases, err := f.store.Leases(f.t.Context())
	must(f.t, err)
	for _, l := range leases {
		must(f.t, f.store.GiveUp(f.t.Context(), l.Name, l.Holder))
	}
}

// people is what other people do on the same volumes.
func (f *fleet) people() []func() {
	return []func(){f.foreignRestore, f.foreignRestore, f.rename, f.rename, f.foreignBackup, f.touchParent, f.attach, f.reset}
}

func (f *fleet) anyPair() simulator.Pair {
	pairs := f.cloud.Pairs()
	return pairs[f.rng.IntN(len(pairs))]
}

func (f *fleet) foreignRestore() {
	v, b := f.anyPair(), f.anyPair()
	f.touched[v.VolumeID], f.touched[b.BackupID] = true, true
	f.cloud.ForeignRestore(v.VolumeID, b.BackupID) // refused where the cloud would refuse it
}

func (f *fleet) rename() {
	v := f.anyPair()
	f.touched[v.VolumeID] = true
	f.cloud.Rename(v.VolumeID, "renamed-"+strconv.Itoa(f.rng.IntN(1000)))
}

func (f *fleet) foreignBackup() {
	v := f.anyPair()
	f.touched[v.VolumeID], f.touched[v.BackupID] = true, true
	f.cloud.ForeignBackup(v.VolumeID)
}

func (f *fleet) touchParent() {
	v := f.anyPair()
	f.touched[v.BackupID] = true
	f.cloud.TouchParent(v.BackupID)
}

// reset is an administrator's: it makes a broken volume usable again, or cancels
// a restore by its backup.
func (f *fleet) reset() {
	for _, v := range f.cloud.Volumes() {
		if v.Status == "error" || v.Status == "error_restoring" {
			f.touched[v.ID] = true
			f.cloud.ResetVolume(v.ID, "available")
			return
		}
	}
	b := f.anyPair()
	f.touched[b.BackupID] = true
	f.cloud.ResetBackup(b.BackupID, "available")
}

func (f *fleet) attach() {
	v := f.anyPair()
	f.touched[v.VolumeID] = true
	f.cloud.Attach(v.VolumeID, "11111111-2222-3333-4444-555555555555")
	f.later(between(f.rng, 10*time.Second, 3*time.Minute), func() { f.cloud.Detach(v.VolumeID) })
}

// finish waits until everything asked for has ended, or falls in doubt. What a
// flushed Redis lost before it was recorded is asked for again, as a producer
// who never saw it recorded would.
func (f *fleet) finish() []results.Restore {
	for len(f.processes()) < 2 {
		f.start()
	}
	const patience = 4 * time.Hour
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Second) {
		rows, open := f.rows()
		if open == 0 {
			return rows
		}
	}
	rows, _ := f.rows()
	for _, r := range rows {
		if !r.State.Final() && r.State != results.InDoubt {
			f.t.Errorf("after %s restore %s is still %s: %s\n%s", patience, r.ID, r.State, r.Reason, f.story(r.ID))
		}
	}
	return rows
}

func (f *fleet) rows() (rows []results.Restore, open int) {
	for id, p := range f.asked {
		row, err := f.store.Get(f.t.Context(), id)
		if errors.Is(err, results.ErrNotFound) {
			open++
			if !f.flushed {
				continue // Redis has it still, or it is lost
			}
			r := f.request(p)
			r.ID = id
			f.queue.Restore(f.t.Context(), r) // Redis may be away: the next round asks again
			continue
		}
		must(f.t, err)
		rows = append(rows, row)
		if !row.State.Final() && row.State != results.InDoubt {
			open++
		}
	}
	return rows, open
}

// check holds the invariants against what the cloud itself says.
func (f *fleet) check(rows []results.Restore) {
	if len(rows) != len(f.asked) {
		f.t.Errorf("LOST: only %d of %d restores are recorded", len(rows), len(f.asked))
	}
	for _, r := range rows {
		f.checkTruth(r)
		f.checkArrows(r)
	}
	f.checkCap()
	f.summary(rows)
	broken, err := f.store.CheckEvents(f.t.Context())
	if err != nil || broken != 0 {
		f.t.Errorf("event chain broken at %d, error %v", broken, err)
	}
}

func (f *fleet) checkTruth(r results.Restore) {
	runs := f.executions(r.ID)
	if len(runs) > 1 {
		f.t.Errorf("DOUBLED: restore %s was executed %d times\n%s", r.ID, len(runs), f.story(r.ID))
		return
	}
	outcome := "not executed"
	if len(runs) == 1 {
		outcome = runs[0].Outcome
	}
	if !f.true(r, outcome) {
		f.t.Errorf("FALSE: restore %s is %s (%s, %s), the cloud says %s\n%s", r.ID, r.State, r.FailClass, r.Reason, outcome, f.story(r.ID))
	}
}

// true: does the verdict agree with what the cloud did?
func (f *fleet) true(r results.Restore, outcome string) bool {
	switch r.State {
	case results.Succeeded:
		return outcome == "available"
	case results.Cancelled:
		return outcome == "not executed"
	case results.InDoubt:
		return f.touched[r.VolumeID] || f.touched[r.BackupID]
	case results.Failed:
		if r.FailClass == "cloud_failed" {
			return outcome == "error_restoring" || outcome == "error"
		}
		return outcome == "not executed"
	}
	return false
}

// checkArrows follows the events of a restore along the state table.
func (f *fleet) checkArrows(r results.Restore) {
	events, err := f.store.Story(f.t.Context(), r.ID)
	must(f.t, err)
	at := results.State("")
	for _, e := range events {
		if e.To == "" || e.Kind == "late answer" {
			continue
		}
		always, _ := results.Arrows(e.From)
		if e.From != at || e.From != "" && e.From != e.To && !slices.Contains(always, e.To) {
			f.t.Errorf("ARROW: restore %s went %s → %s → %s\n%s", r.ID, at, e.From, e.To, f.story(r.ID))
		}
		at = e.To
	}
	if at != r.State {
		f.t.Errorf("the events of restore %s end in %s, the row is %s", r.ID, at, r.State)
	}
}

// checkCap replays all events: no claim may find the cap used up.
func (f *fleet) checkCap() {
	for n := 1; n > 0; {
		var err error
		n, err = f.store.NumberEvents(f.t.Context(), 1000)
		must(f.t, err)
	}
	events, err := f.store.Events(f.t.Context(), 0, 1_000_000)
	must(f.t, err)
	live := map[string]bool{}
	for _, e := range events {
		if e.To == results.Posting && len(live) >= f.cap {
			f.t.Errorf("CAP: %s claimed at %s as number %d", e.RestoreID, e.At, len(live)+1)
		}
		delete(live, e.RestoreID)
		if e.To == results.Posting || e.To == results.Restoring {
			live[e.RestoreID] = true
		}
	}
}

func (f *fleet) summary(rows []results.Restore) {
	counts := map[string]int{}
	for _, r := range rows {
		what := string(r.State)
		if r.FailClass != "" {
			what += " " + r.FailClass
		}
		if r.Proof == results.ProofWeak {
			what += " weak"
		}
		counts[what]++
		counts["POSTs"] += r.Attempt
	}
	f.t.Logf("virtual %s: %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Round(time.Second), counts)
}
