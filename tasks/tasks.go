// Package tasks is what can be asked of vbsrestore: one [Restore] writes one
// backup onto one volume.
//
// A program that asks for restores fills a [Restore] and gives it to package
// enqueue, which calls [Restore.Normalize] and [Restore.Validate] itself:
//
//	r := tasks.Restore{Cloud: "prod", BackupID: backup, VolumeID: volume}
//	r.Normalize(time.Now())
//	if err := r.Validate(); err != nil { … }
//
// On the queue a request is a JSON message with a version, at most [MaxPayload]
// bytes long. There are two kinds:
//
//	{"v":1,"restore":{…}}                a producer asks; the request is whole
//	{"v":1,"wake":{"id":…,"generation":2}}  vbsrestore itself: the row is in its store
//
// [Decode] reads both and refuses whatever it does not fully understand, because
// a restore overwrites a volume: a misspelt or doubled key must not be guessed at.
//
// The JSON names and the meaning of version 1 are a promise to other programs.
// Values of these types may be read by many goroutines at once; only Normalize
// writes.
package tasks

import "github.com/google/uuid"

// TypeRestore is the task type of every message of this package on the queue.
const TypeRestore = "vbs:restore"

// Version is the newest message version this package writes and understands.
const Version = 1

// MaxPayload is the longest message [Decode] accepts, in bytes. Every valid
// Restore fits.
const MaxPayload = 64 << 10

// Class says how much a restore matters; a lower [Class.Rank] goes first.
type Class string

// The classes, most pressing first.
const (
	// ClassUrgent may use the cloud's last slot and goes before everything else.
	ClassUrgent Class = "urgent"
	// ClassDirect is a single restore somebody asked for; the default.
	ClassDirect Class = "direct"
	// ClassCampaign is a restore that belongs to a campaign.
	ClassCampaign Class = "campaign"
	// ClassDrill is a rehearsal onto a scratch volume; it yields to all others.
	ClassDrill Class = "drill"
)

// Classes lists the classes, most pressing first.
func Classes() []Class { return []Class{ClassUrgent, ClassDirect, ClassCampaign, ClassDrill} }

// Rank is the place of the class in the order of work: urgent 0, direct 1,
// campaign 2, drill 3. An unknown class comes last, at 4.
func (c Class) Rank() int {
	switch c {
	case ClassUrgent:
		return 0
	case ClassDirect:
		return 1
	case ClassCampaign:
		return 2
	case ClassDrill:
		return 3
	}
	return 4
}

// NewID returns a fresh restore ID: a UUIDv7, so IDs of one process sort by the
// time they were made.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// lineNamespace makes our UUIDv5s different from everybody else's. It must never
// change: the IDs of files enqueued earlier depend on it.
var lineNamespace = uuid.MustParse("6b1d1b0e-3f0f-5c0a-9d5e-7c1a2f8f4b57")

// LineID returns the restore ID of one line of a file: a UUIDv5 of file and line.
//
// file identifies the content, not the place: pass a digest of the file's bytes
// (SHA-256 in hex, say), so that enqueuing the same file again, after a crash or
// under another name, yields the same IDs and doubles nothing, while a file with
// one changed line asks for new restores. line counts from 1.
func LineID(file string, line int) string {
	return uuid.NewSHA1(lineNamespace, lineName(file, line)).String()
}

// Queue is the name of the queue on which vbsrestore wakes its own workers for
// cloud. Workers empty it before [IntakeQueue].
func Queue(cloud string) string { return cloud }

// IntakeQueue is the name of the queue on which producers ask for restores on
// cloud.
func IntakeQueue(cloud string) string { return cloud + ":in" }
