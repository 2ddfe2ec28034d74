package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

const cinderGrace = 2 * time.Second // after Cinder's own fault its thread has ended

// evidence compares a look with what was there before the POST.
func (w *Worker) evidence(row results.Restore, last results.Attempt, s sight, settle time.Duration) Evidence {
	e := Evidence{Accepted: row.Accepted || row.SeenRunning, Seen: row.SeenRunning,
		Volume: Look{s.volume.Status, moved(s.volume.Status, s.volume.Updated, last.Before.VolumeStatus, last.Before.VolumeUpdated), goneness(s.goneV, row.VolumeGoneAt, s.began)},
		Backup: Look{s.backup.Status, moved(s.backup.Status, s.backup.Updated, last.Before.BackupStatus, last.Before.BackupUpdated), goneness(s.goneB, row.BackupGoneAt, s.began)},
		Lag:    s.backup.Updated.Sub(s.volume.Updated), VolumeAge: s.cloudTime().Sub(s.volume.Updated)}
	if s.volume.CloudTime.IsZero() && s.backup.CloudTime.IsZero() {
		e.VolumeAge = s.began.Sub(s.volume.Updated)
	}
	ended := last.AnsweredAt
	if ended.IsZero() {
		ended = last.PostDeadline
	}
	e.CinderEnded = !last.AnsweredAt.IsZero() && last.Answer.Answerer == vbs.Cinder.String() && last.Answer.RequestID != ""
	e.Settled = s.began.Sub(ended) >= settle
	e.LateEnough = e.Settled || e.CinderEnded && s.began.Sub(ended) >= cinderGrace
	deadline, span := watchEnd(row, last)
	e.PastDeadline = s.began.After(deadline)
	e.PastTwice = s.began.After(deadline.Add(span))
	return e
}

// watchEnd is the latest sensible end of the restore, and how long it was given.
func watchEnd(row results.Restore, last results.Attempt) (time.Time, time.Duration) {
	span := watchTime(row)
	if row.WatchDeadline.IsZero() {
		return last.PostDeadline.Add(span), span
	}
	return row.WatchDeadline, span
}

func moved(status string, updated time.Time, wasStatus string, wasUpdated time.Time) bool {
	return status != wasStatus || !updated.Equal(wasUpdated)
}

func goneness(gone bool, since, now time.Time) Gone {
	switch {
	case !gone:
		return Present
	case since.IsZero() || now.Sub(since) < lookAgain:
		return GoneOnce
	}
	return GoneSure
}

// judge asks Judge, reading what it asks for.
func (w *Worker) judge(ctx context.Context, row results.Restore, last results.Attempt, s sight, e Evidence) (Verdict, string, error) {
	text := ""
	for {
		v := Judge(e)
		var err error
		switch v {
		case AskMessages:
			e.Messages, text, err = w.askMessages(ctx, row, last)
		case AskSiblings:
			e.Siblings, err = w.askSiblings(ctx, row, last, s)
		case Broken:
			if text == "" {
				_, text, err = w.askMessages(ctx, row, last)
			}
			return v, text, ignoreRead(err)
		default:
			return v, text, nil
		}
		if err != nil && !(e.PastDeadline && row.Overdue) { // overdue was told at an earlier look
			return KeepWatching, "", err
		}
		if err != nil { // it cannot be asked for ever: the success is weak, the doubt a doubt
			e = withoutAnswers(e, v)
		}
	}
}

// withoutAnswers goes on past the watch deadline when a question stays unanswered.
func withoutAnswers(e Evidence, asked Verdict) Evidence {
	if asked == AskSiblings {
		e.Siblings = Found
		return e
	}
	e.Messages, e.Lag = Clean, -1
	return e
}

// ignoreRead: the reason of a failure is welcome, but the failure stands without it.
func ignoreRead(error) error { return nil }

// askMessages looks for the failure of our own restore: by the id of its POST,
// or, when the answer was lost, by backup and time.
func (w *Worker) askMessages(ctx context.Context, row results.Restore, last results.Attempt) (Finding, string, error) {
	if err := w.Reads.watcher(ctx); err != nil {
		return Unread, "", err
	}
	found, err := w.Cloud.Messages(ctx, vbs.MessageQuery{ResourceID: row.BackupID, Since: last.Before.CloudTime})
	if errors.Is(err, vbs.ErrNoMessages) || refusedForGood(err) {
		return Clean, "", nil
	}
	if err != nil {
		return Unread, "", err
	}
	for _, m := range found {
		if TellsOf(m, last) {
			return Found, m.Text, nil
		}
	}
	return Clean, "", nil
}

// TellsOf reports whether a message of the cloud is about this attempt: it names
// the request id that Cinder answered with; if no answer of Cinder's came, it is
// not older than the look before the POST.
func TellsOf(m vbs.Message, a results.Attempt) bool {
	if a.Answer.Answerer == vbs.Cinder.String() && strings.HasPrefix(a.Answer.RequestID, "req-") {
		return m.RequestID == a.Answer.RequestID
	}
	return !m.Created.Before(a.Before.CloudTime)
}

// refusedForGood: this cloud has no messages, or none for us.
func refusedForGood(err error) bool {
	var e *vbs.Error
	if !errors.As(err, &e) || vbs.IsAuth(err) {
		return false
	}
	return e.Status == 501 || e.Status >= 400 && e.Status < 500 && e.Status != 408 && e.Status != 429
}

// askSiblings looks for another explanation of two moved times: another restore
// onto the volume, or another backup of the source volume that changed meanwhile.
func (w *Worker) askSiblings(ctx context.Context, row results.Restore, last results.Attempt, s sight) (Finding, error) {
	src := s.volume.Metadata["src_backup_id"]
	if src != "" && src != row.BackupID && src != last.Before.SrcBackupID {
		return Found, nil
	}
	if err := w.Reads.watcher(ctx); err != nil {
		return Unread, err
	}
	siblings, err := w.Cloud.Backups(ctx, vbs.BackupQuery{VolumeID: last.Before.BackupSource})
	if err != nil {
		return Unread, err
	}
	for _, b := range siblings {
		if b.ID != row.BackupID && (b.Updated.After(last.Before.CloudTime) || b.Created.After(last.Before.CloudTime)) {
			return Found, nil
		}
	}
	return Clean, nil
}

// judgeAgain judges a row whose last attempt ended without proof once more, on
// the look before the next POST. Only "not executed" goes on.
func (w *Worker) judgeAgain(ctx context.Context, row results.Restore, s sight) (bool, error) {
	attempts, err := w.Store.Attempts(ctx, row.ID)
	if err != nil || len(attempts) == 0 {
		return err == nil, err
	}
	last := attempts[len(attempts)-1]
	e := w.evidence(row, last, s, 0)
	e.LateEnough, e.Settled, e.PastDeadline, e.PastTwice = true, true, false, false
	v, text, err := w.judge(ctx, row, last, s, e)
	if err != nil {
		return false, w.cannotSee(ctx, row, err)
	}
	if v == NotExecuted {
		return true, nil
	}
	return false, w.executedLate(ctx, row, s, v, text)
}

// executedLate: the POST that was taken for lost has run after all.
func (w *Worker) executedLate(ctx context.Context, row results.Restore, s sight, v Verdict, text string) error {
	m := results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, Actor: w.Name, Seen: w.sighting(row, s)}
	switch v {
	case Adopt, Running:
		m.To, m.Kind, m.Running, m.Outcome = results.Restoring, "executed late", true, "adopted, executed late"
		m.Reason, m.WatchDeadline = "the POST taken for lost runs after all; not sent again", w.Store.Now().Add(watchTime(row))
	case KeepWatching: // somebody else reads our backup, or it is being looked for
		m.To, m.Kind, m.Wait = results.Waiting, "waits", results.WaitBusy
		m.Reason, m.NotBefore = "volume or backup is in use by something else", w.Store.Now().Add(Backoff(row.Waits+1, 0))
	case RestoredWeak, Restored:
		m.To, m.Kind, m.Outcome = results.Restoring, "executed late", "executed late"
		m.Reason, m.WatchDeadline = "volume and backup moved since the POST taken for lost; not sent again, watched", w.Store.Now().Add(watchTime(row))
	case Broken, Vanished:
		m.To, m.Kind, m.FailClass, m.Outcome = results.Failed, "failed", failClass(v), "executed late, failed"
		m.Reason, m.Advice = failedBecause(v, s, text), failedAdvice(v, row)
	default:
		m.To, m.Kind, m.FailClass, m.Reason = results.InDoubt, "in doubt", "siblings", "volume and backup moved since the POST taken for lost, and not only by us"
	}
	return w.move(ctx, m)
}
