// Package dispatch decides when a restore's turn comes.
//
// A [Dispatcher] releases due rows of one cloud at the cloud's pace: the row goes
// to "queued" in the store first, then a wake-up goes to the queue. A wake-up
// that the queue lost is sent again after 15 seconds. A [Leader] makes sure that
// one process at a time does such jobs, by a lease in the store; nothing breaks
// when two do.
package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	releaseEvery  = 500 * time.Millisecond
	releaseMost   = 500
	queuePatience = 10 * time.Second
)

// A Dispatcher releases the due restores of one cloud. It keeps no state.
type Dispatcher struct {
	Store *results.Store
	Queue *enqueue.Client
	Cloud string
	// Log gets one line when the queue cannot be reached and one when it can again.
	Log zerolog.Logger
	// Every is the time between two releases. Default 500 ms.
	Every time.Duration
}

// Run releases until ctx ends. beat is called after each round in which the
// store answered: without the queue nothing can be released by anybody, which is
// no reason to give the lease up.
func (d *Dispatcher) Run(ctx context.Context, beat func()) error {
	every, down, storeDown := d.Every, false, false
	if every == 0 {
		every = releaseEvery
	}
	for {
		rows, err := d.Store.Release(ctx, d.Cloud, releaseMost)
		refused := err != nil
		if !refused {
			beat()
			err = d.wake(ctx, rows)
		}
		if err != nil || len(rows) > 0 || storeDown { // an empty round says nothing about the queue
			down = d.note(ctx, err, down)
		}
		storeDown = refused
		wait := every
		if len(rows) == releaseMost && err == nil {
			wait = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// note writes one line per change, not one per try.
func (d *Dispatcher) note(ctx context.Context, err error, wasDown bool) bool {
	switch {
	case err == nil && wasDown:
		d.Log.Info().Str("cloud", d.Cloud).Msg("restores are released again")
	case err != nil && !wasDown && ctx.Err() == nil:
		d.Log.Warn().Err(err).Str("cloud", d.Cloud).Msg("restores cannot be released; they wait in the store")
	}
	return err != nil
}

// wake puts released rows on the queue. If the process dies before, or the queue
// is away, they are released again later.
func (d *Dispatcher) wake(ctx context.Context, rows []results.Release) error {
	if len(rows) == 0 {
		return nil
	}
	wakes := make([]tasks.Wake, len(rows))
	for i, r := range rows {
		wakes[i] = tasks.Wake{ID: r.ID, Generation: r.Generation}
	}
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	if err := d.Queue.Wake(ctx, d.Cloud, wakes); err != nil {
		return errors.Join(err, d.Store.Unsent(context.WithoutCancel(ctx), rows))
	}
	return nil
}
