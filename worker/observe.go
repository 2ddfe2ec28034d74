package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// A sight is one look at volume and backup, volume first.
type sight struct {
	volume vbs.Volume
	backup vbs.Backup
	began  time.Time // store time
	goneV  bool
	goneB  bool

	projectID string
}

const (
	lookAgain     = 30 * time.Second // between two "not found" that count as gone
	recheckAtMost = 10 * time.Minute // an attached or busy volume is looked at at least so often
	clockStep     = 2 * time.Second  // whole-second times hide a second change within one second
	clockTrust    = time.Hour        // without a Date header: our clock and the cloud's differ by less
	suspectSlack  = 2 * time.Minute
)

// observe looks at the cloud before the claim and says whether the POST may go
// out. If not, it has already written why: failed with the fix, or waiting.
func (w *Worker) observe(ctx context.Context, row results.Restore) (sight, bool, error) {
	if row.ProjectID != "" && !strings.EqualFold(row.ProjectID, w.Cloud.ProjectID()) {
		return sight{}, false, w.fail(ctx, row, "project", "it is for project "+row.ProjectID+", but the credentials of cloud "+w.Cloud.Name()+" are of project "+w.Cloud.ProjectID(),
			"send it to the worker of that project, or leave project_id out")
	}
	s, err := w.look(ctx, row, w.Reads.delivery)
	if err != nil {
		return s, false, w.cannotSee(ctx, row, err)
	}
	if s.goneV || s.goneB {
		return s, false, w.missing(ctx, row, s)
	}
	if row.Unproven {
		goesOn, err := w.judgeAgain(ctx, row, s)
		if err != nil || !goesOn {
			return s, false, err
		}
	}
	return w.ready(ctx, row, s)
}

// look reads the volume, then the backup: in this order a restore that begins
// or ends between the two reads is never taken for none.
func (w *Worker) look(ctx context.Context, row results.Restore, pace func(context.Context) error) (s sight, err error) {
	if err := pace(ctx); err != nil {
		return s, err
	}
	s.began, s.projectID = w.Store.Now(), w.Cloud.ProjectID()
	if s.volume, err = w.Cloud.Volume(ctx, row.VolumeID); err != nil && !vbs.IsGone(err) {
		w.noteRead(ctx, err)
		return s, err
	}
	s.goneV = err != nil
	if err := pace(ctx); err != nil {
		return s, err
	}
	s.backup, err = w.Cloud.Backup(ctx, row.BackupID)
	w.noteRead(ctx, err)
	if vbs.IsGone(err) {
		s.goneB, err = true, nil
	}
	return s, err
}

// cannotSee: the cloud gave no picture. No attempt is spent.
func (w *Worker) cannotSee(ctx context.Context, row results.Restore, err error) error {
	if ctx.Err() != nil {
		return nil // shutting down; dispatch sends it again
	}
	r := DecideRead(err)
	m := results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, To: results.Waiting, Kind: "cloud not readable", Actor: w.Name,
		Reason: "could not look before the restore: " + inWords(err), Wait: results.WaitCloud,
		NotBefore: w.Store.Now().Add(Backoff(row.Waits+1, r.Hold)), Effect: results.Effect{Slow: r.Slow, Hold: r.Hold}}
	if r.Act == PauseAll {
		m.Wait, m.Effect.Pause, m.NotBefore = results.WaitPaused, inWords(err)+"; "+r.Advice, time.Time{}
	}
	return w.move(ctx, m)
}

// missing believes that volume or backup does not exist when the cloud said so
// twice, half a minute apart.
func (w *Worker) missing(ctx context.Context, row results.Restore, s sight) error {
	gone, what, since := s.goneV, "volume "+row.VolumeID, row.VolumeGoneAt
	if !gone {
		what, since = "backup "+row.BackupID, row.BackupGoneAt
	}
	now := w.Store.Now()
	if !since.IsZero() && now.Sub(since) >= lookAgain {
		return w.fail(ctx, row, "not_found", what+" does not exist in project "+w.Cloud.ProjectID(), "check the id and the cloud; a deleted volume can be restored to a new one")
	}
	return w.move(ctx, results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, To: results.Waiting, Kind: "not found", Actor: w.Name,
		Reason: what + " was not found; looking once more before giving up", Wait: results.WaitMissing, NotBefore: now.Add(lookAgain),
		Seen: w.sighting(row, s)})
}

// sighting is what a look leaves in the row.
func (w *Worker) sighting(row results.Restore, s sight) *results.Sighting {
	out := &results.Sighting{VolumeName: s.volume.Name, BackupName: s.backup.Name, VolumeGiB: s.volume.SizeGiB, BackupGiB: s.backup.SizeGiB,
		VolumeUpdated: s.volume.Updated, BackupUpdated: s.backup.Updated, At: s.began}
	out.VolumeGoneAt, out.BackupGoneAt = firstGone(s.goneV, row.VolumeGoneAt, s.began), firstGone(s.goneB, row.BackupGoneAt, s.began)
	return out
}

func firstGone(gone bool, since, now time.Time) time.Time {
	switch {
	case !gone:
		return time.Time{}
	case since.IsZero():
		return now
	}
	return since
}

// A hurdle is what keeps a restore from being sent: for good, or for a while.
type hurdle struct {
	wait   results.Wait // "" = for good
	class  string
	reason string
	advice string
	after  time.Duration // of a wait; 0 = backoff
	doubt  bool
}

// ready checks everything that the look can show, and writes what stands in the way.
func (w *Worker) ready(ctx context.Context, row results.Restore, s sight) (sight, bool, error) {
	h, err := w.hurdle(ctx, row, s)
	if err != nil || h == nil {
		return s, err == nil, err
	}
	m := results.Move{ID: row.ID, From: []results.State{row.State}, Attempt: row.Attempt, Actor: w.Name, Reason: h.reason, Advice: h.advice, Seen: w.sighting(row, s)}
	switch {
	case h.doubt:
		m.To, m.Kind, m.FailClass = results.InDoubt, "in doubt", h.class
	case h.wait == "":
		m.To, m.Kind, m.FailClass = results.Failed, "failed", h.class
	default:
		m.To, m.Kind, m.Wait, m.Quiet = results.Waiting, "waits", h.wait, row.State == results.Waiting && row.Wait == h.wait && row.Reason == h.reason
		m.NotBefore = w.Store.Now().Add(h.after)
		if h.after == 0 {
			m.NotBefore = w.Store.Now().Add(Backoff(row.Waits+1, 0))
		}
	}
	return s, false, w.move(ctx, m)
}

func (w *Worker) hurdle(ctx context.Context, row results.Restore, s sight) (*hurdle, error) {
	for _, check := range []func(results.Restore, sight) *hurdle{volumeHurdle, backupHurdle, sizeHurdle} {
		if h := check(row, s); h != nil {
			return h, nil
		}
	}
	if h, err := w.restoredByAnother(ctx, row); h != nil || err != nil {
		return h, err
	}
	if h, err := w.suspect(ctx, row, s); h != nil || err != nil {
		return h, err
	}
	return w.clockHurdle(row, s), nil
}

func volumeHurdle(row results.Restore, s sight) *hurdle {
	v := s.volume
	switch st := v.Status; {
	case len(v.Attachments) > 0 || st == "in-use" || st == "reserved":
		return &hurdle{wait: results.WaitAttached, reason: "volume is " + attachedTo(v), advice: "stop the server and detach the volume; the restore goes on by itself", after: recheckAtMost}
	case st == statusAvailable:
		return nil
	case st == "error_restoring":
		return &hurdle{class: "volume_error", reason: "volume is error_restoring, from an earlier restore; the cloud takes no restore onto it",
			advice: "an administrator resets it (openstack volume set --state available " + v.ID + "), then: vbsrestore restore retry " + row.ID}
	case strings.HasPrefix(st, "error"):
		return &hurdle{class: "volume_error", reason: "volume is " + st, advice: "ask an administrator to mend or reset it, then retry"}
	case st == "deleting" || st == "awaiting-transfer":
		return &hurdle{class: "volume_error", reason: "volume is " + st, advice: "the cloud restores onto available volumes only"}
	}
	return &hurdle{wait: results.WaitBusy, reason: "volume is " + v.Status, after: recheckAtMost}
}

func attachedTo(v vbs.Volume) string {
	if len(v.Attachments) == 0 {
		return v.Status
	}
	return "attached to server " + v.Attachments[0].ServerID + " (" + v.Status + ")"
}

func backupHurdle(_ results.Restore, s sight) *hurdle {
	switch st := s.backup.Status; {
	case st == statusAvailable:
		return nil
	case strings.HasPrefix(st, "error") || st == "deleting":
		return &hurdle{class: "backup_error", reason: "backup is " + st, advice: "choose another backup of volume " + s.backup.VolumeID}
	default:
		return &hurdle{wait: results.WaitBusy, reason: "backup is " + st}
	}
}

func sizeHurdle(_ results.Restore, s sight) *hurdle {
	if s.backup.SizeGiB <= s.volume.SizeGiB {
		return nil
	}
	return &hurdle{class: "too_small", reason: fmt.Sprintf("volume has %d GiB, the backup %d GiB", s.volume.SizeGiB, s.backup.SizeGiB),
		advice: fmt.Sprintf("extend it: openstack volume set --size %d %s, then retry", s.backup.SizeGiB, s.volume.ID)}
}

// restoredByAnother: what another restore has put on the volume since this one
// was asked for is not overwritten by surprise.
func (w *Worker) restoredByAnother(ctx context.Context, row results.Restore) (*hurdle, error) {
	if row.Again {
		return nil, nil
	}
	other, found, err := w.Store.RestoredSince(ctx, row.VolumeID, row.ID, row.AskedAt)
	if err != nil || !found {
		return nil, err
	}
	return &hurdle{class: "already_restored", reason: fmt.Sprintf("the volume was already restored by %s at %s, after this restore was asked for", other.ID, other.FinishedAt.Format(time.RFC3339)),
		advice: "if it is to be overwritten all the same, ask again with again=true"}, nil
}

// suspect: after the store lost commits, a volume that changed since the newest
// commit it still has may have been restored without the store knowing.
func (w *Worker) suspect(ctx context.Context, row results.Restore, s sight) (*hurdle, error) {
	c, err := w.Store.Cloud(ctx, row.Cloud)
	if err != nil || c.SuspectAt.IsZero() || row.AskedAt.After(c.SuspectAt) {
		return nil, err
	}
	if s.volume.Updated.Before(c.SuspectFrom.Add(-suspectSlack)) {
		return nil, nil
	}
	return &hurdle{doubt: true, class: "suspect", reason: "the store lost commits, and the volume changed at " + s.volume.Updated.Format(time.RFC3339) + ": it may have been restored already",
		advice: "look at the volume, then: vbsrestore restore resolve " + row.ID}, nil
}

// clockHurdle: the cloud's times have whole seconds. Two seconds after the last
// change, every later one shows.
func (w *Worker) clockHurdle(row results.Restore, s sight) *hurdle {
	settled := w.secondIsOver(s.volume.Updated, s.volume.CloudTime, row.SeenVolume, row.SeenAt, s.began) &&
		w.secondIsOver(s.backup.Updated, s.backup.CloudTime, row.SeenBackup, row.SeenAt, s.began)
	if settled {
		return nil
	}
	return &hurdle{wait: results.WaitClock, reason: "volume or backup changed within the last two seconds of the cloud's clock", after: clockStep}
}

// secondIsOver compares cloud times with cloud times. A cloud that tells no time
// is asked twice instead, two seconds apart.
func (w *Worker) secondIsOver(updated, cloudTime, seenBefore, seenAt, now time.Time) bool {
	switch {
	case updated.IsZero():
		return true
	case !cloudTime.IsZero():
		return cloudTime.Sub(updated) >= clockStep
	case now.Sub(updated) >= clockTrust:
		return true
	}
	return updated.Equal(seenBefore) && now.Sub(seenAt) >= clockStep
}

// claim is the intent to POST on this sight.
func (s sight) claim(row results.Restore) results.Claim {
	return results.Claim{ID: row.ID, Attempt: row.Attempt, From: []results.State{row.State}, ObservedAt: s.began, Before: s.before(),
		ProjectID: s.projectID, VolumeName: s.volume.Name, BackupName: s.backup.Name, VolumeGiB: s.volume.SizeGiB, BackupGiB: s.backup.SizeGiB}
}

func (s sight) before() results.Before {
	return results.Before{VolumeStatus: s.volume.Status, VolumeUpdated: s.volume.Updated, BackupStatus: s.backup.Status, BackupUpdated: s.backup.Updated,
		BackupSource: s.backup.VolumeID, SrcBackupID: s.volume.Metadata["src_backup_id"], CloudTime: s.cloudTime()}
}

// cloudTime is the cloud's clock at the look; if it tells none, the newest time it showed.
func (s sight) cloudTime() time.Time {
	newest := s.backup.CloudTime
	for _, t := range []time.Time{s.volume.CloudTime, s.volume.Updated, s.backup.Updated} {
		if t.After(newest) {
			newest = t
		}
	}
	return newest
}
