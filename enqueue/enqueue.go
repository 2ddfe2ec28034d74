// Package enqueue asks for restores through Redis. It is all a producer needs:
// no database, no cloud, no running vbsrestore.
//
//	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: "redis://queue:6379/0"})
//	…
//	client := enqueue.New(rdb, enqueue.Options{})
//	receipt, err := client.Restore(ctx, tasks.Restore{Cloud: "prod", BackupID: backup, VolumeID: volume})
//
// Which call do I want?
//
//	one restore             Client.Restore
//	many                    Client.Restores: pipelined, tens of thousands a second
//	(inside vbsrestore)     Client.Wake
//
// # What a receipt promises
//
// A [Receipt] means that Redis has the request: nothing less, nothing more. It is
// recorded, and can no longer be lost, once a worker has written it to the result
// store, usually within a second. Between the two it is as safe as that Redis is.
// Who must not lose a request in between asks again, with the same ID, until
// "vbsrestore restore show ID" knows it.
//
// # Asking again
//
// The ID of a restore is its identity. Whatever went wrong, asking again with the
// same ID doubles nothing: Redis refuses a second task of that ID, and the store
// keeps one row per ID for ever.
//
// NotBefore is not a delay in Redis. The message goes out at once and the store
// waits, so that the request is recorded as early as possible.
package enqueue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	// maxRetry lets asynq redeliver without end. The number of restore attempts is
	// counted in the result store; a task that ran out of retries would be
	// archived, and an archived task blocks its ID.
	maxRetry = 1 << 20
	// taskTimeout must exceed the longest delivery, a POST of up to 60 s and the
	// reads around it: asynq starts a task again once its time is over, whether or
	// not its handler has returned.
	taskTimeout = 5 * time.Minute

	defaultBatch = 500
)

// Options change how a [Client] works; the zero value is right for most.
type Options struct {
	// Batch is how many messages go to Redis in one round trip. Default 500.
	Batch int
}

// Client asks for restores. It is safe for concurrent use.
type Client struct {
	rdb   redis.UniversalClient
	batch int
}

// New returns a client that speaks through rdb, for example one made by
// [Connect]. It does no I/O. The caller closes rdb.
func New(rdb redis.UniversalClient, o Options) *Client {
	if o.Batch < 1 {
		o.Batch = defaultBatch
	}
	return &Client{rdb: rdb, batch: o.Batch}
}

// Receipt says that Redis has a request; see the package comment for what that
// is worth.
type Receipt struct {
	// ID is the restore's ID. It is set even if the call failed, so that the same
	// restore can be asked for again.
	ID string
	// Queue is where Redis keeps the request. It is empty if Redis is not known to
	// have it.
	Queue string
	// Existed is true if Redis had a task of this ID already: an earlier call, or
	// an earlier try of this one whose answer was lost. What the older task asks
	// for is not compared.
	Existed bool
}

// Restore asks for one restore. It fills r's defaults and checks it first; a
// request that is not valid gives the errors of [tasks.Restore.Validate].
//
// On any other error Redis may have the request or not. Ask again with the
// receipt's ID in r to be sure. A deadline of ctx bounds the call; a mere
// cancellation is noticed only before the request is sent.
func (c *Client) Restore(ctx context.Context, r tasks.Restore) (Receipt, error) {
	rs := []tasks.Restore{r}
	normalize(rs)
	failed := Receipt{ID: rs[0].ID}
	payload, err := tasks.EncodeRestore(rs[0])
	if err != nil {
		return failed, fmt.Errorf("enqueue restore: %w", err)
	}
	items := []item{intake(rs[0], payload)}
	if _, err := c.send(ctx, items); err != nil {
		return failed, fmt.Errorf("enqueue restore %s: %w", rs[0].ID, err)
	}
	return items[0].receipt(rs[0].ID), nil
}

// Restores asks for many restores, a batch per round trip. It fills the defaults
// of every element of rs in place, IDs included, so that calling again with the
// same slice doubles nothing; rs must not be used by others meanwhile.
//
// All are checked before anything is sent: if one is not valid, or two of one ID
// differ, nothing is sent and the error names the places in rs.
//
// There is one receipt for each element, in order. If sending fails, the error
// says how many of them Redis has confirmed; the receipts without a queue are the
// others, which Redis may have or not. A deadline of ctx bounds the call; a
// cancellation ends it after the running round trip.
func (c *Client) Restores(ctx context.Context, rs []tasks.Restore) ([]Receipt, error) {
	normalize(rs)
	items, err := prepare(rs)
	if err != nil {
		return nil, fmt.Errorf("enqueue restores: %w", err)
	}
	confirmed, err := c.send(ctx, items)
	receipts := make([]Receipt, len(rs))
	for i, it := range items {
		receipts[i] = it.receipt(rs[i].ID)
	}
	if err != nil {
		err = fmt.Errorf("enqueue restores: redis has confirmed %d of %d: %w", confirmed, len(rs), err)
	}
	return receipts, err
}

// Wake tells the workers of a cloud that restores in the store are due. It is
// vbsrestore's own way to its workers; producers use [Client.Restores].
//
// A wake-up that Redis has already is a success. On an error some may have been
// sent; sending them again is harmless.
func (c *Client) Wake(ctx context.Context, cloud string, wakes []tasks.Wake) error {
	items := make([]item, len(wakes))
	for i, w := range wakes {
		payload, err := tasks.EncodeWake(w)
		if err != nil {
			return fmt.Errorf("enqueue wake-up %d of cloud %s: %w", i, cloud, err)
		}
		id := w.ID + ":" + strconv.FormatInt(w.Generation, 10)
		items[i] = item{taskID: id, queue: tasks.Queue(cloud), payload: payload}
	}
	confirmed, err := c.send(ctx, items)
	if err != nil {
		return fmt.Errorf("enqueue wake-ups of cloud %s: redis has confirmed %d of %d: %w", cloud, confirmed, len(items), err)
	}
	return nil
}

// options are those of every task we send. There is no Unique, which is a lock
// that expires, and no Retention: the store remembers.
func (it item) options() []asynq.Option {
	return []asynq.Option{
		asynq.TaskID(it.taskID),
		asynq.Queue(it.queue),
		asynq.MaxRetry(maxRetry),
		asynq.Timeout(taskTimeout),
	}
}
