package simulator

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// ForeignRestore is somebody else restoring: the same checks and the same course
// as by a POST, without faults. The error is Cinder's message.
func (c *Cloud) ForeignRestore(volumeID, backupID string) error {
	c.enter()
	defer c.leave()
	if _, _, r := c.checkRestore(backupID, volumeID); r != nil {
		return fmt.Errorf("restore %s to %s: %w", backupID, volumeID, r)
	}
	c.accept(c.newJob(&job{Kind: kindRestore, Execution: Execution{
		VolumeID: volumeID, BackupID: backupID, CloudRequestID: c.newRequestID(), Foreign: true}}))
	c.advance(c.now)
	return nil
}

// backupTime is how long a foreign backup takes.
const backupTime = 2 * time.Second

// ForeignBackup is somebody else taking a backup: the volume is backing-up and the
// backup creating for two seconds, then both are as before and available. It
// returns the backup as it is now.
func (c *Cloud) ForeignBackup(volumeID string) (Backup, error) {
	c.enter()
	defer c.leave()
	v, ok := c.volumes.byID[volumeID]
	if !ok || v.Status != "available" && v.Status != "in-use" {
		return Backup{}, fmt.Errorf("back up %s: volume is not available or in-use", volumeID)
	}
	j := c.newJob(&job{Kind: kindBackup, Back: v.Status})
	b := c.addBackup(Backup{VolumeID: volumeID, Status: "creating", Created: c.now, DataTime: c.now})
	j.VolumeID, j.BackupID = volumeID, b.ID
	c.setVolume(v, "backing-up")
	c.schedule(j, stepFinish, c.now.Add(backupTime))
	return b.Backup, nil
}

func (c *Cloud) finishBackup(j *job) {
	if v, ok := c.volumes.byID[j.VolumeID]; ok && v.Status == "backing-up" {
		c.setVolume(v, j.Back)
	}
	if b, ok := c.backups.byID[j.BackupID]; ok && b.Status == "creating" {
		c.setBackup(b, "available")
	}
	c.end(j)
}

// Rename gives a volume another name, as its owner may at any time.
func (c *Cloud) Rename(volumeID, name string) {
	c.withVolume(volumeID, func(v *volume) { c.changeVolume(v, func() { v.Name = name }) })
}

// ResetVolume writes a status into a volume, as an admin may. A restore that runs
// goes on, and writes its own at its end.
func (c *Cloud) ResetVolume(volumeID, status string) {
	c.withVolume(volumeID, func(v *volume) { c.setVolume(v, status) })
}

// cancelTime is how long a restore takes to notice that it was cancelled.
const cancelTime = time.Second

// ResetBackup writes a status into a backup, as an admin may. During a restore
// that cancels it: a second later the volume is error and the backup available. A
// dead backup service does not notice.
func (c *Cloud) ResetBackup(backupID, status string) {
	c.enter()
	defer c.leave()
	b, ok := c.backups.byID[backupID]
	if !ok {
		return
	}
	c.setBackup(b, status)
	if !c.downSince.IsZero() {
		return // nobody there to notice
	}
	for _, j := range c.open {
		if j.Kind == kindRestore && j.BackupID == backupID && (j.Slot || j.Step == stepWait) && j.FinishedAt.IsZero() {
			c.waiting = slices.DeleteFunc(c.waiting, func(w *job) bool { return w == j })
			j.Fate = "error"
			c.schedule(j, stepFinish, c.now.Add(cancelTime))
		}
	}
}

// Attach attaches a volume to a server: it is in-use.
func (c *Cloud) Attach(volumeID, serverID string) {
	c.withVolume(volumeID, func(v *volume) {
		c.changeVolume(v, func() {
			v.ServerID, v.Status = serverID, "in-use"
			v.AttachmentID, v.AttachedAt = c.newID(), c.now
		})
	})
}

// Detach takes a volume off its server: it is available.
func (c *Cloud) Detach(volumeID string) {
	c.withVolume(volumeID, func(v *volume) {
		c.changeVolume(v, func() { v.ServerID, v.Status = "", "available" })
	})
}

// SetMetadata replaces the user metadata of a volume, as its owner may.
func (c *Cloud) SetMetadata(volumeID string, metadata map[string]string) {
	c.withVolume(volumeID, func(v *volume) { c.changeVolume(v, func() { v.Metadata = maps.Clone(metadata) }) })
}

// DeleteVolume removes a volume at once, also in the middle of a restore: its
// outcome is then "gone".
func (c *Cloud) DeleteVolume(volumeID string) {
	c.enter()
	defer c.leave()
	c.dropVolume(volumeID)
}

// DeleteBackup removes a backup at once.
func (c *Cloud) DeleteBackup(backupID string) {
	c.enter()
	defer c.leave()
	c.dropBackup(backupID)
}

// TouchParent moves the updated_at of a backup and nothing else, as Cinder does
// to the parent when an incremental child is finished.
func (c *Cloud) TouchParent(backupID string) {
	c.enter()
	defer c.leave()
	if b, ok := c.backups.byID[backupID]; ok {
		c.setBackup(b, b.Status)
	}
}

// KillBackupService kills cinder-backup: running restores stay as they are.
// New ones are accepted for another 60 s, Cinder's service_down_time, and stay
// too; then they are refused with 404 "Service cinder-backup could not be found.".
func (c *Cloud) KillBackupService() {
	c.enter()
	defer c.leave()
	c.stopService()
}

// StartBackupService starts cinder-backup: every restore it finds becomes
// error_restoring, its backup available. On a service that runs only stuck
// restores end so.
func (c *Cloud) StartBackupService() {
	c.enter()
	defer c.leave()
	c.startService()
}

// ExpireTokens ends all tokens; a new one can be had.
func (c *Cloud) ExpireTokens() {
	c.enter()
	defer c.leave()
	for _, t := range c.tokens {
		t.expires = time.Time{}
	}
}

func (c *Cloud) withVolume(id string, do func(*volume)) {
	c.enter()
	defer c.leave()
	if v, ok := c.volumes.byID[id]; ok {
		do(v)
	}
}
