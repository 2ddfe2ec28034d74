package simulator

import (
	"slices"
	"strings"
	"time"
)

type backupJSON struct {
	ID                  string  `json:"id"`
	Status              string  `json:"status"`
	Size                int     `json:"size"`
	ObjectCount         int     `json:"object_count"`
	AvailabilityZone    *string `json:"availability_zone"`
	Container           string  `json:"container"`
	CreatedAt           string  `json:"created_at"`
	UpdatedAt           *string `json:"updated_at"`
	Name                string  `json:"name"`
	Description         *string `json:"description"`
	FailReason          *string `json:"fail_reason"`
	VolumeID            string  `json:"volume_id"`
	Links               []link  `json:"links"`
	IsIncremental       bool    `json:"is_incremental"`
	HasDependentBackups bool    `json:"has_dependent_backups"`
	SnapshotID          *string `json:"snapshot_id"`
	DataTimestamp       string  `json:"data_timestamp"`
}

type summaryJSON struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Links []link `json:"links"`
}

func (c *Cloud) backupJSON(q *request, b *backup) any {
	out := backupJSON{
		ID: b.ID, Status: b.Status, Size: b.SizeGiB, ObjectCount: 16 * b.SizeGiB, Container: "volumebackups",
		CreatedAt: c.stamp(b.Created), UpdatedAt: c.stampOrNull(b.Updated), Name: b.Name,
		FailReason: orNull(b.FailReason), VolumeID: b.VolumeID, Links: q.links("backups", b.ID),
		IsIncremental: b.Incremental, HasDependentBackups: c.hasDependents(b), DataTimestamp: c.stamp(b.DataTime),
	}
	if q.minor < 43 {
		return out
	}
	return struct {
		backupJSON
		Metadata map[string]string `json:"metadata"`
	}{out, map[string]string{}}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (c *Cloud) hasDependents(b *backup) bool {
	return slices.ContainsFunc(c.backups.groups[group{byVolume, b.VolumeID}], func(o *backup) bool { return o.ParentID == b.ID })
}

func (c *Cloud) showBackup(q *request) answer {
	b, ok := c.backups.byID[q.target]
	if !ok {
		return q.refused(refuse(404, "Backup %s could not be found.", q.target))
	}
	return q.ok(200, map[string]any{"backup": c.backupJSON(q, b)})
}

func (c *Cloud) listBackups(q *request) answer {
	p, bad := parsePage(q.query)
	if bad != nil {
		return q.refused(bad)
	}
	if _, ok := c.backups.byID[p.marker]; p.marker != "" && !ok {
		return q.refused(refuse(404, "Backup %s could not be found.", p.marker))
	}
	status, name, volumeID := q.query.Get("status"), q.query.Get("name"), q.query.Get("volume_id")
	from := c.backups.candidates(filter(byStatus, status), filter(byName, name), filter(byVolume, volumeID))
	found, bad := pick(from, c.backups.byID[p.marker], p, func(b *backup) bool {
		return (status == "" || b.Status == status) && (name == "" || b.Name == name) && (volumeID == "" || b.VolumeID == volumeID)
	}, backupsBy(p.by))
	if bad != nil {
		return q.refused(bad)
	}
	out := make([]any, 0, len(found))
	for _, b := range found {
		if q.detail() {
			out = append(out, c.backupJSON(q, b))
		} else {
			out = append(out, summaryJSON{b.ID, b.Name, q.links("backups", b.ID)})
		}
	}
	return q.page("backups", out, p, func() string { return found[len(found)-1].ID })
}

// backupsBy gives the order of a sort key, nil for an unknown one.
func backupsBy(sortKey string) func(a, b *backup) int {
	switch sortKey {
	case "created_at":
		return func(a, b *backup) int { return a.Created.Compare(b.Created) }
	case "updated_at":
		return func(a, b *backup) int { return a.Updated.Compare(b.Updated) }
	case "id":
		return func(a, b *backup) int { return strings.Compare(a.ID, b.ID) }
	case "name":
		return func(a, b *backup) int { return strings.Compare(a.Name, b.Name) }
	case "status":
		return func(a, b *backup) int { return strings.Compare(a.Status, b.Status) }
	case "size":
		return func(a, b *backup) int { return a.SizeGiB - b.SizeGiB }
	}
	return nil
}

// deleteTime is how long a deletion takes.
const deleteTime = time.Second

func (c *Cloud) deleteBackup(q *request) answer {
	b, ok := c.backups.byID[q.target]
	switch {
	case !ok:
		return q.refused(refuse(404, "Backup %s could not be found.", q.target))
	case b.Status != "available" && b.Status != "error":
		return q.fault(400, "Invalid backup: Backup status must be available or error")
	case c.hasDependents(b):
		return q.fault(400, "Invalid backup: Incremental backups exist for this backup.")
	}
	c.setBackup(b, "deleting")
	c.schedule(c.newJob(&job{Kind: kindDelete, Execution: Execution{BackupID: b.ID}}), stepFinish, c.now.Add(deleteTime))
	return q.ok(202, nil)
}

func (c *Cloud) actOnBackup(q *request) answer {
	if _, ok := c.backups.byID[q.target]; !ok {
		return q.refused(refuse(404, "Backup %s could not be found.", q.target))
	}
	return q.act("volume_extension:backup_admin_actions:reset_status")
}

// act answers actions: the one that is known is for admins, and the token never is
// an admin's.
func (q *request) act(policy string) answer {
	names := objectKeys(q.body)
	switch {
	case !q.hasBody():
		return q.fault(400, "There is no such action: None")
	case slices.Contains(names, "os-reset_status"):
		return q.refused(refuse(403, "Policy doesn't allow %s to be performed.", policy))
	}
	return q.refused(refuse(400, "There is no such action: %s", names))
}

// restore answers POST backups/{id}/restore.
func (c *Cloud) restore(q *request) answer {
	want, bad := parseRestore(q)
	if bad != nil {
		return q.refused(bad)
	}
	b, v, bad := c.checkRestore(q.target, want.VolumeID)
	if bad != nil {
		return q.refused(bad)
	}
	a := answer{}
	if v == nil {
		v = c.makeVolume(b, want.Name)
		a.delay = time.Second // Cinder looks once a second whether the volume is there
	}
	a.delay += q.plan.Window
	c.begin(q, v.ID, b.ID)
	a.status, a.header = 202, q.cinderHeader()
	a.body = marshal(map[string]restoreJSON{"restore": {b.ID, v.ID, v.Name}})
	return a
}

type restoreJSON struct {
	BackupID   string `json:"backup_id"`
	VolumeID   string `json:"volume_id"`
	VolumeName string `json:"volume_name"`
}

// makeVolume is what a restore without volume_id does first.
func (c *Cloud) makeVolume(b *backup, name string) *volume {
	v := c.addVolume(Volume{Name: name, SizeGiB: b.SizeGiB, Created: c.now, Updated: c.now})
	c.changeVolume(v, func() {
		if name == "" {
			v.Name = "restore_backup_" + b.ID
		}
		v.Description = "auto-created_from_restore_from_backup"
	})
	return v
}

// begin opens the restore of a request, now or later as the plan says.
func (c *Cloud) begin(q *request, volumeID, backupID string) {
	j := c.newJob(&job{Kind: kindRestore, Plan: q.plan, Fate: q.plan.Fate, Execution: Execution{
		VolumeID: volumeID, BackupID: backupID, RequestID: q.globalID(), CloudRequestID: q.id}})
	if late := q.plan.Queue + q.plan.Unseen; late > 0 {
		c.schedule(j, stepCheck, c.now.Add(late))
		return
	}
	c.accept(j)
}
