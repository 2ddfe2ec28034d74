package simulator

import (
	"maps"
	"time"
)

// A Volume is a disk of the cloud.
type Volume struct {
	ID, Name string
	// Status is one of Cinder's: available, in-use, restoring-backup,
	// error_restoring, error, creating, backing-up, deleting …
	Status  string
	SizeGiB int
	// Metadata is the user metadata. A restore replaces it.
	Metadata map[string]string
	// ServerID is the server it is attached to; "" if none.
	ServerID string
	// Updated is zero for a volume never updated: null on the wire.
	Created, Updated time.Time
}

// A Backup is a copy of a volume at a moment.
type Backup struct {
	ID, Name string
	// Status is one of Cinder's: available, restoring, creating, error, deleting.
	Status   string
	VolumeID string // where it was taken from; that volume may be gone
	SizeGiB  int
	// Incremental and ParentID: the backup holds the changes since its parent.
	Incremental bool
	ParentID    string
	// DataTime is the moment the data is of.
	DataTime, Created, Updated time.Time
}

// A Pair is a backup and the volume it was taken from.
type Pair struct{ BackupID, VolumeID string }

// An Execution is one restore that the cloud carried out: its checks passed and
// from then on it could not be stopped by its caller.
type Execution struct {
	VolumeID string `json:"volume_id"`
	BackupID string `json:"backup_id"`
	// RequestID is the X-Openstack-Request-Id the caller sent, "" if it sent none
	// of the form req-<uuid>: Cinder drops others.
	RequestID string `json:"request_id"`
	// CloudRequestID is the x-openstack-request-id of the answer, whether or not
	// the answer arrived. Messages carry it.
	CloudRequestID string    `json:"cloud_request_id"`
	AcceptedAt     time.Time `json:"accepted_at"`
	// FinishedAt is when the volume's last status was written; zero while running.
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Outcome is running, or what became of the volume: available,
	// error_restoring, error, or gone when it was deleted meanwhile.
	Outcome string `json:"outcome"`
	// Foreign restores were done by a method of Cloud, not by a request.
	Foreign bool `json:"foreign"`
}

// volume is a Volume with what only the cloud knows of it.
type volume struct {
	Volume
	Description  string
	Type         string
	AttachmentID string
	AttachedAt   time.Time
}

// backup is a Backup with what only the cloud knows of it. VolumeName and
// VolumeMeta are of the source volume when the backup was taken: a restore puts
// the metadata back.
type backup struct {
	Backup
	FailReason string
	VolumeName string
	VolumeMeta map[string]string
}

func (v *volume) key() key { return key{v.Created, v.ID} }
func (b *backup) key() key { return key{b.Created, b.ID} }

func (v *volume) groups() [3]group {
	return [3]group{statusGroup(v.Status), {byName, v.Name}}
}

func (b *backup) groups() [3]group {
	return [3]group{statusGroup(b.Status), {byName, b.Name}, {byVolume, b.VolumeID}}
}

func (v *volume) public() Volume {
	out := v.Volume
	out.Metadata = maps.Clone(v.Metadata)
	return out
}

// AddVolume puts a volume into the cloud and returns it. Empty fields are filled:
// a fresh ID, a name from it, status available (in-use with a ServerID), 1 GiB,
// created an hour ago. An ID that exists is replaced.
func (c *Cloud) AddVolume(v Volume) Volume {
	c.enter()
	defer c.leave()
	return c.addVolume(v).public()
}

// AddBackup puts a backup into the cloud and returns it. Empty fields are filled:
// a fresh ID, a name from it, status available, the size of its volume (or 1 GiB),
// created half an hour ago, data of that time. An ID that exists is replaced.
func (c *Cloud) AddBackup(b Backup) Backup {
	c.enter()
	defer c.leave()
	return c.addBackup(b).Backup
}

func (c *Cloud) addVolume(v Volume) *volume {
	setDefault(&v.ID, c.newID())
	setDefault(&v.Name, "volume-"+v.ID[:min(8, len(v.ID))])
	setDefault(&v.SizeGiB, 1)
	setDefault(&v.Created, c.now.Add(-time.Hour))
	v.Created, v.Updated = wall(v.Created), wall(v.Updated)
	v.Metadata = maps.Clone(v.Metadata)
	row := &volume{Volume: v, Type: "__DEFAULT__"}
	if v.ServerID != "" {
		setDefault(&row.Status, "in-use")
		row.AttachmentID, row.AttachedAt = c.newID(), c.now
	}
	setDefault(&row.Status, "available")
	c.volumes.put(row)
	c.dirtyVolume(row)
	return row
}

func (c *Cloud) addBackup(b Backup) *backup {
	row := &backup{}
	if v, ok := c.volumes.byID[b.VolumeID]; ok {
		setDefault(&b.SizeGiB, v.SizeGiB)
		row.VolumeName, row.VolumeMeta = v.Name, maps.Clone(v.Metadata)
	}
	setDefault(&b.ID, c.newID())
	setDefault(&b.Name, "backup-"+b.ID[:min(8, len(b.ID))])
	setDefault(&b.Status, "available")
	setDefault(&b.SizeGiB, 1)
	setDefault(&b.Created, c.now.Add(-30*time.Minute))
	setDefault(&b.DataTime, b.Created)
	b.Created, b.Updated, b.DataTime = wall(b.Created), wall(b.Updated), wall(b.DataTime)
	b.Incremental = b.Incremental || b.ParentID != ""
	row.Backup = b
	c.backups.put(row)
	c.dirtyBackup(row)
	return row
}

// wall drops the monotonic reading, and keeps zero zero.
func wall(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Round(0).UTC()
}

// Volumes gives all volumes, oldest first.
func (c *Cloud) Volumes() []Volume {
	c.enter()
	defer c.leave()
	out := make([]Volume, 0, len(c.volumes.all))
	for _, v := range c.volumes.all {
		out = append(out, v.public())
	}
	return out
}

// Backups gives all backups, oldest first.
func (c *Cloud) Backups() []Backup {
	c.enter()
	defer c.leave()
	out := make([]Backup, 0, len(c.backups.all))
	for _, b := range c.backups.all {
		out = append(out, b.Backup)
	}
	return out
}

// Pairs gives every volume that has an available backup, with the newest of them,
// oldest volume first.
func (c *Cloud) Pairs() []Pair {
	c.enter()
	defer c.leave()
	newest := map[string]string{}
	for _, b := range c.backups.all {
		if b.Status == "available" {
			newest[b.VolumeID] = b.ID
		}
	}
	var out []Pair
	for _, v := range c.volumes.all {
		if id, ok := newest[v.ID]; ok {
			out = append(out, Pair{BackupID: id, VolumeID: v.ID})
		}
	}
	return out
}

// Executions gives every restore that was carried out, in the order in which they
// were accepted.
func (c *Cloud) Executions() []Execution {
	c.enter()
	defer c.leave()
	out := make([]Execution, 0, len(c.executions))
	for _, j := range c.executions {
		out = append(out, j.Execution)
	}
	return out
}

// Calls counts the requests so far by "METHOD kind": POST restore, GET volume,
// GET volumes, GET backup, GET backups, GET messages, POST token … Faulty answers
// count as well.
func (c *Cloud) Calls() map[string]int {
	c.enter()
	defer c.leave()
	return maps.Clone(c.calls)
}
