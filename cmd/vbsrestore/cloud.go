package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

func newCloud(g *globals, e env) *cobra.Command {
	return newGroup("cloud", "pace, limits and pauses of the clouds", newCloudList(g, e), newCloudShow(g, e), newCloudSet(g, e),
		newCloudAct(g, e, "pause", "stop all POSTs to a cloud; what it runs already is watched on", (*results.Store).Pause),
		newCloudAct(g, e, "resume", "let POSTs go to a cloud again", (*results.Store).Resume))
}

type cloudOptions struct {
	settings settings
	output   output
	name     string
}

func newCloudList(g *globals, e env) *cobra.Command {
	var o cloudOptions
	cmd := &cobra.Command{
		Use: "list", Short: "list the clouds that a worker ever served", Args: takes(), Example: "  vbsrestore cloud list",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runCloudList(cmd.Context(), o, e)
		},
	}
	o.output.addFlags(cmd.Flags())
	return cmd
}

// cloudRow is a cloud as it is printed: durations in words.
type cloudRow struct {
	results.Cloud
	Settle string         `json:"settle"`
	Paused bool           `json:"paused"`
	Counts map[string]int `json:"counts"`
}

func readCloud(ctx context.Context, store *results.Store, c results.Cloud) (cloudRow, error) {
	counts, err := store.Counts(ctx, c.Name)
	row := cloudRow{Cloud: c, Settle: c.Settle.String(), Paused: c.Paused(), Counts: map[string]int{}}
	for s, n := range counts {
		row.Counts[string(s)] = n
	}
	return row, err
}

func runCloudList(ctx context.Context, o cloudOptions, e env) error {
	return withStore(ctx, o.settings, func(store *results.Store) error {
		clouds, err := store.Clouds(ctx)
		if err != nil {
			return err
		}
		var rows []cloudRow
		for _, c := range clouds {
			row, err := readCloud(ctx, store, c)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return printList(e, o.output, cloudColumns(), []string{"name", "pace", "open", "in_doubt", "cap", "rate", "reason"}, rows)
	})
}

func cloudColumns() []column[cloudRow] {
	type row = cloudRow
	return []column[row]{
		{name: "name", text: func(c row) string { return c.Name }},
		{name: "pace", text: pace, colour: func(c row) string {
			if c.Paused {
				return "31"
			}
			return ""
		}},
		{name: "open", text: func(c row) string { return strconv.Itoa(c.open()) }},
		{name: "in_doubt", text: func(c row) string { return strconv.Itoa(c.Counts[string(results.InDoubt)]) }},
		{name: "cap", text: func(c row) string { return orNone(float64(c.Cap), "") }},
		{name: "rate", text: func(c row) string { return orNone(c.RateNow, "/s") }},
		{name: "read_rate", text: func(c row) string { return orNone(c.ReadRate, "/s") }},
		{name: "settle", text: func(c row) string { return c.Settle }},
		{name: "ambiguous", text: func(c row) string { return c.Ambiguous }},
		{name: "reason", text: func(c row) string { return c.Reason }, flexible: true},
		{name: "actor", text: func(c row) string { return c.Actor }},
	}
}

func pace(c cloudRow) string {
	switch {
	case c.PausedBy == "person":
		return "paused"
	case c.Paused:
		return "paused, probed"
	case c.Rate > 0 && c.RateNow < c.Rate:
		return "slowed"
	}
	return "open"
}

func (c cloudRow) open() int {
	n := 0
	for state, count := range c.Counts {
		if !results.State(state).Final() {
			n += count
		}
	}
	return n
}

func orNone(n float64, unit string) string {
	if n == 0 {
		return "none"
	}
	return strconv.FormatFloat(n, 'g', 4, 64) + unit
}

func newCloudShow(g *globals, e env) *cobra.Command {
	var o cloudOptions
	cmd := &cobra.Command{
		Use: "show CLOUD", Short: "show pace, limits, counts and recent events of a cloud", Args: takes("CLOUD"), Example: "  vbsrestore cloud show otc",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.name = args[0]
			return runCloudShow(cmd.Context(), o, e)
		},
	}
	o.output.addShowFlags(cmd.Flags())
	return cmd
}

// cloudStory is everything known about one cloud.
type cloudStory struct {
	Cloud  cloudRow        `json:"cloud"`
	Leader *results.Lease  `json:"leader"` // null: nobody leads
	Events []results.Event `json:"events"` // newest first
}

const recentEvents = 15

func runCloudShow(ctx context.Context, o cloudOptions, e env) error {
	if err := o.output.onlyFor("table", "json", "yaml"); err != nil {
		return err
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		st, err := readCloudStory(ctx, store, o.name)
		if err != nil {
			return err
		}
		if o.output.format != "table" {
			return printAs(e.Stdout, o.output.format, st)
		}
		return tellCloud(e, st)
	})
}

func readCloudStory(ctx context.Context, store *results.Store, name string) (st cloudStory, err error) {
	c, err := store.Cloud(ctx, name)
	if err != nil {
		return st, hint(err, "vbsrestore cloud list shows the clouds that a worker ever served")
	}
	if st.Cloud, err = readCloud(ctx, store, c); err != nil {
		return st, err
	}
	leases, err := store.Leases(ctx)
	if err != nil {
		return st, err
	}
	for _, l := range leases {
		if l.Name == "cloud:"+name && l.ExpiresAt.After(store.Now()) {
			st.Leader = &l
		}
	}
	st.Events, err = store.CloudEvents(ctx, name, recentEvents)
	st.Events = append([]results.Event{}, st.Events...)
	return st, err
}

func tellCloud(e env, st cloudStory) error {
	t, c := &teller{colours: e.colours(e.StdoutTTY), now: e.now()}, st.Cloud
	fmt.Fprintf(t, "Cloud %s: %s\n", c.Name, pace(c))
	t.fact("why", "%s%s", c.Reason, prefixed(" — ", c.Actor))
	t.fact("cap", "%s restores at once", orNone(float64(c.Cap), ""))
	t.fact("rate", "%s POSTs now, %s at most; %s GETs", orNone(c.RateNow, "/s"), orNone(c.Rate, "/s"), orNone(c.ReadRate, "/s"))
	t.fact("settle", "%s, then %s", c.Settle, ambiguousInWords(c.Ambiguous))
	if c.NotBefore.After(t.now) {
		t.fact("holds", "no POST for %s", age(c.NotBefore.Sub(t.now)))
	}
	t.fact("leader", "%s", leaderInWords(st.Leader, t))
	t.fact("restores", "%s", countsInWords(c.Counts))
	t.events(st.Events)
	_, err := e.Stdout.Write(t.Bytes())
	return err
}

func ambiguousInWords(what string) string {
	if what == "in_doubt" {
		return "what is proven untouched waits for a person (in_doubt)"
	}
	return "what is proven untouched is sent again (repost)"
}

func leaderInWords(l *results.Lease, t *teller) string {
	if l == nil {
		return "nobody: is a worker running?"
	}
	return fmt.Sprintf("%s, for %s (term %d)", l.Holder, age(t.now.Sub(l.TakenAt)), l.Term)
}

func countsInWords(counts map[string]int) string {
	var parts []string
	for _, s := range results.States {
		if n := counts[string(s)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func (t *teller) events(events []results.Event) {
	if len(events) == 0 {
		return
	}
	t.section("Recent events, newest first")
	for _, ev := range events {
		fmt.Fprintf(t, "  %8s ago  %-18s  %s%s\n", age(t.now.Sub(ev.At)), ev.Kind, oneLine(ev.Reason), prefixed("  — ", ev.Actor))
	}
}
