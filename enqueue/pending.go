package enqueue

import (
	"context"
	"fmt"
)

// Pending returns how many messages wait in each queue of this Redis that ever
// had one, by the queue's name. Queues of other programs are among them.
func (c *Client) Pending(ctx context.Context) (map[string]int64, error) {
	names, err := c.rdb.SMembers(ctx, "asynq:queues").Result()
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	pending := make(map[string]int64, len(names))
	for _, name := range names {
		n, err := c.rdb.LLen(ctx, "asynq:{"+name+"}:pending").Result()
		if err != nil {
			return nil, fmt.Errorf("count the messages of queue %s: %w", name, err)
		}
		pending[name] = n
	}
	return pending, nil
}
