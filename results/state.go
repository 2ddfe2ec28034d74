package results

import "slices"

// A State is how far a restore has got. What may follow what is in [Arrows];
// nothing else in the program decides it.
type State string

const (
	Waiting   State = "waiting"   // recorded; not_before and a reason say what it waits for
	Queued    State = "queued"    // released by dispatch; sent again after 15 s if the queue lost it
	Preparing State = "preparing" // the target volume is being created
	Posting   State = "posting"   // intent committed; the POST may be on the wire. A worker that dies leaves it here for the watcher
	Restoring State = "restoring" // the cloud accepted it and works; watched until the volume is done
	Verifying State = "verifying" // a check runs
	Succeeded State = "succeeded" // final; the cloud says so, Proof says how well
	Failed    State = "failed"    // final; reason, class and advice say why
	Cancelled State = "cancelled" // final; a person or a duplicate ended it before anything was sent
	InDoubt   State = "in_doubt"  // cannot be proven either way; waits for evidence or a person
)

// States lists every state in the order of a restore's life.
var States = []State{Waiting, Queued, Preparing, Posting, Restoring, Verifying, InDoubt, Succeeded, Failed, Cancelled}

// arrows is the whole state machine. An arrow that only a person may take is in byPerson.
var arrows = map[State][]State{
	Waiting:   {Queued, Posting, Preparing, Failed, Cancelled, Restoring, InDoubt},
	Queued:    {Posting, Preparing, Waiting, Failed, Cancelled, Restoring, InDoubt},
	Preparing: {Waiting, Failed, InDoubt},
	Posting:   {Restoring, Verifying, Succeeded, Waiting, Failed, InDoubt},
	Restoring: {Verifying, Succeeded, Failed, InDoubt},
	Verifying: {Succeeded, Failed},
	InDoubt:   {Restoring, Verifying, Succeeded, Failed},
}

// byPerson holds the arrows that need a person's decision.
var byPerson = map[State][]State{
	Failed:    {Waiting},
	Cancelled: {Waiting},
	InDoubt:   {Waiting},
}

// Arrows returns what may follow from without a person, and what a person may add.
func Arrows(from State) (always, person []State) {
	return slices.Clone(arrows[from]), slices.Clone(byPerson[from])
}

// Final reports whether nothing but a person's retry moves the restore any more.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Valid reports whether s is one of States.
func (s State) Valid() bool { return slices.Contains(States, s) }

func mayMove(from, to State, person bool) bool {
	return slices.Contains(arrows[from], to) || person && slices.Contains(byPerson[from], to)
}

// A Proof says how well a success is known.
type Proof string

const (
	ProofNone   Proof = ""       // not succeeded
	ProofStatus Proof = "status" // volume and backup moved to available together, as Cinder does
	ProofWeak   Proof = "weak"   // both look restored, but not all of the evidence was seen
	ProofHook   Proof = "hook"   // a check of the content ran
	ProofPerson Proof = "person" // a person looked and said so
)

// A Wait is one word for what a waiting restore waits for.
type Wait string

const (
	WaitTurn     Wait = "turn"     // nothing: it is due and waits to be released
	WaitTime     Wait = "time"     // its own not_before
	WaitPace     Wait = "pace"     // the cloud's POST rate
	WaitSlot     Wait = "slot"     // a free slot under the cloud's cap
	WaitPaused   Wait = "paused"   // the cloud is paused
	WaitBackoff  Wait = "backoff"  // an attempt did not execute; exponential backoff
	WaitAttached Wait = "attached" // the volume is attached to a server
	WaitBusy     Wait = "busy"     // volume or backup is in use by another operation
	WaitHeld     Wait = "held"     // another restore of this store is at work on the volume or reads the backup
	WaitCloud    Wait = "cloud"    // the cloud could not be asked, or was not ready
	WaitMissing  Wait = "missing"  // volume or backup was not found once; looked for again before giving up
	WaitClock    Wait = "clock"    // it changed within the cloud's last two seconds; whole-second times cannot show a second change
)
