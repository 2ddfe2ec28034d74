package enqueue

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scriptRounds is how often a batch is sent when Redis loses the script in the
// middle of it.
const scriptRounds = 3

// send delivers the items batch by batch, notes the outcome in each and returns
// how many Redis has confirmed. While a batch is on its way the next one is made.
func (c *Client) send(ctx context.Context, items []item) (confirmed int, err error) {
	next := c.recordAhead(ctx, items)
	for len(items) > 0 && err == nil {
		rec, recordErr := next()
		if recordErr != nil {
			return confirmed, recordErr
		}
		n := min(c.batch, len(items))
		next = c.recordAhead(ctx, items[n:])
		var got int
		got, err = c.sendBatch(ctx, rec, items[:n])
		confirmed += got
		items = items[n:]
	}
	next()
	return confirmed, err
}

// recordAhead begins to record the first batch of items. The function it returns
// waits for that; it must be called, since until then the items are in use.
func (c *Client) recordAhead(ctx context.Context, items []item) (wait func() (*recorder, error)) {
	var rec *recorder
	var err error
	var work sync.WaitGroup
	work.Go(func() { rec, err = record(ctx, items[:min(c.batch, len(items))]) })
	return func() (*recorder, error) {
		work.Wait()
		return rec, err
	}
}

// sendBatch sends the items in one round trip, notes each outcome and returns how
// many Redis has. Items that met a server without the script are sent again.
func (c *Client) sendBatch(ctx context.Context, rec *recorder, items []item) (confirmed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for range scriptRounds {
		var scriptLost bool
		if scriptLost, err = c.play(ctx, rec, items); !scriptLost {
			break
		}
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	for _, it := range items {
		if it.outcome != unknown {
			confirmed++
		}
	}
	return confirmed, err
}

// play sends the recorded calls whose outcome is unknown. The first call for each
// queue brings the script along, which teaches it to the server that owns the
// queue; the others name it only. Announcing the queue is repeated with each
// batch, since a flushed or failed-over Redis forgets it; it only serves
// inspection, so its answer is of no interest.
func (c *Client) play(ctx context.Context, rec *recorder, items []item) (scriptLost bool, err error) {
	pipe := c.rdb.Pipeline()
	for _, q := range rec.queues {
		pipe.SAdd(ctx, q.keys[0], q.args...)
	}
	taught := map[string]bool{}
	answers := make([]*redis.Cmd, len(items))
	for i, call := range rec.calls {
		queue := items[i].queue
		switch {
		case items[i].outcome != unknown:
		case taught[queue]:
			answers[i] = pipe.EvalSha(ctx, call.sha, call.keys, call.args...)
		default:
			answers[i] = pipe.Eval(ctx, call.source, call.keys, call.args...)
			taught[queue] = true
		}
	}
	_, _ = pipe.Exec(ctx) // every answer carries its own error
	return settle(items, answers)
}

// settle notes the answers and returns the first error among them.
func settle(items []item, answers []*redis.Cmd) (scriptLost bool, err error) {
	for i, answer := range answers {
		if answer == nil {
			continue
		}
		switch n, e := answer.Int64(); {
		case e == nil && n == 1:
			items[i].outcome = added
		case e == nil:
			items[i].outcome = existed
		default:
			scriptLost = scriptLost || redis.HasErrorPrefix(e, "NOSCRIPT")
			if err == nil {
				err = fmt.Errorf("send task %s: %w", items[i].taskID, e)
			}
		}
	}
	return scriptLost, err
}
