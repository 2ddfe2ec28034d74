package worker

import "time"

// A Gone says how surely volume or backup does not exist any more: the cloud
// said "itemNotFound" so many times, at least 30 s apart.
type Gone int

const (
	Present  Gone = iota // it is there
	GoneOnce             // not found, but only once: look again
	GoneSure             // not found twice
)

// A Look is what one look at a volume or a backup showed, compared with the
// state before the POST.
type Look struct {
	Status string // as the cloud says; "" when gone
	Moved  bool   // status or updated_at differ from before the POST
	Gone   Gone
}

// A Finding is the answer to a question that costs another read.
type Finding int

const (
	Unread Finding = iota // not asked yet
	Clean                 // asked: nothing speaks against us
	Found                 // asked: something does
)

// Evidence is all that Judge may know about one attempt.
type Evidence struct {
	Accepted bool // our own 202, or the restore was once seen running
	Seen     bool // it was once seen running
	Volume   Look
	Backup   Look

	LateEnough   bool // "not executed" may be concluded: nothing of the POST can still be on its way
	CinderEnded  bool // Cinder itself answered the POST with a fault: its thread has ended
	Settled      bool // settle has passed since the answer, or since post_deadline without one
	PastDeadline bool // past watch_deadline
	PastTwice    bool // past twice of it

	Lag       time.Duration // backup's updated_at minus the volume's
	VolumeAge time.Duration // the cloud's clock minus the volume's updated_at

	Messages Finding // Found: the cloud's messages say that our restore failed
	Siblings Finding // Found: another restore onto the volume, or another backup of its source, moved meanwhile
}

// A Verdict is what the evidence says.
type Verdict string

const (
	Running      Verdict = "running"       // it is at work
	KeepWatching Verdict = "keep watching" // nothing to conclude yet
	Adopt        Verdict = "adopt"         // no 202 came, but it runs: ours
	Restored     Verdict = "restored"      // done, volume and backup agree
	RestoredWeak Verdict = "restored weak" // done, but not all of the evidence was seen
	Broken       Verdict = "failed"        // the cloud says it failed
	Vanished     Verdict = "deleted"       // the volume was deleted meanwhile
	NotExecuted  Verdict = "not executed"  // the POST had no effect
	Doubtful     Verdict = "in doubt"      // cannot be proven either way
	AskMessages  Verdict = "ask messages"  // read the cloud's messages, then judge again
	AskSiblings  Verdict = "ask siblings"  // read the other backups of the source volume, then judge again
)

const (
	statusAvailable = "available"
	statusRestoring = "restoring"        // of a backup
	statusRestore   = "restoring-backup" // of a volume

	// Cinder writes the volume, then the backup, at the end of a restore; up to
	// a second apart as observed, a minute apart when its services struggle.
	endWindow = time.Minute
	// Two writes so close to each other are one end, even of a restore that nobody saw running.
	endTogether = 2 * time.Second
)

// Judge says what one look at the cloud proves about an attempt. It is pure:
// the same evidence always gives the same verdict.
func Judge(e Evidence) Verdict {
	v := judgeUnknown
	if e.Accepted {
		v = judgeAccepted
	}
	return v(e).within(e)
}

// within turns a verdict that leaves things open into a doubt when the time for
// leaving things open is over.
func (v Verdict) within(e Evidence) Verdict {
	if e.PastTwice && (v == Running || v == KeepWatching || v == Adopt) {
		return Doubtful
	}
	return v
}

// judgeAccepted: the cloud has the restore. Only its end is open.
func judgeAccepted(e Evidence) Verdict {
	v, b := e.Volume, e.Backup
	switch {
	case v.Status == statusRestore:
		return Running
	case v.Gone == GoneSure, v.Status == "deleting" && v.Moved:
		return Vanished
	case v.Gone == GoneOnce, !v.Moved:
		return KeepWatching
	case failedStatus(v.Status):
		return Broken
	case b.Gone == GoneOnce, b.Gone == Present && !b.Moved:
		return KeepWatching
	case b.Status == statusRestoring:
		return backupLate(e)
	}
	return judgeEnd(e)
}

// backupLate: the volume is written, the backup still says restoring. For a
// minute that is the order in which Cinder ends a restore.
func backupLate(e Evidence) Verdict {
	if e.VolumeAge <= endWindow {
		return KeepWatching
	}
	return Doubtful
}

// judgeEnd: both moved and are at rest. If nobody saw it running, a front end may
// still hold the POST after its 202, and a rename and a finished child backup
// look like an end: unless both writes came together, it waits until settle has passed.
func judgeEnd(e Evidence) Verdict {
	together := e.Lag >= 0 && e.Lag <= endTogether
	switch {
	case !e.Seen && !e.Settled && !together:
		return KeepWatching
	case e.Messages == Unread:
		return AskMessages
	case e.Messages == Found:
		return Broken
	case e.Backup.Status == statusAvailable && e.Lag >= 0 && e.Lag <= endWindow:
		return Restored
	}
	return RestoredWeak
}

// judgeUnknown: no 202 came and it was never seen running. "Not executed" needs
// evidence that is late enough.
func judgeUnknown(e Evidence) Verdict {
	v, b := e.Volume, e.Backup
	switch {
	case v.Gone == GoneOnce, b.Gone == GoneOnce:
		return KeepWatching
	case v.Gone == GoneSure, v.Status == "deleting" && v.Moved:
		return Vanished
	case v.Status == statusRestore && v.Moved:
		return seenRestoring(e)
	case !v.Moved && b.Status == statusRestoring:
		return betweenTheWrites(e)
	case !v.Moved, b.Gone == Present && !b.Moved:
		return onlyWhenLate(e)
	case failedStatus(v.Status):
		return Broken
	case b.Status == statusRestoring:
		return backupLate(e)
	case b.Status == statusAvailable && b.Gone == Present:
		return judgeUnseenEnd(e)
	}
	return Doubtful
}

// seenRestoring: a restore runs on the volume. It is ours if our backup is in it.
func seenRestoring(e Evidence) Verdict {
	switch {
	case e.Backup.Status == statusRestoring && e.Backup.Moved:
		return Adopt
	case e.Backup.Moved || e.Backup.Gone != Present:
		return KeepWatching
	}
	return onlyWhenLate(e) // somebody else's
}

// betweenTheWrites: Cinder writes the backup first. If the volume never follows,
// somebody else reads our backup onto another volume.
func betweenTheWrites(e Evidence) Verdict {
	switch {
	case e.CinderEnded && e.Settled:
		return NotExecuted
	case e.PastDeadline:
		return Doubtful
	}
	return KeepWatching
}

func onlyWhenLate(e Evidence) Verdict {
	if e.LateEnough {
		return NotExecuted
	}
	return KeepWatching
}

// judgeUnseenEnd: volume and backup both moved and are at rest, and nobody saw a
// restore. It was ours unless something else explains the moves.
func judgeUnseenEnd(e Evidence) Verdict {
	switch e.Siblings {
	case Unread:
		return AskSiblings
	case Found:
		return Doubtful
	}
	if e.Lag < 0 || e.Lag > endWindow { // no restore ends like that: two other changes
		return Doubtful
	}
	return RestoredWeak
}

func failedStatus(s string) bool { return s == "error" || s == "error_restoring" }
