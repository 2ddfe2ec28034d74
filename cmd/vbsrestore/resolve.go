package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/worker"
)

type resolveOptions struct {
	actOptions
	as    string
	force bool
}

// Restores in doubt have these classes when no look at the statuses can tell.
const (
	movedByOthers = "siblings" // another restore or another backup moved meanwhile
	lostCommits   = "suspect"  // the store lost commits, and the volume changed since
)

func newResolve(g *globals, e env) *cobra.Command {
	var o resolveOptions
	cmd := &cobra.Command{
		Use: "resolve RESTORE [--as restored|failed|retry --reason TEXT]", Short: "decide about a restore in doubt", Args: takes("RESTORE"),
		Long: `Resolve ends a doubt. Without --as it shows the evidence and what it suggests, and
changes nothing.

    --as restored   the volume holds the backup
    --as failed     it does not, and is not to be tried again
    --as retry      the POST was not executed: send it again; volume and backup must
                    be available

Before restored and retry the cloud is looked at. What it shows against them refuses
them; --force is for those who know better.`,
		Example: "  vbsrestore restore resolve db-0003\n  vbsrestore restore resolve db-0003 --as restored --reason \"mounted it: data of 02:00\"",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.ids = args
			return runResolve(cmd.Context(), o, e)
		},
	}
	cmd.Flags().StringVar(&o.as, "as", "", "restored, failed or retry")
	cmd.Flags().BoolVar(&o.force, "force", false, "although what the cloud shows speaks against it")
	o.addFlags(cmd)
	return cmd
}

func runResolve(ctx context.Context, o resolveOptions, e env) error {
	as := results.Resolution(o.as)
	switch as {
	case "", results.ResolveRestored, results.ResolveFailed, results.ResolveRetry:
	default:
		return usagef("--as %q: use restored, failed or retry", o.as)
	}
	if as != "" {
		if err := o.check(); err != nil {
			return err
		}
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		st, err := readStory(ctx, store, o.ids[0])
		if err != nil {
			return err
		}
		if as == "" {
			return o.showEvidence(ctx, e, st)
		}
		fresh, err := o.freshLook(ctx, e, st, as)
		if err != nil {
			return err
		}
		row, err := store.Resolve(ctx, st.Restore.ID, actor(o.actor, e), o.reason, as, fresh)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.Stdout, "%s  %s  %s\n", row.ID, row.State, oneLine(row.Reason))
		return err
	})
}

// freshLook reads the cloud now and refuses what it speaks against. It reports
// whether volume and backup are at rest, without which there is no retry.
func (o resolveOptions) freshLook(ctx context.Context, e env, st story, as results.Resolution) (bool, error) {
	if st.Restore.State != results.InDoubt || as == results.ResolveFailed {
		return false, nil
	}
	v := lookAt(ctx, o.settings, e, st)
	if as == results.ResolveRetry {
		if err := v.allowsPOST(st.Restore); err != nil {
			return false, err
		}
	}
	if v.err != nil {
		fmt.Fprintf(e.Stderr, "vbsrestore: the cloud could not be asked, and nothing but your word is recorded: %s\n", oneLine(v.Error))
	}
	if against := contradiction(as, v.judge(st.Restore, st.last())); against != "" && !o.force {
		return false, &results.ActError{ID: st.Restore.ID, State: st.Restore.State, Why: against + " (" + statuses(v) + ")",
			Hint: "look at the content of the volume; if you still decide so: --as " + string(as) + " --force"}
	}
	return v.atRest(), nil
}

// allowsPOST: only a cloud that shows volume and backup at rest allows a retry.
func (v *cloudView) allowsPOST(r results.Restore) error {
	switch {
	case errors.Is(v.err, results.ErrOtherProject):
		return hint(v.err, "use the clouds.yaml of the project that the restore is of")
	case v.err != nil:
		return hint(&away{fmt.Errorf("retry needs a look at the cloud: %s", v.Error)}, "try again when the cloud answers")
	case !v.atRest():
		return &results.ActError{ID: r.ID, State: r.State, Why: "volume and backup are not both available now (" + statuses(v) + ")",
			Hint: "vbsrestore restore resolve " + r.ID + " shows the evidence"}
	}
	return nil
}

// contradiction says what a judgement has against a decision; "" is nothing.
func contradiction(as results.Resolution, v worker.Verdict) string {
	switch {
	case as == results.ResolveRetry && (v == worker.Restored || v == worker.RestoredWeak):
		return "it looks restored: volume and backup moved since the POST and are available; a retry would write the volume again"
	case as == results.ResolveRestored && v == worker.NotExecuted:
		return "it does not look restored: volume and backup look as before the POST, or were touched by somebody else"
	case as == results.ResolveRestored && (v == worker.Broken || v == worker.Vanished):
		return "it does not look restored: the cloud says that it failed, or the volume is gone"
	case v == worker.Running || v == worker.Adopt:
		return "the cloud is restoring onto the volume right now, and the watcher sees how it ends"
	}
	return ""
}

func statuses(v *cloudView) string {
	volume, backup := "gone", "gone"
	if v.Volume != nil {
		volume = v.Volume.Status
		if len(v.Volume.Servers) > 0 {
			volume += ", attached"
		}
	}
	if v.Backup != nil {
		backup = v.Backup.Status
	}
	return "volume " + volume + ", backup " + backup
}

// showEvidence shows all that speaks for one or the other, and what it suggests.
func (o resolveOptions) showEvidence(ctx context.Context, e env, st story) error {
	if st.Restore.State != results.InDoubt {
		return &results.ActError{ID: st.Restore.ID, State: st.Restore.State, Why: "only a restore in doubt can be resolved",
			Hint: "vbsrestore restore show " + st.Restore.ID}
	}
	st.Cloud = lookAt(ctx, o.settings, e, st)
	t := &teller{colours: e.colours(e.StdoutTTY), now: e.now()}
	t.head(st.Restore)
	if last := st.last(); last.Attempt > 0 {
		t.section(fmt.Sprintf("Attempt %d", last.Attempt))
		t.attempt(st, last.Attempt)
	}
	t.cloud(st)
	t.section("Suggestion")
	as, why := suggestion(st)
	t.WriteString("  " + why + "\n")
	if as != "" {
		fmt.Fprintf(t, "  vbsrestore restore resolve %s --as %s --reason …\n", st.Restore.ID, as)
	}
	_, err := e.Stdout.Write(t.Bytes())
	return err
}

// suggestion is what the watcher's judgement would conclude from the cloud of now.
func suggestion(st story) (as results.Resolution, why string) {
	verdict := st.Cloud.judge(st.Restore, st.last())
	switch {
	case st.Cloud.err != nil:
		return "", "none: look at the volume in the cloud, then decide"
	case st.Restore.FailClass == lostCommits, st.last().Attempt == 0:
		return "", "none: this store lost commits, and with them it may have lost a POST; the volume has changed since: look at its content, then decide"
	case verdict == worker.Running, verdict == worker.Adopt:
		return "", "wait: the cloud is restoring onto the volume right now, and the watcher sees how it ends"
	case st.Restore.FailClass == movedByOthers:
		return "", "none: another restore or another backup moved meanwhile, so the statuses prove nothing: look at the content of the volume, then decide"
	case verdict == worker.NotExecuted:
		return results.ResolveRetry, "volume and backup look as before the POST, or were touched by somebody else: it was not executed"
	case verdict == worker.Restored, verdict == worker.RestoredWeak:
		return results.ResolveRestored, "volume and backup moved and are available: it looks restored. Check the content if you can"
	case verdict == worker.Broken, verdict == worker.Vanished:
		return results.ResolveFailed, "the cloud says that it failed, or the volume is gone"
	}
	return "", "none: the statuses do not tell. Look at the content of the volume, then decide"
}
