package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func newRestore(g *globals, e env) *cobra.Command {
	return newGroup("restore", "look at restores and act on them", newList(g, e), newShow(g, e), newCancel(g, e), newRetry(g, e), newResolve(g, e), newExport(g, e), newRejected(g, e))
}

// openStore opens the store of somebody who reads or decides: it must be there.
func openStore(ctx context.Context, s settings) (*results.Store, error) {
	store, err := results.Open(ctx, s.Store, results.Options{MustExist: true})
	if errors.Is(err, results.ErrNoStore) {
		return nil, hint(err, "a worker makes it: vbsrestore worker --store %s; or name the right one with --store or VBSRESTORE_STORE", redacted(s.Store))
	}
	return store, err
}

// withStore runs what needs a store that is there.
func withStore(ctx context.Context, s settings, do func(*results.Store) error) (err error) {
	store, err := openStore(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store)
}

type listOptions struct {
	settings settings
	output   output
	filter   filterOptions
	limit    int
	marker   string
}

// filterOptions are the flags that select restores.
type filterOptions struct{ state, cloud, class, volume string }

func (o *filterOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.state, "state", "", "only restores in this state: "+stateNames())
	f.StringVar(&o.cloud, "cloud", "", "only of this cloud")
	f.StringVar(&o.class, "class", "", "only of this class: urgent, direct, campaign or drill")
	f.StringVar(&o.volume, "volume", "", "only onto the volume with this ID or name")
}

func stateNames() string {
	names := make([]string, len(results.States))
	for i, s := range results.States {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func (o filterOptions) filter() (results.Filter, error) {
	f := results.Filter{Cloud: o.cloud, State: results.State(o.state), Class: o.class}
	if o.state != "" && !f.State.Valid() {
		return f, hint(usagef("there is no state %q", o.state), "states: %s", stateNames())
	}
	if o.class != "" && tasks.Class(o.class).Rank() > 3 {
		return f, hint(usagef("there is no class %q", o.class), "classes: urgent, direct, campaign, drill")
	}
	if uuid.Validate(o.volume) == nil {
		f.VolumeID = strings.ToLower(o.volume)
	} else {
		f.Name = o.volume
	}
	return f, nil
}

func newList(g *globals, e env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list", Short: "list restores in the order they were recorded", Args: takes(),
		Example: "  vbsrestore restore list --state in_doubt\n  vbsrestore restore list -f csv -c id -c volume_id -c state",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runList(cmd.Context(), o, e)
		},
	}
	o.filter.addFlags(cmd)
	o.output.addFlags(cmd.Flags())
	cmd.Flags().IntVar(&o.limit, "limit", 500, "at most so many")
	cmd.Flags().StringVar(&o.marker, "marker", "", "begin after the restore with this ID")
	return cmd
}

func runList(ctx context.Context, o listOptions, e env) error {
	filter, err := o.filter.filter()
	if err != nil {
		return err
	}
	if o.limit < 1 {
		return usagef("--limit %d: at least 1", o.limit)
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		var after results.Page
		if o.marker != "" {
			last, err := store.Find(ctx, o.marker)
			if err != nil {
				return err
			}
			after = results.Page{CreatedAt: last.CreatedAt, ID: last.ID}
		}
		rows, err := store.List(ctx, filter, after, o.limit+1)
		if err != nil {
			return err
		}
		more := len(rows) > o.limit
		rows = rows[:min(len(rows), o.limit)]
		if err := printList(e, o.output, restoreColumns(e.now()), []string{"id", "volume_name", "state", "reason", "attempts", "age"}, rows); err != nil {
			return err
		}
		if more {
			fmt.Fprintf(e.Stderr, "there are more: --marker %s\n", rows[len(rows)-1].ID)
		}
		return nil
	})
}

func restoreColumns(now time.Time) []column[results.Restore] {
	type row = results.Restore
	return []column[row]{
		{name: "id", text: func(r row) string { return r.ID }, short: func(r row) string { return shortID(r.ID) }},
		{name: "volume_name", text: func(r row) string { return r.VolumeName }},
		{name: "state", text: func(r row) string { return string(r.State) }, colour: func(r row) string { return stateColour(r.State) }},
		{name: "reason", text: func(r row) string { return r.Reason }, flexible: true},
		{name: "attempts", text: func(r row) string { return strconv.Itoa(r.Attempt) }},
		{name: "age", text: func(r row) string { return age(now.Sub(r.CreatedAt)) }},
		{name: "cloud", text: func(r row) string { return r.Cloud }},
		{name: "class", text: func(r row) string { return string(r.Class) }},
		{name: "project_id", text: func(r row) string { return r.ProjectID }},
		{name: "volume_id", text: func(r row) string { return r.VolumeID }},
		{name: "backup_id", text: func(r row) string { return r.BackupID }},
		{name: "backup_name", text: func(r row) string { return r.BackupName }},
		{name: "volume_gib", text: func(r row) string { return strconv.Itoa(r.VolumeGiB) }},
		{name: "wait", text: func(r row) string { return string(r.Wait) }},
		{name: "proof", text: func(r row) string { return string(r.Proof) }},
		{name: "fail_class", text: func(r row) string { return r.FailClass }},
		{name: "advice", text: func(r row) string { return r.Advice }},
		{name: "actor", text: func(r row) string { return r.Actor }},
		{name: "created_at", text: func(r row) string { return stamp(r.CreatedAt) }},
		{name: "accepted_at", text: func(r row) string { return stamp(r.AcceptedAt) }},
		{name: "finished_at", text: func(r row) string { return stamp(r.FinishedAt) }},
		{name: "not_before", text: func(r row) string { return stamp(r.NotBefore) }},
	}
}

// shortID is the end of an ID: UUIDv7s of one moment begin alike.
func shortID(id string) string { return id[max(0, len(id)-12):] }

func stateColour(s results.State) string {
	switch s {
	case results.Succeeded:
		return "32"
	case results.Failed, results.InDoubt:
		return "31"
	case results.Posting, results.Restoring, results.Verifying, results.Preparing:
		return "36"
	case results.Cancelled:
		return "2"
	}
	return ""
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// age is a duration with the one or two units that matter.
func age(d time.Duration) string {
	switch d = max(0, d).Truncate(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 10*time.Minute:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
