package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

const (
	tickShortest  = 2 * time.Second
	tickLongest   = 30 * time.Second
	listFailsOver = 3 // ticks in a row without a listing: single reads instead
	singleReads   = 20
	lookHands     = 16
)

// A Watcher looks at every restore of a cloud that may be running there and
// writes what the cloud proves. One process at a time does it, by lease; two at
// once do no harm. It keeps no state that matters: after a crash the next one
// starts from the store.
type Watcher struct {
	worker    *Worker
	next      map[string]time.Time     // when to look singly at a row again, store time
	every     map[string]time.Duration // how long it was between the last two looks
	tick      time.Duration
	listFails int
	unsureAt  time.Time            // when to look for late executions again
	lateAt    map[string]time.Time // and when at each
}

// NewWatcher makes a Watcher on the worker's cloud. It is for one goroutine.
func NewWatcher(w *Worker) *Watcher {
	return &Watcher{worker: w, next: map[string]time.Time{}, every: map[string]time.Duration{}, lateAt: map[string]time.Time{}, tick: tickShortest}
}

// Run ticks until ctx ends; beat is called after each finished tick.
func (x *Watcher) Run(ctx context.Context, beat func()) error {
	for {
		wait, err := x.Tick(ctx)
		if err == nil {
			beat()
		} else if ctx.Err() == nil {
			x.worker.Log.Warn().Err(err).Msg("watch tick")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Tick looks once at everything and returns how long to wait before the next
// one: 2 s while something is new, up to 30 s while nothing moves.
func (x *Watcher) Tick(ctx context.Context) (time.Duration, error) {
	rows, began, err := x.worker.Store.Watched(ctx, x.worker.Cloud.Name())
	if err != nil {
		return tickShortest, err
	}
	held := volumesOf(rows)
	rows = settledOnly(rows, began)
	x.forget(rows)
	unsure := x.unsure(ctx, began)
	if len(rows) == 0 && len(unsure) == 0 {
		return tickShortest, nil
	}
	running, err := x.list(ctx)
	if err != nil {
		return tickShortest, err
	}
	x.alarm(ctx, unsure, running, held, began)
	cloud, err := x.worker.Store.Cloud(ctx, x.worker.Cloud.Name())
	if err != nil {
		return tickShortest, err
	}
	changed := x.lookAtAll(ctx, rows, running, began, cloud)
	return x.pace(rows, began, changed), ctx.Err()
}

// settledOnly leaves out POSTs that may still be on the wire: only a look that
// begins after the answer was stored, or after post_deadline, counts.
func settledOnly(rows []results.Watch, began time.Time) []results.Watch {
	var out []results.Watch
	for _, r := range rows {
		if r.State != results.Posting || !r.SettledAt.IsZero() || began.After(r.PostDeadline) {
			out = append(out, r)
		}
	}
	return out
}

// forget drops what is known of rows that are no longer watched.
func (x *Watcher) forget(rows []results.Watch) {
	watched := make(map[string]bool, len(rows))
	for _, r := range rows {
		watched[key(r)] = true
	}
	for k := range x.next {
		if !watched[k] {
			delete(x.next, k)
			delete(x.every, k)
		}
	}
}

func key(r results.Watch) string { return fmt.Sprintf("%s/%d", r.ID, r.Attempt) }

// list reads all volumes being restored, in one call. After three failures in a
// row it returns nil: every row is then looked at singly, a few per tick.
func (x *Watcher) list(ctx context.Context) (map[string]vbs.Volume, error) {
	if err := x.worker.Reads.watcher(ctx); err != nil {
		return nil, err
	}
	listed, err := x.worker.Cloud.Volumes(ctx, vbs.VolumeQuery{Status: statusRestore})
	x.worker.noteRead(ctx, err)
	if err != nil {
		if x.listFails++; x.listFails < listFailsOver {
			return nil, fmt.Errorf("list volumes being restored: %w", err)
		}
		return nil, nil
	}
	x.listFails = 0
	out := make(map[string]vbs.Volume, len(listed))
	for _, v := range listed {
		out[v.ID] = v
	}
	return out, nil
}

// A turn is one row's look in a tick.
type turn struct {
	row    results.Watch
	volume vbs.Volume
	listed bool // volume is from the listing
	moved  bool
}

// lookAtAll judges all rows whose turn it is, several at a time; one row's
// error never ends the tick.
func (x *Watcher) lookAtAll(ctx context.Context, rows []results.Watch, running map[string]vbs.Volume, began time.Time, cloud results.Cloud) (changed bool) {
	turns := x.turns(rows, running, began)
	hands := make(chan struct{}, lookHands)
	var all sync.WaitGroup
	for _, t := range turns {
		hands <- struct{}{}
		all.Go(func() {
			defer func() { <-hands }()
			x.take(ctx, t, began, cloud)
		})
	}
	all.Wait()
	for _, t := range turns {
		changed = changed || t.moved
		x.after(t, began, cloud.Settle)
	}
	return changed
}

// turns chooses the rows to look at: listed ones, and singly those that left the
// listing or whose time has come. Without a listing, the oldest few.
func (x *Watcher) turns(rows []results.Watch, running map[string]vbs.Volume, began time.Time) []*turn {
	var out []*turn
	for _, r := range rows {
		v, listed := running[r.VolumeID]
		listed = listed && v.Status == statusRestore
		if running == nil && len(out) >= singleReads {
			break
		}
		if listed || !began.Before(x.next[key(r)]) {
			out = append(out, &turn{row: r, volume: v, listed: listed})
		}
	}
	return out
}

func (t *turn) runs() bool { return t.listed && (t.row.Accepted || t.row.SeenRunning) }

func (x *Watcher) take(ctx context.Context, t *turn, began time.Time, cloud results.Cloud) {
	if ctx.Err() != nil {
		return
	}
	if t.runs() {
		t.moved = x.stillRunning(ctx, t.row, t.volume, began)
		return
	}
	var err error
	if t.moved, err = x.lookAt(ctx, t.row, t.volume, t.listed, cloud.Settle, cloud.Ambiguous); err != nil && ctx.Err() == nil {
		x.worker.Log.Debug().Err(err).Str("restore", t.row.ID).Msg("look at restore")
		x.blind(ctx, t.row, began, err)
	}
}

// blind tells once of a restore past its time that cannot even be looked at.
func (x *Watcher) blind(ctx context.Context, r results.Watch, began time.Time, why error) {
	deadline, _ := watchEnd(r.Restore, r.Last)
	if r.Overdue || r.State != results.Restoring || began.Before(deadline) {
		return
	}
	_, err := x.write(ctx, results.Move{ID: r.ID, From: []results.State{r.State}, Attempt: r.Attempt, Actor: x.worker.Name, WatchDeadline: r.WatchDeadline,
		Overdue: true, Kind: "overdue", Reason: "past its watch deadline, and the cloud cannot be asked about it: " + inWords(why), Advice: "ask the cloud's operator"}, r)
	if err != nil {
		x.worker.Log.Warn().Err(err).Str("restore", r.ID).Msg("note that it is overdue")
	}
}

func (x *Watcher) after(t *turn, began time.Time, settle time.Duration) {
	if t.runs() { // looked at at once when it leaves the listing
		delete(x.next, key(t.row))
		delete(x.every, key(t.row))
		return
	}
	x.lookLater(t.row, began, settle)
}

// stillRunning costs no read: the listing has shown it.
func (x *Watcher) stillRunning(ctx context.Context, r results.Watch, v vbs.Volume, began time.Time) bool {
	s := sight{volume: v, backup: vbs.Backup{Status: statusRestoring, Updated: r.SeenBackup}, began: began}
	e := x.worker.evidence(r.Restore, r.Last, s, 0)
	first := !r.SeenRunning
	if first {
		err := x.worker.Store.Saw(ctx, r.Restore, *x.seen(r, s), true)
		if err != nil && !errors.Is(err, results.ErrMoved) {
			x.worker.Log.Warn().Err(err).Str("restore", r.ID).Msg("note that it runs")
		}
	}
	moved, _ := x.apply(ctx, r, s, Judge(e), "", e, "")
	return first || moved
}

func (x *Watcher) seen(r results.Watch, s sight) *results.Sighting {
	out := x.worker.sighting(r.Restore, s)
	out.KeepBackup = true
	return out
}

func (x *Watcher) lookAt(ctx context.Context, r results.Watch, v vbs.Volume, listed bool, settle time.Duration, ambiguous string) (bool, error) {
	s, err := x.worker.lookAround(ctx, r.Restore, v, listed)
	if err != nil {
		return false, err
	}
	e := x.worker.evidence(r.Restore, r.Last, s, settle)
	verdict, text, err := x.worker.judge(ctx, r.Restore, r.Last, s, e)
	if err != nil {
		return false, err
	}
	return x.apply(ctx, r, s, verdict, text, e, ambiguous)
}

// lookAround reads volume and backup; the listing stands for the volume's read.
func (w *Worker) lookAround(ctx context.Context, row results.Restore, v vbs.Volume, listed bool) (sight, error) {
	if !listed {
		return w.look(ctx, row, w.Reads.watcher)
	}
	s := sight{volume: v, began: w.Store.Now(), projectID: w.Cloud.ProjectID()}
	if err := w.Reads.watcher(ctx); err != nil {
		return s, err
	}
	var err error
	s.backup, err = w.Cloud.Backup(ctx, row.BackupID)
	if vbs.IsGone(err) {
		s.goneB, err = true, nil
	}
	return s, err
}

// lookLater: a row that shows nothing new is looked at ever more seldom, but
// just when "not executed" may first be concluded.
func (x *Watcher) lookLater(r results.Watch, began time.Time, settle time.Duration) {
	k := key(r)
	x.every[k] = min(max(2*x.every[k], tickShortest), tickLongest)
	at := began.Add(x.every[k])
	ended := r.Last.AnsweredAt
	if ended.IsZero() {
		ended = r.Last.PostDeadline
	}
	for _, turn := range []time.Time{ended.Add(cinderGrace), ended.Add(settle), r.VolumeGoneAt.Add(lookAgain), r.BackupGoneAt.Add(lookAgain)} {
		if turn.After(began) && turn.Before(at) {
			at = turn
		}
	}
	x.next[k] = at
}

// pace chooses the next tick: at the next single look, and between 2 and 30 s.
func (x *Watcher) pace(rows []results.Watch, began time.Time, changed bool) time.Duration {
	x.tick = min(x.tick*3/2, tickLongest)
	if changed || len(rows) == 0 {
		x.tick = tickShortest
	}
	for _, r := range rows {
		if at, ok := x.next[key(r)]; ok {
			x.tick = min(x.tick, max(at.Sub(began), tickShortest))
		}
		if young := r.State == results.Restoring && began.Sub(r.AcceptedAt) < time.Minute; young {
			x.tick = tickShortest
		}
	}
	return x.tick
}
