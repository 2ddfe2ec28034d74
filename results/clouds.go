package results

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Cloud is the pace, the limits and the pause of one cloud: a row that every
// worker reads and that takes effect at once, on everything.
type Cloud struct {
	Name      string        `json:"name"`
	Cap       int           `json:"cap"`                 // live restores at once; 0 = no cap. Default 15, Cinder's backup_max_operations
	Rate      float64       `json:"rate"`                // restore POSTs a second, the ceiling; 0 = no limit. Default 5
	RateNow   float64       `json:"rate_now"`            // what throttling left of it; never below 0.1
	ReadRate  float64       `json:"read_rate"`           // GETs a second of all workers; 0 = no limit. Default 10
	Settle    time.Duration `json:"settle"`              // how long after an ambiguous end "not executed" may be concluded. Default 90 s
	Ambiguous string        `json:"ambiguous"`           // what to do then: repost (default) or in_doubt
	NotBefore time.Time     `json:"not_before,omitzero"` // no POST before; at most 10 min ahead
	PausedBy  string        `json:"paused_by"`           // "", verdict (probed and resumed by itself) or person
	PausedAt  time.Time     `json:"paused_at,omitzero"`
	Reason    string        `json:"reason"`
	Actor     string        `json:"actor"`
	UpdatedAt time.Time     `json:"updated_at,omitzero"`

	PausedRow   string    `json:"-"` // the restore whose answer paused it
	ProbeAt     time.Time `json:"-"`
	ProbeStep   int       `json:"-"`
	Probing     string    `json:"-"` // "", "open" (one row may go) or the id of the row on its way
	SuspectFrom time.Time `json:"-"` // the newest commit of a store that lost later ones …
	SuspectAt   time.Time `json:"-"` // … and when that was found. Zero: it lost none
	SlowedAt    time.Time `json:"-"`
	NextPostAt  time.Time `json:"-"`

	rev int64
}

// Paused reports whether no POST may go out, by whoever's decision.
func (c Cloud) Paused() bool { return c.PausedBy != "" }

const (
	defaultCap      = 15
	defaultRate     = 5
	defaultReadRate = 10
	defaultSettle   = 90 * time.Second

	slowestRate = 0.1
	slowWindow  = 10 * time.Second
	longestHold = 10 * time.Minute
)

const cloudColumns = `name, rev, cap, post_rate, rate_now, read_rate, settle, ambiguous, next_post_at, not_before, slowed_at, paused_by,
	paused_at, paused_row, probe_at, probe_step, probing, suspect_from, suspect_at, reason, actor, updated_at`

const getCloudSQL = `SELECT ` + cloudColumns + ` FROM clouds WHERE name = $1`

func scanCloud(r scanner) (Cloud, error) {
	var c Cloud
	var settle, next, notBefore, slowed, pausedAt, probeAt, from, suspect, updated int64
	err := r.Scan(&c.Name, &c.rev, &c.Cap, &c.Rate, &c.RateNow, &c.ReadRate, &settle, &c.Ambiguous, &next, &notBefore, &slowed, &c.PausedBy,
		&pausedAt, &c.PausedRow, &probeAt, &c.ProbeStep, &c.Probing, &from, &suspect, &c.Reason, &c.Actor, &updated)
	if err != nil {
		return Cloud{}, notFound(err)
	}
	c.Settle = time.Duration(settle) * time.Microsecond
	c.NextPostAt, c.NotBefore, c.SlowedAt = fromMicros(next), fromMicros(notBefore), fromMicros(slowed)
	c.PausedAt, c.ProbeAt, c.SuspectAt, c.UpdatedAt = fromMicros(pausedAt), fromMicros(probeAt), fromMicros(suspect), fromMicros(updated)
	c.SuspectFrom = fromMicros(from)
	return c, nil
}

// EnsureCloud makes the row of a cloud with the defaults, unless it is there.
func (s *Store) EnsureCloud(ctx context.Context, name string) (Cloud, error) {
	var c Cloud
	err := s.write(ctx, func(t *txn) (err error) {
		const insert = `INSERT INTO clouds (` + cloudColumns + `) VALUES ($1, 1, $2, $3, $3, $4, $5, 'repost', 0, 0, 0, '', 0, '', 0, 0, '', 0, 0, '', '', $6)
			ON CONFLICT (name) DO NOTHING`
		if _, err = t.exec(insert, name, defaultCap, defaultRate, defaultReadRate, defaultSettle.Microseconds(), micros(t.now)); err == nil {
			c, err = t.cloud(name)
		}
		return err
	})
	return c, wrapIf("make the row of cloud "+name, err)
}

// ErrOtherProject says that a cloud of this store is of another project.
var ErrOtherProject = errors.New("the cloud's restores are of another project")

// BindProject ties a cloud to the project of its credentials, the first time, and
// refuses another one later: with a token of another project every volume of this
// one looks deleted.
func (s *Store) BindProject(ctx context.Context, name, projectID string) error {
	return s.write(ctx, func(t *txn) error {
		const bind = `UPDATE clouds SET project_id = $2 WHERE name = $1 AND project_id = ''`
		if _, err := t.exec(bind, name, projectID); err != nil {
			return fmt.Errorf("tie cloud %s to its project: %w", name, err)
		}
		var bound string
		if err := t.row(`SELECT project_id FROM clouds WHERE name = $1`, name).Scan(&bound); err != nil {
			return fmt.Errorf("tie cloud %s to its project: %w", name, notFound(err))
		}
		if bound != projectID {
			return fmt.Errorf("%w: cloud %s is project %s in this store, the credentials are of project %s", ErrOtherProject, name, bound, projectID)
		}
		return nil
	})
}

// Cloud returns the row of one cloud; ErrNotFound if no worker ever served it.
func (s *Store) Cloud(ctx context.Context, name string) (Cloud, error) {
	c, err := scanCloud(s.queryRow(ctx, getCloudSQL, name))
	return c, wrapIf("read cloud "+name, err)
}

// Clouds lists all clouds by name.
func (s *Store) Clouds(ctx context.Context) ([]Cloud, error) {
	rows, err := s.query(ctx, `SELECT `+cloudColumns+` FROM clouds ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list clouds: %w", err)
	}
	return all(rows, scanCloud)
}

// CloudSettings are the settings a person may change; nil leaves one as it is.
type CloudSettings struct {
	Cap       *int
	Rate      *float64
	ReadRate  *float64
	Settle    *time.Duration
	Ambiguous *string
}

// Check reports a setting that is out of its range; [Store.SetCloud] refuses it.
func (cs CloudSettings) Check() error {
	switch {
	case cs.Cap != nil && *cs.Cap < 0:
		return fmt.Errorf("cap %d: must be 0 (no cap) or more", *cs.Cap)
	case cs.Rate != nil && (*cs.Rate < 0 || *cs.Rate > 0 && *cs.Rate < slowestRate):
		return fmt.Errorf("rate %g: must be 0 (no limit) or at least %g POSTs a second", *cs.Rate, slowestRate)
	case cs.ReadRate != nil && (*cs.ReadRate < 0 || *cs.ReadRate > 0 && *cs.ReadRate < slowestRate):
		return fmt.Errorf("read rate %g: must be 0 (no limit) or at least %g GETs a second", *cs.ReadRate, slowestRate)
	case cs.Settle != nil && (*cs.Settle < time.Second || *cs.Settle > time.Hour):
		return fmt.Errorf("settle %s: must be between 1s and 1h, and above the time-out of the cloud's gateway", *cs.Settle)
	case cs.Ambiguous != nil && *cs.Ambiguous != "repost" && *cs.Ambiguous != "in_doubt":
		return fmt.Errorf("ambiguous %q: must be repost or in_doubt", *cs.Ambiguous)
	}
	return nil
}

// SetCloud changes settings of a cloud at once, for all workers, and records who did.
func (s *Store) SetCloud(ctx context.Context, name, actor, reason string, cs CloudSettings) (Cloud, error) {
	if err := cs.Check(); err != nil {
		return Cloud{}, fmt.Errorf("set cloud %s: %w", name, err)
	}
	return s.changeCloud(ctx, name, "cloud set", actor, func(c *Cloud, _ time.Time) string {
		set(&c.Cap, cs.Cap)
		set(&c.ReadRate, cs.ReadRate)
		set(&c.Settle, cs.Settle)
		set(&c.Ambiguous, cs.Ambiguous)
		if cs.Rate != nil {
			c.Rate, c.RateNow = *cs.Rate, *cs.Rate
		}
		return fmt.Sprintf("%s: cap %d, rate %g/s, reads %g/s, settle %s, ambiguous %s", reason, c.Cap, c.Rate, c.ReadRate, c.Settle, c.Ambiguous)
	})
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Pause stops every POST to a cloud until a person resumes it. Restores that the
// cloud already runs go on and are watched.
func (s *Store) Pause(ctx context.Context, name, actor, reason string) (Cloud, error) {
	return s.changeCloud(ctx, name, "cloud paused", actor, func(c *Cloud, now time.Time) string {
		c.PausedBy, c.PausedAt, c.Reason, c.Actor, c.Probing = "person", now, reason, actor, ""
		return reason
	})
}

// Resume lets POSTs go to a cloud again, whoever paused it.
func (s *Store) Resume(ctx context.Context, name, actor, reason string) (Cloud, error) {
	return s.changeCloud(ctx, name, "cloud resumed", actor, func(c *Cloud, _ time.Time) string {
		c.resume()
		c.Actor = actor
		return reason
	})
}

func (c *Cloud) resume() {
	c.PausedBy, c.PausedAt, c.PausedRow, c.Reason, c.Probing, c.ProbeAt, c.ProbeStep = "", time.Time{}, "", "", "", time.Time{}, 0
}

// Suspect pauses a cloud because the store lost commits: what changed in the
// cloud after the newest commit it still has may have been its own doing.
func (s *Store) Suspect(ctx context.Context, name, reason string) (Cloud, error) {
	var newest int64
	if err := s.queryRow(ctx, `SELECT coalesce(max(updated_at), 0) FROM restores WHERE cloud = $1`, name).Scan(&newest); err != nil {
		return Cloud{}, fmt.Errorf("find the newest commit of cloud %s: %w", name, err)
	}
	return s.changeCloud(ctx, name, "store lost commits", "vbsrestore", func(c *Cloud, now time.Time) string {
		c.PausedBy, c.PausedAt, c.Reason, c.Actor, c.Probing = "person", now, reason, "vbsrestore", ""
		c.SuspectFrom, c.SuspectAt = fromMicros(newest), now
		return reason
	})
}

// Probed stores the outcome of a GET that tested a cloud paused by a verdict:
// good opens the door for one restore, bad waits twice as long.
func (s *Store) Probed(ctx context.Context, name string, good bool, reason string) (Cloud, error) {
	kind := "probe failed"
	if good {
		kind = "probe answered"
	}
	return s.changeCloud(ctx, name, kind, "vbsrestore", func(c *Cloud, now time.Time) string {
		if c.PausedBy != "verdict" {
			return reason
		}
		c.Probing = ""
		if good {
			c.Probing = "open"
		}
		c.nextProbe(now)
		return reason
	})
}

func (c *Cloud) nextProbe(now time.Time) {
	c.ProbeStep++
	c.ProbeAt = now.Add(min(time.Minute<<min(c.ProbeStep-1, 4), longestHold))
}

func (s *Store) changeCloud(ctx context.Context, name, kind, actor string, change func(*Cloud, time.Time) string) (Cloud, error) {
	var c Cloud
	err := s.write(ctx, func(t *txn) (err error) {
		if c, err = t.cloud(name); err != nil {
			return err
		}
		reason := change(&c, t.now)
		if err := t.saveCloud(c); err != nil {
			return err
		}
		return t.event(Event{Cloud: name, Kind: kind, Reason: reason, Actor: actor})
	})
	return c, wrapIf("change cloud "+name, err)
}

func (t *txn) cloud(name string) (Cloud, error) {
	return scanCloud(t.row(getCloudSQL, name))
}

const saveCloudSQL = `UPDATE clouds SET rev = $2 + 1, cap = $3, post_rate = $4, rate_now = $5, read_rate = $6, settle = $7, ambiguous = $8,
	next_post_at = $9, not_before = $10, slowed_at = $11, paused_by = $12, paused_at = $13, paused_row = $14, probe_at = $15, probe_step = $16,
	probing = $17, suspect_from = $18, suspect_at = $19, reason = $20, actor = $21, updated_at = $22 WHERE name = $1 AND rev = $2`

func (t *txn) saveCloud(c Cloud) error {
	n, err := t.exec(saveCloudSQL, c.Name, c.rev, c.Cap, c.Rate, c.RateNow, c.ReadRate, c.Settle.Microseconds(), c.Ambiguous, micros(c.NextPostAt),
		micros(c.NotBefore), micros(c.SlowedAt), c.PausedBy, micros(c.PausedAt), c.PausedRow, micros(c.ProbeAt), c.ProbeStep, c.Probing,
		micros(c.SuspectFrom), micros(c.SuspectAt), c.Reason, c.Actor, micros(t.now))
	if err == nil && n == 0 {
		return ErrMoved
	}
	return err
}
