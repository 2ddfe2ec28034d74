package worker

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	backoffFirst  = time.Second
	backoffFactor = 2
	backoffJitter = 0.5
	backoffCap    = 2 * time.Minute
)

// Backoff is the one source of waits between tries: exponential from 1 s,
// doubling, jitter ± 50 %, at most 2 minutes. n is how many tries went before
// (0 or 1: the first wait). floor, such as a Retry-After, is never undercut.
func Backoff(n int, floor time.Duration) time.Duration {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(backoffFirst),
		backoff.WithMultiplier(backoffFactor),
		backoff.WithRandomizationFactor(backoffJitter),
		backoff.WithMaxInterval(backoffCap*2/3), // jitter comes on top: 40 s to 2 min
		backoff.WithMaxElapsedTime(0),
	)
	wait := b.NextBackOff()
	for range min(n, 20) - 1 {
		wait = b.NextBackOff()
	}
	return max(min(wait, backoffCap), floor)
}
