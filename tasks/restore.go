package tasks

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultWindow is how long a single restore stays wanted unless the caller says
// otherwise.
const defaultWindow = 24 * time.Hour

// Restore asks for one backup to be written onto one volume. Everything on the
// volume is overwritten.
//
// Cloud, BackupID and VolumeID are mandatory; [Restore.Normalize] fills the rest.
type Restore struct {
	// ID names the request for ever: asking again with the same ID asks for
	// nothing new. A UUID; default a new UUIDv7.
	ID string `json:"id"`
	// Cloud is the name of the entry in clouds.yaml: a letter or digit, then up to
	// 62 letters, digits, dots, underscores or hyphens.
	Cloud string `json:"cloud"`
	// ProjectID, when given, must be the project of the worker's token, else the
	// restore is refused: 32 hex digits or a UUID. Default: not checked.
	ProjectID string `json:"project_id,omitempty"`
	// BackupID is the UUID of the backup to read.
	BackupID string `json:"backup_id"`
	// VolumeID is the UUID of the volume to overwrite.
	VolumeID string `json:"volume_id"`
	// Class orders the work. Default ClassDirect.
	Class Class `json:"class"`
	// AskedAt is when the restore was asked for. A volume that another restore has
	// written since then is left alone, unless Again is set. Default: now.
	AskedAt time.Time `json:"asked_at,omitzero"`
	// NotBefore is the earliest time the restore may start. Default: none.
	NotBefore time.Time `json:"not_before,omitzero"`
	// NotAfter is the time from which the restore is no longer started, because
	// late destructive work is worse than none. Default: for urgent and direct
	// restores 24 h after AskedAt or NotBefore, whichever is later; else none.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Again asks for the restore even if the volume has been restored since AskedAt.
	Again bool `json:"again,omitempty"`
	// Labels are the caller's own: at most 32, keys of 1 to 63 characters out of
	// a-z, 0-9, ".", "_", "/" and "-", values of at most 255 printable bytes.
	Labels map[string]string `json:"labels,omitempty"`
	// Actor is who asked, for the record: at most 128 printable bytes.
	Actor string `json:"actor,omitempty"`
	// Trace carries the W3C trace context under the keys traceparent and
	// tracestate. It travels in the task's headers, not in the message; other keys
	// are ignored.
	Trace map[string]string `json:"-"`
}

// Normalize fills the defaults, lower-cases the UUIDs and brings times to UTC
// and whole microseconds, which is what the store keeps. now is the default of
// AskedAt. Normalizing twice changes nothing.
func (r *Restore) Normalize(now time.Time) {
	if r.ID == "" {
		r.ID = NewID()
	}
	for _, id := range []*string{&r.ID, &r.ProjectID, &r.BackupID, &r.VolumeID} {
		*id = strings.ToLower(*id)
	}
	if r.Class == "" {
		r.Class = ClassDirect
	}
	if r.AskedAt.IsZero() {
		r.AskedAt = now
	}
	if r.NotAfter.IsZero() && r.Class.Rank() <= ClassDirect.Rank() {
		r.NotAfter = later(r.AskedAt, r.NotBefore).Add(defaultWindow)
	}
	r.roundTimes()
}

func (r *Restore) roundTimes() {
	for _, t := range []*time.Time{&r.AskedAt, &r.NotBefore, &r.NotAfter} {
		*t = t.UTC().Truncate(time.Microsecond)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Hash is the SHA-256, in hex, of what the restore would do: cloud, project,
// backup, volume, class, again and labels. Two requests with one ID and different
// hashes contradict each other. ID, times, actor and trace are not part of it.
// Its value for a given restore never changes between releases.
func (r Restore) Hash() string {
	h := sha256.New()
	for _, s := range []string{r.Cloud, r.ProjectID, r.BackupID, r.VolumeID, string(r.Class), strconv.FormatBool(r.Again)} {
		hashString(h, s)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		hashString(h, k)
		hashString(h, r.Labels[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashString writes s behind its length, so that no two lists of strings look
// alike.
func hashString(h hash.Hash, s string) { io.WriteString(h, strconv.Itoa(len(s))+":"+s) }

func lineName(file string, line int) []byte {
	return []byte(file + "\n" + strconv.Itoa(line))
}
