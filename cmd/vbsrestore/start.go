package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

// bind waits for Redis, refuses one that is unfit or another store's, and opens
// the way for requests.
func (c *crew) bind(ctx context.Context) error {
	for try, down := 1, false; ; try++ {
		err := c.bindOnce(ctx)
		var refused *refusal
		switch {
		case err == nil:
			if down {
				c.log.Info().Msg("redis answers")
			}
			close(c.bound)
			return nil
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused):
			return refused.err
		case !down:
			down = true
			c.log.Warn().Err(err).Msg("redis cannot be reached; running restores are watched, new ones wait")
		}
		if !pause(ctx, worker.Backoff(min(try, 4), 0)) {
			return nil
		}
	}
}

// refusal is an answer of Redis or of the cloud that waiting does not change.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (c *crew) bindOnce(ctx context.Context) error {
	checks, err := worker.CheckRedis(ctx, c.rdb, false)
	if err != nil {
		return err
	}
	for _, check := range checks {
		if check.Level == "ok" || c.iKnow && check.Level == "fail" {
			continue
		}
		if check.Level == "fail" {
			return &refusal{hint(fmt.Errorf("redis is not fit: %s: %s", check.What, check.Says), "%s; or start with --i-know", check.Hint)}
		}
		c.log.Warn().Str("check", check.What).Str("hint", check.Hint).Msg(check.Says)
	}
	behind, err := worker.Bind(ctx, c.rdb, c.store)
	if errors.Is(err, worker.ErrOtherStore) {
		return &refusal{otherStore(err)}
	}
	if err == nil && behind {
		c.log.Error().Str("hint", "look at the volumes, then: vbsrestore cloud resume NAME --reason …").
			Msg("all clouds are paused: the store is older than what redis has seen of it, so it lost commits")
	}
	return err
}

func otherStore(err error) error {
	return hint(err, "two stores on one Redis would restore twice: use the other store, or a Redis (or database number) of its own")
}

// login opens a cloud, waiting while it cannot be reached. It returns nil and
// no error when the worker is to end.
func (c *crew) login(ctx context.Context, login vbs.Cloud) (*vbs.Client, error) {
	log := c.log.With().Str("cloud", login.Name()).Logger()
	for try, down := 1, ""; ; try++ {
		client, err := c.settings.open(ctx, login, c.log)
		switch {
		case err == nil:
			if down != "" {
				log.Info().Msg("cloud answers")
			}
			return client, nil
		case ctx.Err() != nil:
			return nil, nil
		case vbs.IsAuth(err):
			return nil, hint(err, "check user, password or application credential, and project of cloud %q in clouds.yaml", login.Name())
		case !weather(err):
			return nil, hint(err, "check cloud %q in clouds.yaml: address, region and endpoints", login.Name())
		case down != err.Error():
			down = err.Error()
			log.Warn().Err(err).Msg("cloud cannot be reached; trying again")
		}
		if !pause(ctx, worker.Backoff(min(try, 6), 0)) {
			return nil, nil
		}
	}
}

// weather reports whether a failed login may pass by itself.
func weather(err error) bool {
	var e *vbs.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == 0 && e.Err != nil && !e.Cert && isNetwork(e.Err) || e.Status == 429 || e.Status >= 500
}

// applyLimits writes the limits that the configuration file has into the store,
// where they hold for every worker. What a person has set since is left alone: it
// may be what keeps an incident small.
func (c *crew) applyLimits(ctx context.Context, name string) error {
	own, ok := c.settings.Clouds[name]
	if !ok {
		return nil
	}
	row, err := c.store.Cloud(ctx, name)
	if err != nil {
		return err
	}
	want := own.limits()
	if !changes(want, row) {
		return nil
	}
	by, err := limitsSetBy(ctx, c.store, name)
	if err != nil {
		return err
	}
	if by != "" && by != configActor {
		c.log.Warn().Str("cloud", name).Str("file", c.settings.File).Str("set_by", by).Str("hint", "vbsrestore cloud show "+name).
			Msg("the limits of the configuration are left out: somebody set others")
		return nil
	}
	_, err = c.store.SetCloud(ctx, name, configActor, "from "+c.settings.File, want)
	if err == nil {
		c.log.Info().Str("cloud", name).Str("file", c.settings.File).Msg("limits set from the configuration")
	}
	return err
}

const configActor = "config" // sets the limits of the configuration file

// limitsSetBy is who last set the limits of a cloud; "" is nobody. Who paused or
// resumed it does not count.
func limitsSetBy(ctx context.Context, store *results.Store, name string) (string, error) {
	for limit := 100; ; limit *= 10 {
		events, err := store.CloudEvents(ctx, name, limit)
		if err != nil {
			return "", err
		}
		for _, ev := range events {
			if ev.Kind == "cloud set" {
				return ev.Actor, nil
			}
		}
		if len(events) < limit {
			return "", nil
		}
	}
}

func changes(want results.CloudSettings, row results.Cloud) bool {
	return differs(want.Cap, row.Cap) || differs(want.Rate, row.Rate) || differs(want.ReadRate, row.ReadRate) ||
		differs(want.Settle, row.Settle) || differs(want.Ambiguous, row.Ambiguous)
}

func differs[T comparable](want *T, have T) bool { return want != nil && *want != have }
