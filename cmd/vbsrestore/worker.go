package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

type workerOptions struct {
	settings settings
	clouds   []string
	iKnow    bool
}

func newWorker(g *globals, e env) *cobra.Command {
	var o workerOptions
	cmd := &cobra.Command{
		Use: "worker", Short: "do what is asked for, and watch it to its end", Args: takes(),
		Long: `A worker records requests in the result store, restores, and watches the cloud
until each restore is done. Any number of workers may serve the same cloud.

It serves the clouds named with --cloud, else OS_CLOUD, else those of the
configuration file, else the only one in clouds.yaml.

The first signal stops taking requests; POSTs on the wire finish and are settled.
The second signal leaves at once, which is safe: the next worker settles them.`,
		Example: "  vbsrestore worker --cloud otc --store sqlite:///var/lib/vbsrestore/results.db",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runWorker(cmd.Context(), o, e)
		},
	}
	d, f := defaultSettings().Worker, cmd.Flags()
	f.StringArrayVar(&o.clouds, "cloud", nil, "cloud to serve; repeatable (OS_CLOUD)")
	f.StringVar(&g.given.Worker.Name, "name", "", "name in attempts, events and leases (default host-pid-random)")
	f.IntVar(&g.given.Worker.Servers, "servers", d.Servers, "how many asynq servers fetch for each cloud")
	f.IntVar(&g.given.Worker.Concurrency, "concurrency", d.Concurrency, "how many requests each of them works on at once")
	f.DurationVar(&g.given.Worker.PostTimeout, "post-timeout", d.PostTimeout, "how long a restore POST may take, 5s to 1m; shorter finds crashed POSTs sooner")
	f.BoolVar(&o.iKnow, "i-know", false, "start although Redis is not fit for it")
	return cmd
}

// crew is one worker process: everything its goroutines share.
type crew struct {
	workerOptions
	name   string
	store  *results.Store
	rdb    redis.UniversalClient
	log    zerolog.Logger
	bound  chan struct{} // closed when Redis was found to be fit and ours
	failed context.CancelCauseFunc
	hands  sync.WaitGroup
}

func runWorker(ctx context.Context, o workerOptions, e env) (err error) {
	logins, err := o.logins(e)
	if err != nil {
		return err
	}
	c := &crew{workerOptions: o, name: workerName(o.settings), log: o.settings.logger(e), bound: make(chan struct{})}
	if c.rdb, err = enqueue.Connect(enqueue.RedisOptions{URL: o.settings.Redis}); err != nil {
		return &usageError{err}
	}
	defer c.rdb.Close()
	if c.store, err = results.Open(ctx, o.settings.Store, results.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.store.Close()) }()
	for _, login := range logins {
		if _, err := c.store.EnsureCloud(ctx, login.Name()); err != nil {
			return err
		}
	}
	c.log.Info().Str("worker", c.name).Str("store", redacted(o.settings.Store)).Str("redis", redacted(o.settings.Redis)).Msg("worker starts")
	err = c.work(ctx, logins)
	c.log.Info().Str("worker", c.name).Msg("worker ends")
	return err
}

// logins finds the credentials of all clouds before anything is begun.
func (o workerOptions) logins(e env) ([]vbs.Cloud, error) {
	files, err := findClouds(e)
	if err != nil {
		return nil, err
	}
	var all []vbs.Cloud
	for _, name := range served(o.clouds, o.settings, e) {
		login, err := files.load(name)
		if err != nil {
			return nil, err
		}
		all = append(all, login)
	}
	return all, nil
}

// work runs until ctx ends or something fails for good, and joins everything.
func (c *crew) work(ctx context.Context, logins []vbs.Cloud) error {
	ctx, c.failed = context.WithCancelCause(ctx)
	defer c.failed(nil)
	c.hands.Go(func() { c.end(ctx, c.bind(ctx)) })
	for _, login := range logins {
		c.hands.Go(func() { c.end(ctx, c.serve(ctx, login)) })
	}
	c.hands.Go(func() {
		if c.awaitBound(ctx) {
			c.end(ctx, mainLeader(c.store, c.name, c.rdb, c.log, c.lost).Run(ctx))
		}
	})
	<-ctx.Done()
	c.log.Info().Msg("finishing what is under way")
	c.hands.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.As(cause, new(*signalled)) {
		return cause
	}
	return nil
}

// end lets an error end the whole worker; the first one is its reason.
func (c *crew) end(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		c.failed(err)
	}
}

// lost ends the worker because Redis is another store's by now.
func (c *crew) lost(err error) { c.failed(otherStore(err)) }

func (c *crew) awaitBound(ctx context.Context) bool {
	select {
	case <-c.bound:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// serve does all that concerns one cloud. Without Redis it only watches: no
// lease is taken, because its term could not be compared with what Redis knows.
func (c *crew) serve(ctx context.Context, login vbs.Cloud) error {
	client, err := c.login(ctx, login)
	if err != nil || client == nil {
		return err
	}
	defer client.Close()
	w, err := worker.New(ctx, worker.Config{Name: c.name, Store: c.store, Cloud: client, Reads: worker.NewReads(c.rdb, c.store, client.Name()),
		Policy: worker.Policy{Never: c.settings.Retry.Never}, Budget: c.settings.Retry.Budget, PostTimeout: c.settings.Worker.PostTimeout, Log: c.log})
	if errors.Is(err, results.ErrOtherProject) {
		return hint(err, "give the other project's entry in clouds.yaml another name, or use another store")
	}
	if err != nil {
		return err
	}
	if err := c.applyLimits(ctx, client.Name()); err != nil {
		return err
	}
	c.watchUntilBound(ctx, w)
	if !c.awaitBound(ctx) {
		return nil
	}
	c.log.Info().Str("cloud", client.Name()).Str("project", client.ProjectID()).Str("backups", client.BackupURL()).Msg("cloud is served")
	var lead sync.WaitGroup
	defer lead.Wait()
	lead.Go(func() { c.end(ctx, cloudLeader(w, c.rdb, c.lost).Run(ctx)) })
	return c.take(ctx, w)
}

func (c *crew) watchUntilBound(ctx context.Context, w *worker.Worker) {
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() { c.end(ctx, worker.NewWatcher(w).Run(ctx, func() {})) })
	c.awaitBound(ctx)
}

// take serves the queues with a Redis client of their own.
func (c *crew) take(ctx context.Context, w *worker.Worker) error {
	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: c.settings.Redis})
	if err != nil {
		return &usageError{err}
	}
	defer rdb.Close()
	// While Redis is away asynq complains several times a second.
	calm := c.log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	return worker.Serve(ctx, w, worker.QueueConfig{Redis: rdb, Servers: c.settings.Worker.Servers, Concurrency: c.settings.Worker.Concurrency, Log: calm})
}

func workerName(s settings) string {
	if s.Worker.Name != "" {
		return s.Worker.Name
	}
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:4]))
}
