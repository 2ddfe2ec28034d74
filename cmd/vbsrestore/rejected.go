package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

type rejectedOptions struct {
	settings settings
	output   output
	limit    int
}

func newRejected(g *globals, e env) *cobra.Command {
	var o rejectedOptions
	cmd := &cobra.Command{
		Use: "rejected", Short: "list messages that no restore could be made of", Args: takes(),
		Long: `Rejected lists the messages that a worker took from the queue but could make no
restore of, oldest first. They are kept whole, and leave this list when a worker can
read them after all.

A message of a newer version needs a newer worker. One of a restore that "is not in
this store" needs a look at the other store. What nobody can read has to be asked
for again by whoever sent it; the queue and the id of the task say who that was.`,
		Example: "  vbsrestore restore rejected\n  vbsrestore restore rejected -f json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runRejected(cmd.Context(), o, e)
		},
	}
	o.output.addFlags(cmd.Flags())
	cmd.Flags().IntVar(&o.limit, "limit", 500, "at most so many")
	return cmd
}

// rejectedRow is a rejected message as it is printed: its size instead of itself.
type rejectedRow struct {
	results.Rejected
	Size int `json:"size"` // bytes that were kept
}

func runRejected(ctx context.Context, o rejectedOptions, e env) error {
	if o.limit < 1 {
		return usagef("--limit %d: at least 1", o.limit)
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		kept, err := store.Rejections(ctx, results.Page{}, o.limit+1)
		if err != nil {
			return err
		}
		var rows []rejectedRow
		for _, r := range kept[:min(len(kept), o.limit)] {
			rows = append(rows, rejectedRow{r, len(r.Payload)})
		}
		if err := printList(e, o.output, rejectedColumns(), []string{"time", "queue", "task_id", "size", "reason"}, rows); err != nil {
			return err
		}
		if len(kept) > o.limit {
			fmt.Fprintf(e.Stderr, "there are more: --limit %d\n", 10*o.limit)
		}
		return nil
	})
}

func rejectedColumns() []column[rejectedRow] {
	type row = rejectedRow
	return []column[row]{
		{name: "time", text: func(r row) string { return stamp(r.At) }},
		{name: "queue", text: func(r row) string { return r.Queue }},
		{name: "task_id", text: func(r row) string { return r.TaskID }},
		{name: "size", text: func(r row) string {
			if r.Truncated {
				return strconv.Itoa(r.Size) + "+"
			}
			return strconv.Itoa(r.Size)
		}},
		{name: "reason", text: func(r row) string { return r.Reason }, flexible: true},
		{name: "worker", text: func(r row) string { return r.Worker }},
		{name: "id", text: func(r row) string { return r.ID }},
	}
}
