// Package worker does restores. Read it in this order:
//
//	deliver.go   one delivery: record, admit, observe, claim, POST, settle
//	decide.go    what an answer to the POST means: the retry table
//	backoff.go   how long to wait, on cenkalti/backoff/v4
//	judge.go     what a look at the cloud proves: one pure function
//	watch.go     the watcher: looks at everything that may be running, and judges it
//	queue.go     the asynq servers that call Deliver
//
// A [Worker] serves one cloud. The promise, never doubled, rests on this: the
// row says "posting" on disk before one byte of the POST leaves; a POST has one
// try; and only the watcher, by evidence, sends such a row back. A crash on any
// line leaves a row that the watcher of any process settles.
package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// Config of a Worker. Name, Store and Cloud are needed.
type Config struct {
	// Name of this process in attempts, events and leases.
	Name string
	// Store is where everything is recorded.
	Store *results.Store
	// Cloud is the client of the one cloud this worker serves.
	Cloud *vbs.Client
	// Reads paces GETs. Nil: no limit.
	Reads *Reads
	// Policy changes the retry table. The zero value is the default.
	Policy Policy
	// Budget is how many POSTs one restore may cost. Default 8.
	Budget int
	// PostTimeout is how long a POST may leave or be waited for, from before its claim. Default 60 s.
	PostTimeout time.Duration
	// Log receives one line per state change. The zero value discards.
	Log zerolog.Logger
}

// A Worker restores on one cloud. It is safe for concurrent use; any number of
// them, in any number of processes, may serve the same cloud.
type Worker struct {
	Config
	failingSince atomic.Int64 // since when GETs have failed, ns; 0 = they are answered
}

// New makes a Worker and gives its cloud a row in the store if it has none.
// results.ErrOtherProject if the cloud was served with another project before.
func New(ctx context.Context, c Config) (*Worker, error) {
	if c.Budget == 0 {
		c.Budget = 8
	}
	if c.PostTimeout == 0 {
		c.PostTimeout = time.Minute
	}
	if _, err := c.Store.EnsureCloud(ctx, c.Cloud.Name()); err != nil {
		return nil, err
	}
	if err := c.Store.BindProject(ctx, c.Cloud.Name(), c.Cloud.ProjectID()); err != nil {
		return nil, err
	}
	c.Log = c.Log.With().Str("cloud", c.Cloud.Name()).Logger()
	return &Worker{Config: c}, nil
}

// Healthy reports whether this worker can see its cloud, as far as it knows: GETs
// are answered, or have failed for a short while only, or for so long that it is
// worth another try. A worker that cannot see its cloud should not lead its watch.
func (w *Worker) Healthy() bool {
	since := w.failingSince.Load()
	blind := time.Since(time.Unix(0, since))
	return since == 0 || blind < blindAfter || blind > tryAgainAfter
}

const (
	blindAfter    = 20 * time.Second
	tryAgainAfter = time.Minute
)

// noteRead remembers since when GETs fail. A look that we broke off says nothing.
func (w *Worker) noteRead(ctx context.Context, err error) {
	since := w.failingSince.Load()
	switch {
	case err == nil || vbs.IsGone(err):
		w.failingSince.Store(0)
	case ctx.Err() != nil:
	case since == 0 || time.Since(time.Unix(0, since)) > tryAgainAfter:
		w.failingSince.Store(time.Now().UnixNano())
	}
}

// logMove writes the one line of a state change.
func (w *Worker) logMove(r results.Restore, what string) {
	w.Log.WithLevel(levelOf(r)).Str("restore", r.ID).Str("volume", r.VolumeID).Str("volume_name", r.VolumeName).Str("backup", r.BackupID).
		Str("state", string(r.State)).Int("attempt", r.Attempt).Str("reason", r.Reason).Msg(what)
}

// levelOf: what a person may have to look at is a warning.
func levelOf(r results.Restore) zerolog.Level {
	if r.State == results.Failed || r.State == results.InDoubt || r.Overdue {
		return zerolog.WarnLevel
	}
	return zerolog.InfoLevel
}
