package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
)

// teller writes a story: a head, a timeline, what the cloud says, advice.
type teller struct {
	bytes.Buffer
	colours bool
	now     time.Time
}

func tell(e env, s story) error {
	t := &teller{colours: e.colours(e.StdoutTTY), now: e.now()}
	t.head(s.Restore)
	t.timeline(s)
	t.cloud(s)
	if s.Restore.Advice != "" {
		t.section("Advice")
		t.WriteString("  " + oneLine(s.Restore.Advice) + "\n")
	}
	_, err := e.Stdout.Write(t.Bytes())
	return err
}

func (t *teller) section(name string) {
	if t.colours {
		name = painted(name, "1")
	}
	t.WriteString("\n" + name + "\n")
}

// fact writes one line of a block; an empty text is left out.
func (t *teller) fact(name, format string, args ...any) {
	if text := oneLine(fmt.Sprintf(format, args...)); strings.TrimSpace(text) != "" {
		fmt.Fprintf(t, "  %-9s %s\n", name, text)
	}
}

func (t *teller) head(r results.Restore) {
	state := string(r.State)
	if t.colours {
		state = painted(state, stateColour(r.State))
	}
	fmt.Fprintf(t, "Restore %s: %s", r.ID, state)
	if r.Overdue {
		t.WriteString(", overdue")
	}
	t.WriteString("\n")
	t.fact("why", "%s", r.Reason)
	t.fact("volume", "%s", named(r.VolumeName, r.VolumeID, r.VolumeGiB))
	t.fact("backup", "%s", named(r.BackupName, r.BackupID, r.BackupGiB))
	t.fact("cloud", "%s", r.Cloud+prefixed(", project ", r.ProjectID))
	t.fact("asked", "%s%s, class %s", t.ago(r.AskedAt), prefixed(" by ", r.Actor), r.Class)
	t.fact("labels", "%s", labels(r.Labels))
	t.window(r)
	t.fact("ended", "%s", t.ended(r))
	t.fact("proof", "%s", proofInWords(r.Proof))
}

func (t *teller) window(r results.Restore) {
	if !r.NotBefore.IsZero() && r.NotBefore.After(t.now) {
		t.fact("next", "in %s (%s)", age(r.NotBefore.Sub(t.now)), waitInWords(r.Wait))
	}
	if !r.NotAfter.IsZero() && !r.State.Final() && r.Attempt == 0 {
		t.fact("no later", "%s", stamp(r.NotAfter))
	}
}

func (t *teller) ended(r results.Restore) string {
	if r.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s, %s after it was asked for", t.ago(r.FinishedAt), age(r.FinishedAt.Sub(r.AskedAt)))
}

func (t *teller) ago(at time.Time) string { return stamp(at) + " (" + age(t.now.Sub(at)) + " ago)" }

func named(name, id string, gib int) string {
	text := strings.TrimSpace(name + " " + id)
	if gib > 0 {
		text += fmt.Sprintf(", %d GiB", gib)
	}
	return text
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func labels(all map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, k+"="+all[k])
	}
	return strings.Join(out, " ")
}

func proofInWords(p results.Proof) string {
	switch p {
	case results.ProofStatus:
		return "status: volume and backup became available together, as the cloud does after a restore"
	case results.ProofWeak:
		return "weak: volume and backup look restored, but not all of the evidence was seen"
	case results.ProofHook:
		return "hook: a check of the content ran"
	case results.ProofPerson:
		return "person: somebody looked and said so"
	}
	return ""
}

func waitInWords(w results.Wait) string {
	switch w {
	case results.WaitTurn, "":
		return "its turn comes"
	case results.WaitTime:
		return "not wanted earlier"
	case results.WaitPace:
		return "the cloud's pace"
	case results.WaitSlot:
		return "a free slot"
	case results.WaitPaused:
		return "the cloud is paused"
	case results.WaitBackoff:
		return "backoff after an attempt"
	case results.WaitAttached:
		return "the volume is attached"
	case results.WaitBusy:
		return "volume or backup is busy"
	case results.WaitHeld:
		return "another restore holds the volume or the backup"
	case results.WaitCloud:
		return "the cloud could not be asked"
	case results.WaitMissing:
		return "it was not found; one more look"
	case results.WaitClock:
		return "it changed a moment ago"
	}
	return string(w)
}

// timeline shows every event, and below the POST's its attempt.
func (t *teller) timeline(s story) {
	if len(s.Events) == 0 {
		return
	}
	t.section("What happened")
	zero, who := s.Events[0].At, ""
	for _, e := range s.Events {
		state := ""
		if e.To != e.From {
			state = string(e.To)
		}
		if e.Actor != who {
			who = e.Actor
			t.line(e.At.Sub(zero), cmp.Or(state, "·"), e.Kind, e.Reason, e.Actor)
		} else {
			t.line(e.At.Sub(zero), cmp.Or(state, "·"), e.Kind, e.Reason, "")
		}
		if e.To == results.Posting && e.From != results.Posting {
			t.attempt(s, e.Attempt)
		}
	}
}

func (t *teller) line(after time.Duration, state, kind, reason, who string) {
	text := reason
	if text == "" || !strings.Contains(text, kind) && kind != "posting" && kind != "waits" {
		text = strings.TrimSuffix(kind+": "+reason, ": ")
	}
	if t.colours {
		state = painted(fmt.Sprintf("%-10s", state), stateColour(results.State(state)))
	}
	fmt.Fprintf(t, "  %8s  %-10s  %s%s\n", offset(after), state, oneLine(text), prefixed("  — ", who))
}

// offset is the time since the first event.
func offset(d time.Duration) string {
	if d < 10*time.Minute {
		return fmt.Sprintf("+%.1fs", d.Seconds())
	}
	return "+" + age(d)
}

func (t *teller) attempt(s story, n int) {
	for _, a := range s.Attempts {
		if a.Attempt != n {
			continue
		}
		t.detail("before", "volume %s (%s), backup %s (%s)", a.Before.VolumeStatus, cloudTime(a.Before.VolumeUpdated), a.Before.BackupStatus, cloudTime(a.Before.BackupUpdated))
		t.detail("sent", "%s", a.RequestID)
		switch {
		case a.AnsweredAt.IsZero():
			t.detail("answer", "none was stored")
		case a.Answer.Status == 0:
			t.detail("answer", "none after %s: %s; executed: %s", offset(a.AnsweredAt.Sub(a.StartedAt))[1:], a.Answer.Message, a.Answer.Executed)
		default:
			t.detail("answer", "%d%s by %s after %s: %s%s", a.Answer.Status, prefixed(" ", a.Answer.Code), a.Answer.Answerer,
				offset(a.AnsweredAt.Sub(a.StartedAt))[1:], a.Answer.Message, prefixed(" — ", a.Answer.RequestID))
		}
		t.detail("outcome", "%s", cmp.Or(a.Outcome, "not known yet"))
	}
}

func (t *teller) detail(name, format string, args ...any) {
	fmt.Fprintf(t, "  %8s  %-10s  %-8s %s\n", "", "", name, oneLine(fmt.Sprintf(format, args...)))
}

func cloudTime(at time.Time) string {
	if at.IsZero() {
		return "never updated"
	}
	return "updated " + stamp(at)
}

func (t *teller) cloud(s story) {
	v := s.Cloud
	if v == nil {
		return
	}
	t.section("The cloud says now")
	if v.Error != "" {
		t.WriteString("  could not be asked: " + oneLine(v.Error) + "\n")
		return
	}
	t.fact("volume", "%s", volumeInWords(v.Volume, s.last()))
	t.fact("backup", "%s", backupInWords(v.Backup, s.last()))
	for _, m := range v.Messages {
		t.fact("message", "%s  %s%s", stamp(m.CreatedAt), m.Text, prefixed(" — ", m.RequestID))
	}
}

func volumeInWords(v *volumeView, last results.Attempt) string {
	if v == nil {
		return "does not exist"
	}
	text := v.Status + ", " + cloudTime(v.UpdatedAt) + sinceThen(last, v.Status == last.Before.VolumeStatus && v.UpdatedAt.Equal(last.Before.VolumeUpdated))
	if v.SrcBackupID != "" {
		text += ", last restored from " + v.SrcBackupID
	}
	if len(v.Servers) > 0 {
		text += ", attached to server " + strings.Join(v.Servers, ", ")
	}
	return text
}

func backupInWords(b *backupView, last results.Attempt) string {
	if b == nil {
		return "does not exist"
	}
	return b.Status + ", " + cloudTime(b.UpdatedAt) + sinceThen(last, b.Status == last.Before.BackupStatus && b.UpdatedAt.Equal(last.Before.BackupUpdated))
}

// sinceThen says whether something moved since the last POST.
func sinceThen(last results.Attempt, same bool) string {
	switch {
	case last.Attempt == 0:
		return ""
	case same:
		return fmt.Sprintf(", as before attempt %d", last.Attempt)
	}
	return fmt.Sprintf(", moved since attempt %d", last.Attempt)
}
