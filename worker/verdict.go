package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vbsrestore/vbsrestore/results"
)

// apply writes what a verdict means for a watched row. It reports whether the
// row moved.
func (x *Watcher) apply(ctx context.Context, r results.Watch, s sight, v Verdict, text string, e Evidence, ambiguous string) (bool, error) {
	m := results.Move{ID: r.ID, From: []results.State{r.State}, Attempt: r.Attempt, Actor: x.worker.Name, Seen: x.worker.sighting(r.Restore, s),
		Overdue: r.Overdue, WatchDeadline: r.WatchDeadline}
	switch v {
	case Running, Adopt:
		if !x.running(r, v, e, &m) {
			return false, nil
		}
	case Restored, RestoredWeak:
		if r.State == results.InDoubt && r.FailClass != "" {
			return false, nil // its cause may only have been deleted since: a person decides
		}
		m.To, m.Kind, m.Proof, m.Outcome = results.Succeeded, "restored", results.ProofStatus, outcomeOf(r, "restored")
		m.Reason = "restored: volume " + s.volume.Status + ", backup " + firstOf(s.backup.Status, "gone")
		if v == RestoredWeak {
			m.Proof = results.ProofWeak
			m.Reason += " (not every step was seen: weak proof)"
		}
	case Broken, Vanished:
		m.To, m.Kind, m.FailClass, m.Outcome = results.Failed, "failed", failClass(v), outcomeOf(r, "failed in the cloud")
		m.Reason, m.Advice = failedBecause(v, s, text), failedAdvice(v, r.Restore)
	case NotExecuted:
		if r.State != results.Posting {
			return false, x.keepDoubt(ctx, r, &m)
		}
		x.worker.notExecuted(r, e, ambiguous, &m)
	case Doubtful:
		if r.State == results.InDoubt {
			return false, nil
		}
		m.To, m.Kind, m.Reason, m.FailClass = results.InDoubt, "in doubt", doubt(r, s, e), doubtClass(e)
		m.Advice = "look at the evidence: vbsrestore restore resolve " + r.ID
	default:
		return x.nothingNew(ctx, r, s, e)
	}
	return x.write(ctx, m, r)
}

func (x *Watcher) write(ctx context.Context, m results.Move, r results.Watch) (bool, error) {
	row, err := x.worker.Store.Move(ctx, m)
	if errors.Is(err, results.ErrMoved) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write verdict on restore %s: %w", r.ID, err)
	}
	if !m.Quiet {
		x.worker.logMove(row, m.Kind)
	}
	return true, nil
}

// running: nothing to write for a restore known to run, unless it becomes overdue.
func (x *Watcher) running(r results.Watch, v Verdict, e Evidence, m *results.Move) bool {
	m.To, m.Running = results.Restoring, true
	if r.State == results.Restoring && (r.Accepted || r.SeenRunning) {
		m.Overdue, m.Kind = true, "overdue"
		m.Reason = "still running past its watch deadline; the cloud gives no way to ask why"
		m.Advice = "ask the cloud's operator whether cinder-backup is alive"
		return e.PastDeadline && !r.Overdue
	}
	m.Kind, m.Outcome = "adopted", outcomeOf(r, "adopted")
	m.Reason = "no 202 came, but the cloud runs it: adopted, not sent again"
	if r.State == results.InDoubt {
		m.Kind, m.Reason = "runs", "the cloud runs it"
	}
	m.WatchDeadline = x.worker.Store.Now().Add(watchTime(r.Restore))
	return true
}

// nothingNew notes what a look left, such as the first "not found", and overdue.
func (x *Watcher) nothingNew(ctx context.Context, r results.Watch, s sight, e Evidence) (bool, error) {
	if e.PastDeadline && !r.Overdue && r.State == results.Restoring {
		return x.write(ctx, results.Move{ID: r.ID, From: []results.State{r.State}, Attempt: r.Attempt, Actor: x.worker.Name, Seen: x.worker.sighting(r.Restore, s),
			WatchDeadline: r.WatchDeadline, Overdue: true, Kind: "overdue", Reason: "past its watch deadline: volume " + firstOf(s.volume.Status, "not found") + ", backup " + firstOf(s.backup.Status, "not found"),
			Advice: "ask the cloud's operator whether the request is stuck"}, r)
	}
	if s.goneV == r.VolumeGoneAt.IsZero() || s.goneB == r.BackupGoneAt.IsZero() {
		err := x.worker.Store.Saw(ctx, r.Restore, *x.worker.sighting(r.Restore, s), false)
		if errors.Is(err, results.ErrMoved) {
			err = nil
		}
		return false, err
	}
	return false, nil
}

// notExecuted: proven untouched. Back off and try again, while the budget lasts.
func (w *Worker) notExecuted(r results.Watch, e Evidence, ambiguous string, m *results.Move) {
	what := answerInWords(r.Last)
	m.Costs = r.Last.Outcome != string(Busy)
	m.Unproven, m.Outcome, m.Kind = !e.CinderEnded, "not executed", "not executed"
	switch {
	case ambiguous == "in_doubt" && !e.CinderEnded:
		m.To, m.Kind, m.Costs = results.InDoubt, "in doubt", false
		m.Reason = "volume and backup are untouched (" + what + "), and the settings of this cloud want a person to decide"
		m.Advice = "look at the evidence: vbsrestore restore resolve " + r.ID
	case slices.Contains(w.Policy.Never, r.Last.Answer.Status) && r.Last.Answer.Status != 0:
		m.To, m.FailClass = results.Failed, "not_supported"
		m.Reason = "not executed, and not to be tried again by the settings (retry.never): " + what
		m.Advice = "the volume is untouched; ask the cloud's operator, then: vbsrestore restore retry " + r.ID
	case m.Costs && r.Spent+1 >= w.Budget:
		m.To, m.FailClass = results.Failed, "gave_up"
		m.Reason = fmt.Sprintf("gave up after %d POSTs, none of which was executed; the last: %s", r.Spent+1, what)
		m.Advice = "the volume is untouched; when the cloud is well again: vbsrestore restore retry " + r.ID
	default:
		m.To, m.Wait = results.Waiting, results.WaitBackoff
		m.Reason = "attempt " + fmt.Sprint(r.Attempt) + " was not executed (" + what + "): volume and backup are untouched"
		m.NotBefore = w.Store.Now().Add(Backoff(r.Attempt, r.Last.Answer.RetryAfter))
	}
}

func answerInWords(a results.Attempt) string {
	switch {
	case a.AnsweredAt.IsZero():
		return "never sent, or never seen by the cloud"
	case a.Answer.Status == 0:
		return "no answer came: " + a.Answer.Message
	case strings.HasPrefix(a.Answer.Message, strconv.Itoa(a.Answer.Status)):
		return "the answer was " + a.Answer.Message
	}
	return fmt.Sprintf("the answer was %d %s", a.Answer.Status, a.Answer.Message)
}

// keepDoubt: the row is no longer posting, so only a person may send it again;
// a restoring row that turns out untouched is a contradiction and becomes a doubt.
func (x *Watcher) keepDoubt(ctx context.Context, r results.Watch, m *results.Move) error {
	if r.State == results.InDoubt {
		return nil
	}
	m.To, m.Kind = results.InDoubt, "in doubt"
	m.Reason = "it was taken for running, but volume and backup look untouched"
	m.Advice = "look at the evidence: vbsrestore restore resolve " + r.ID
	_, err := x.write(ctx, *m, r)
	return err
}

func outcomeOf(r results.Watch, end string) string {
	if r.Last.Outcome == "" || r.Last.Outcome == end {
		return end
	}
	return r.Last.Outcome + ", " + end
}

func failClass(v Verdict) string {
	if v == Vanished {
		return "volume_deleted"
	}
	return "cloud_failed"
}

func failedBecause(v Verdict, s sight, text string) string {
	if v == Vanished {
		return "volume deleted meanwhile"
	}
	reason := "the cloud failed to restore: volume " + s.volume.Status
	if text != "" {
		reason += "; " + text
	}
	return reason
}

func failedAdvice(v Verdict, r results.Restore) string {
	if v == Vanished {
		return "restore the backup to a new volume"
	}
	return "an administrator resets the volume (openstack volume set --state available " + r.VolumeID + "), then: vbsrestore restore retry " + r.ID
}

// doubtClass names a cause that may vanish without deciding anything.
func doubtClass(e Evidence) string {
	if !e.Accepted && !e.PastTwice && e.Backup.Status == statusAvailable {
		return "siblings"
	}
	return ""
}

func doubt(r results.Watch, s sight, e Evidence) string {
	switch {
	case e.PastTwice:
		return "it should have ended long ago: volume " + firstOf(s.volume.Status, "gone") + ", backup " + firstOf(s.backup.Status, "gone")
	case e.Siblings == Found, !r.Accepted:
		return "no 202 came, volume and backup moved, and not only by us: volume " + firstOf(s.volume.Status, "gone") + ", backup " + firstOf(s.backup.Status, "gone")
	}
	return "volume " + firstOf(s.volume.Status, "gone") + " and backup " + firstOf(s.backup.Status, "gone") + " contradict each other"
}
