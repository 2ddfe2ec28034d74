package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

type actOptions struct {
	settings settings
	ids      []string
	reason   string
	actor    string
}

func (o *actOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.reason, "reason", "", "why; kept with the restore (needed)")
	cmd.Flags().StringVar(&o.actor, "actor", "", "who decides (default USER)")
}

func (o actOptions) check() error {
	if strings.TrimSpace(o.reason) == "" {
		return hint(usagef("a reason is needed"), "--reason TEXT; it is kept with the record")
	}
	return nil
}

// act is a person's act on one restore.
type act func(store *results.Store, ctx context.Context, id, actor, reason string) (results.Restore, error)

func newCancel(g *globals, e env) *cobra.Command {
	return newAct(g, e, "cancel", "end restores that nothing was sent for yet", (*results.Store).Cancel,
		"A restore whose POST may be on the wire, or that the cloud already runs, cannot be\ncancelled: the API has no way to stop one.")
}

func newRetry(g *globals, e env) *cobra.Command {
	return newAct(g, e, "retry", "send failed or cancelled restores again", (*results.Store).Retry,
		"The ID and the attempts are kept; the budget of POSTs and the time they were asked\nfor count from now.")
}

func newAct(g *globals, e env, name, short string, do act, long string) *cobra.Command {
	var o actOptions
	cmd := &cobra.Command{
		Use: name + " RESTORE… --reason TEXT", Short: short, Args: takes("RESTORE…"), Long: long,
		Example: "  vbsrestore restore " + name + " db-0003 --reason \"ticket 4711\"",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.ids = args
			return runAct(cmd.Context(), o, do, e)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func runAct(ctx context.Context, o actOptions, do act, e env) error {
	if err := o.check(); err != nil {
		return err
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		return each(o.ids, e, func(what string) error {
			row, err := store.Find(ctx, what)
			if err != nil {
				return err
			}
			if row, err = do(store, ctx, row.ID, actor(o.actor, e), o.reason); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.Stdout, "%s  %s  %s\n", row.ID, row.State, oneLine(row.Reason))
			return err
		})
	})
}

// each does something for several, goes on after failures and says at the end
// how many there were. The failure of a single one is returned as it is.
func each(ids []string, e env, do func(string) error) error {
	failed := 0
	for _, id := range ids {
		err := do(id)
		if errors.Is(err, context.Canceled) || err != nil && len(ids) == 1 {
			return err
		}
		if err != nil {
			failed++
			report(e.Stderr, err)
		}
	}
	if failed > 0 {
		return &partial{failed, len(ids)}
	}
	return nil
}
