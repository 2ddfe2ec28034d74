package simulator

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A refusal is why the API does not do something: a status with Cinder's message.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// serviceDownTime is how long Cinder believes in a backup service that has died.
const serviceDownTime = 60 * time.Second

// checkRestore does the checks of a restore in Cinder's order. The backup's state
// comes before anything about the volume.
func (c *Cloud) checkRestore(backupID, volumeID string) (*backup, *volume, *refusal) {
	b, ok := c.backups.byID[backupID]
	switch {
	case !ok:
		return nil, nil, refuse(404, "Backup %s could not be found.", backupID)
	case b.Status != "available":
		return nil, nil, refuse(400, "Invalid backup: Backup status must be available")
	case volumeID == "":
		return b, nil, c.checkService()
	}
	v, ok := c.volumes.byID[volumeID]
	switch {
	case !ok:
		return nil, nil, refuse(404, "Volume %s could not be found.", volumeID)
	case v.Status != "available":
		return nil, nil, refuse(400, "Invalid volume: Volume to be restored to must be available")
	case b.SizeGiB > v.SizeGiB:
		return nil, nil, refuse(400, "Invalid volume: volume size %d is too small to restore backup of size %d.", v.SizeGiB, b.SizeGiB)
	}
	return b, v, c.checkService()
}

func (c *Cloud) checkService() *refusal {
	if !c.downSince.IsZero() && c.now.Sub(c.downSince) > serviceDownTime {
		return refuse(404, "Service cinder-backup could not be found.")
	}
	return nil
}

// accept makes a restore whose checks have passed an execution.
func (c *Cloud) accept(j *job) {
	j.AcceptedAt, j.Outcome, j.Ran = c.now, "running", true
	setDefault(&j.Fate, "available")
	c.executions = append(c.executions, j)
	c.cfg.Log.Debug().Str("backup", j.BackupID).Str("volume", j.VolumeID).Msg("restore accepted")
	c.schedule(j, stepBackup, c.now.Add(j.Plan.Window))
}

// runRestore does the next step of a restore.
func (c *Cloud) runRestore(j *job) {
	switch j.Step {
	case stepCheck:
		if _, _, r := c.checkRestore(j.BackupID, j.VolumeID); r != nil {
			c.end(j)
			return
		}
		c.accept(j)
	case stepBackup:
		if b, ok := c.backups.byID[j.BackupID]; ok {
			c.setBackup(b, "restoring")
		}
		c.schedule(j, stepVolume, c.now.Add(j.Plan.Pause))
	case stepVolume:
		if v, ok := c.volumes.byID[j.VolumeID]; ok && v.Status != "creating" {
			c.setVolume(v, "restoring-backup")
		}
		c.schedule(j, stepCast, c.now.Add(j.Plan.Hang))
	case stepCast:
		c.waiting = append(c.waiting, j)
		c.park(j, stepWait)
		c.fillSlots()
	case stepFinish:
		c.finishVolume(j)
	case stepRelease:
		c.release(j)
	}
}

// fillSlots starts waiting restores, first come first served.
func (c *Cloud) fillSlots() {
	for len(c.waiting) > 0 && c.downSince.IsZero() && (c.cfg.Capacity < 0 || c.working < c.cfg.Capacity) {
		j := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.start(j)
	}
}

// start is the backup service taking up a restore. It looks at the statuses once
// more, and gives up when they are not what the API has written.
func (c *Cloud) start(j *job) {
	v, b := c.volumes.byID[j.VolumeID], c.backups.byID[j.BackupID]
	switch {
	case b == nil || b.Status != "restoring":
		c.setOutcome(j, v, "error")
		if b != nil && b.Status != "available" {
			c.changeBackup(b, func() {
				b.FailReason = fmt.Sprintf("Restore backup aborted, expected backup status restoring but got %s.", b.Status)
				b.Status = "error"
			})
		}
		c.end(j)
		return
	case v == nil || v.Status != "restoring-backup" && v.Status != "creating":
		c.setOutcome(j, v, "error_restoring")
		c.tell(j, "VOLUME", j.VolumeID, "027", "Volume status is invalid.")
		c.setBackup(b, "available")
		c.end(j)
		return
	}
	c.working++
	j.Slot = true
	if j.Fate == fateStuck {
		c.park(j, stepStuck)
		return
	}
	took := time.Duration(float64(b.SizeGiB) / c.cfg.GiBPerSecond * float64(time.Second))
	c.schedule(j, stepFinish, c.now.Add(max(took, c.cfg.MinDuration)))
}

// finishVolume writes the volume at the end of a restore; the backup follows.
func (c *Cloud) finishVolume(j *job) {
	v, b := c.volumes.byID[j.VolumeID], c.backups.byID[j.BackupID]
	if v != nil && j.Fate == "available" && b != nil {
		c.putBack(v, b)
	}
	if j.Fate == "error_restoring" {
		c.tell(j, "VOLUME_BACKUP", j.BackupID, "026", "Backup driver failed to restore backup.")
	}
	c.setOutcome(j, v, j.Fate)
	c.schedule(j, stepRelease, c.now.Add(c.cfg.BackupLag))
}

// putBack gives a volume what the backup knows besides the data: its user
// metadata, and the name if the restore made the volume. Cinder notes the backup
// in src_backup_id when it was taken from another volume, or when such a note is
// there already.
func (c *Cloud) putBack(v *volume, b *backup) {
	noted := v.Metadata["src_backup_id"] != ""
	meta := maps.Clone(b.VolumeMeta)
	if meta == nil {
		meta = map[string]string{}
	}
	delete(meta, "src_backup_id")
	if !c.cfg.Pike && (noted || v.ID != b.VolumeID) {
		meta["src_backup_id"] = b.ID
	}
	c.changeVolume(v, func() {
		v.Metadata = meta
		if v.Name == "restore_backup_"+b.ID && b.VolumeName != "" {
			v.Name, v.Description = b.VolumeName, ""
		}
	})
}

// setOutcome writes the volume's last status, if it is still there, and the truth.
func (c *Cloud) setOutcome(j *job, v *volume, status string) {
	j.Outcome, j.FinishedAt = "gone", c.now
	if v != nil {
		if status == "error_restoring" && v.Status == "creating" {
			status = "error"
		}
		c.setVolume(v, status)
		j.Outcome = status
	}
	c.dirtyJob(j)
	c.cfg.Log.Debug().Str("backup", j.BackupID).Str("volume", j.VolumeID).Str("outcome", j.Outcome).Msg("restore finished")
}

// release ends a restore: the backup is free, and so is the slot.
func (c *Cloud) release(j *job) {
	if b, ok := c.backups.byID[j.BackupID]; ok {
		c.setBackup(b, "available")
	}
	c.freeSlot(j)
	c.end(j)
	c.fillSlots()
}

func (c *Cloud) freeSlot(j *job) {
	if j.Slot {
		j.Slot = false
		c.working--
	}
}

// stopService is cinder-backup killed: what it worked on stays as it is.
func (c *Cloud) stopService() {
	if !c.downSince.IsZero() {
		return
	}
	c.downSince = c.now
	for _, j := range c.open {
		if j.Kind == kindRestore && j.Slot {
			c.freeSlot(j)
			c.park(j, stepStuck)
		}
	}
	c.dirtyService()
}

// startService is cinder-backup started: it gives up what its predecessor left,
// and what was handed over while nobody was there. On a running service it ends
// what is stuck, and the others go on.
func (c *Cloud) startService() {
	wasDown := !c.downSince.IsZero()
	c.downSince = time.Time{}
	if wasDown {
		c.waiting = nil
	}
	for _, j := range slices.Clone(c.open) {
		if j.Kind == kindRestore && (j.Step == stepStuck || wasDown && j.Step == stepWait) {
			c.giveUp(j)
		}
	}
	c.dirtyService()
	c.fillSlots()
}

// giveUp is what a starting backup service does with a restore it finds.
func (c *Cloud) giveUp(j *job) {
	if j.FinishedAt.IsZero() {
		c.setOutcome(j, c.volumes.byID[j.VolumeID], "error_restoring")
	}
	if b, ok := c.backups.byID[j.BackupID]; ok && b.Status == "restoring" {
		c.setBackup(b, "available")
	}
	c.freeSlot(j)
	c.end(j)
}
