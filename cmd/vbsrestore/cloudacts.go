package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

type cloudSetOptions struct {
	actOptions
	changed        func(flag string) bool
	cap            int
	rate, readRate float64
	settle         time.Duration
	ambiguous      string
}

func newCloudSet(g *globals, e env) *cobra.Command {
	var o cloudSetOptions
	cmd := &cobra.Command{
		Use: "set CLOUD --reason TEXT", Short: "change limits of a cloud, at once and for all workers", Args: takes("CLOUD"),
		Example: "  vbsrestore cloud set otc --cap 10 --rate 2 --reason \"provider asked for it\"",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.ids, o.changed = args, cmd.Flags().Changed
			return runCloudSet(cmd.Context(), o, e)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.cap, "cap", 0, "restores at once; 0 for no cap")
	f.Float64Var(&o.rate, "rate", 0, "restore POSTs a second; 0 for no limit")
	f.Float64Var(&o.readRate, "read-rate", 0, "GETs a second of all workers; 0 for no limit")
	f.DurationVar(&o.settle, "settle", 0, "wait so long before an ambiguous POST counts as not executed")
	f.StringVar(&o.ambiguous, "ambiguous", "", "then: repost (send it again) or in_doubt (a person decides)")
	o.addFlags(cmd)
	return cmd
}

// wanted are the limits whose flags were given.
func (o cloudSetOptions) wanted() results.CloudSettings {
	var s results.CloudSettings
	s.Cap = ifGiven(o.changed("cap"), o.cap)
	s.Rate = ifGiven(o.changed("rate"), o.rate)
	s.ReadRate = ifGiven(o.changed("read-rate"), o.readRate)
	s.Settle = ifGiven(o.changed("settle"), o.settle)
	s.Ambiguous = ifGiven(o.changed("ambiguous"), o.ambiguous)
	return s
}

func ifGiven[T any](given bool, v T) *T {
	if !given {
		return nil
	}
	return &v
}

func runCloudSet(ctx context.Context, o cloudSetOptions, e env) error {
	want := o.wanted()
	if want == (results.CloudSettings{}) {
		return hint(usagef("nothing to set"), "give --cap, --rate, --read-rate, --settle or --ambiguous")
	}
	if err := want.Check(); err != nil {
		return &usageError{err}
	}
	return o.change(ctx, e, func(store *results.Store, name, actor, reason string) (results.Cloud, error) {
		return store.SetCloud(ctx, name, actor, reason, want)
	})
}

func newCloudAct(g *globals, e env, name, short string, do func(*results.Store, context.Context, string, string, string) (results.Cloud, error)) *cobra.Command {
	var o actOptions
	cmd := &cobra.Command{
		Use: name + " CLOUD… --reason TEXT", Short: short, Args: takes("CLOUD…"), Example: "  vbsrestore cloud " + name + " otc --reason \"maintenance window\"",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.ids = args
			return o.change(cmd.Context(), e, func(store *results.Store, name, actor, reason string) (results.Cloud, error) {
				return do(store, cmd.Context(), name, actor, reason)
			})
		},
	}
	o.addFlags(cmd)
	return cmd
}

// change does something to each cloud named and prints how it is then.
func (o actOptions) change(ctx context.Context, e env, do func(store *results.Store, name, actor, reason string) (results.Cloud, error)) error {
	if err := o.check(); err != nil {
		return err
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		return each(o.ids, e, func(name string) error {
			c, err := do(store, name, actor(o.actor, e), o.reason)
			if err != nil {
				return err
			}
			row, err := readCloud(ctx, store, c)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.Stdout, "%s  %s  cap %s  rate %s  reads %s  settle %s  ambiguous %s\n", c.Name, pace(row), orNone(float64(c.Cap), ""),
				orNone(c.RateNow, "/s"), orNone(c.ReadRate, "/s"), row.Settle, c.Ambiguous)
			return err
		})
	})
}
