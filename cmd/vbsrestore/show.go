package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

type showOptions struct {
	settings settings
	output   output
	what     string
	noCloud  bool
}

func newShow(g *globals, e env) *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use: "show RESTORE", Short: "tell the story of one restore", Args: takes("RESTORE"),
		Long: `Show tells what was asked for, everything that happened, and what the cloud says
now. RESTORE is an ID, its beginning or end (6 characters or more), or the name or
ID of a volume, which means the newest restore onto it.`,
		Example: "  vbsrestore restore show db-0003\n  vbsrestore restore show 0e6d41c2 -f json --no-cloud",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.what = args[0]
			return runShow(cmd.Context(), o, e)
		},
	}
	o.output.addShowFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.noCloud, "no-cloud", false, "do not ask the cloud how things are now")
	return cmd
}

// story is everything known about one restore.
type story struct {
	Restore  results.Restore   `json:"restore"`
	Attempts []results.Attempt `json:"attempts"`
	Events   []results.Event   `json:"events"`
	Cloud    *cloudView        `json:"cloud"` // null: not asked
}

func runShow(ctx context.Context, o showOptions, e env) error {
	if err := o.output.onlyFor("table", "json", "yaml"); err != nil {
		return err
	}
	var st story
	err := withStore(ctx, o.settings, func(store *results.Store) (err error) {
		st, err = readStory(ctx, store, o.what)
		return err
	})
	if err != nil {
		return err
	}
	if !o.noCloud {
		st.Cloud = lookAt(ctx, o.settings, e, st)
	}
	if o.output.format == "table" {
		return tell(e, st)
	}
	return printAs(e.Stdout, o.output.format, st)
}

func readStory(ctx context.Context, store *results.Store, what string) (story, error) {
	row, err := store.Find(ctx, what)
	if err != nil {
		return story{}, hint(err, "vbsrestore restore list shows what there is")
	}
	attempts, err := store.Attempts(ctx, row.ID)
	if err != nil {
		return story{}, err
	}
	events, err := store.Story(ctx, row.ID)
	if attempts == nil {
		attempts = []results.Attempt{}
	}
	return story{Restore: row, Attempts: attempts, Events: events}, err
}

// last is the newest attempt; the zero Attempt if there was none.
func (s story) last() results.Attempt {
	if len(s.Attempts) == 0 {
		return results.Attempt{}
	}
	return s.Attempts[len(s.Attempts)-1]
}
