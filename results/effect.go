package results

import (
	"errors"
	"fmt"
	"time"
)

// An Effect is what one answer means for the whole cloud. The zero value is
// nothing.
type Effect struct {
	Accepted bool          // it took a restore: raise the rate, end a pause made by a verdict
	Slow     bool          // it is overloaded: halve the rate, once per ten seconds
	Hold     time.Duration // no POST for so long (Retry-After); at most ten minutes
	Pause    string        // it refuses everything: pause it, with this reason
}

// apply changes the cloud's row in the transaction of the restore that brought the answer.
func (t *txn) apply(e Effect, r Restore) error {
	if e == (Effect{}) && r.State != Failed && r.State != Waiting {
		return nil
	}
	c, err := t.cloud(r.Cloud)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before := c
	kind := c.take(e, r.ID, t.now)
	if c == before {
		return nil
	}
	if err := t.saveCloud(c); err != nil {
		return err
	}
	if kind == "" {
		return nil
	}
	return t.event(Event{Cloud: c.Name, RestoreID: r.ID, Kind: kind, Reason: cloudNews(kind, before, c), Actor: "vbsrestore"})
}

// take applies e to the row and names the event it is worth, if any.
func (c *Cloud) take(e Effect, restoreID string, now time.Time) (kind string) {
	if e.Accepted {
		kind = c.takeAccepted()
	}
	if e.Slow && now.Sub(c.SlowedAt) >= slowWindow {
		kind = c.slowDown(now)
	}
	if e.Hold > 0 {
		c.NotBefore = later(c.NotBefore, now.Add(min(e.Hold, longestHold)))
	}
	if e.Pause != "" && c.PausedBy != "person" {
		kind = c.pauseByVerdict(e.Pause, restoreID, now)
	}
	if c.Probing == restoreID && !e.Accepted {
		c.Probing = ""
	}
	return kind
}

func (c *Cloud) takeAccepted() string {
	if c.PausedBy == "verdict" {
		c.resume()
		return "cloud resumed"
	}
	if c.RateNow < c.Rate {
		c.RateNow = min(c.Rate, c.RateNow+c.Rate/20)
		if c.RateNow == c.Rate {
			c.explain("")
			return "pace restored"
		}
	}
	return ""
}

func (c *Cloud) slowDown(now time.Time) string {
	c.SlowedAt = now
	if c.Rate == 0 {
		c.NotBefore = later(c.NotBefore, now.Add(time.Second))
		return ""
	}
	was := c.RateNow
	c.RateNow = max(slowestRate, c.RateNow/2)
	c.explain(throttled(was, c.RateNow))
	return "throttled"
}

// explain says why the pace is what it is. The reason of a pause stays: it
// matters more, and who paused wrote it.
func (c *Cloud) explain(reason string) {
	if !c.Paused() {
		c.Reason = reason
	}
}

func throttled(was, now float64) string {
	return fmt.Sprintf("throttled: %.3g → %.3g POSTs a second", was, now)
}

func (c *Cloud) pauseByVerdict(reason, restoreID string, now time.Time) string {
	c.Reason, c.Actor, c.PausedRow, c.Probing = reason, "vbsrestore", restoreID, ""
	if c.PausedBy == "verdict" {
		return "still refused"
	}
	c.PausedBy, c.PausedAt, c.ProbeStep = "verdict", now, 0
	c.nextProbe(now)
	return "cloud paused"
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func cloudNews(kind string, before, c Cloud) string {
	switch {
	case kind == "throttled":
		return throttled(before.RateNow, c.RateNow)
	case kind != "pace restored" && c.Reason != "":
		return c.Reason
	}
	return fmt.Sprintf("%s: %.3g POSTs a second", kind, c.RateNow)
}
