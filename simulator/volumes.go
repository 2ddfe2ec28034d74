package simulator

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

type volumeJSON struct {
	ID                 string            `json:"id"`
	Status             string            `json:"status"`
	Size               int               `json:"size"`
	AvailabilityZone   string            `json:"availability_zone"`
	CreatedAt          string            `json:"created_at"`
	UpdatedAt          *string           `json:"updated_at"`
	Name               string            `json:"name"`
	Description        *string           `json:"description"`
	VolumeType         string            `json:"volume_type"`
	SnapshotID         *string           `json:"snapshot_id"`
	SourceVolID        *string           `json:"source_volid"`
	Metadata           map[string]string `json:"metadata"`
	Links              []link            `json:"links"`
	UserID             string            `json:"user_id"`
	Bootable           string            `json:"bootable"`
	Encrypted          bool              `json:"encrypted"`
	ReplicationStatus  *string           `json:"replication_status"`
	ConsistencyGroupID *string           `json:"consistencygroup_id"`
	Multiattach        bool              `json:"multiattach"`
	Attachments        []attachmentJSON  `json:"attachments"`
	TenantID           string            `json:"os-vol-tenant-attr:tenant_id"`
}

type attachmentJSON struct {
	ID           string  `json:"id"`
	AttachmentID string  `json:"attachment_id"`
	VolumeID     string  `json:"volume_id"`
	ServerID     string  `json:"server_id"`
	HostName     *string `json:"host_name"`
	Device       string  `json:"device"`
	AttachedAt   string  `json:"attached_at"`
}

func (c *Cloud) volumeJSON(q *request, v *volume) volumeJSON {
	out := volumeJSON{
		ID: v.ID, Status: v.Status, Size: v.SizeGiB, AvailabilityZone: "nova",
		CreatedAt: c.stamp(v.Created), UpdatedAt: c.stampOrNull(v.Updated), Name: v.Name,
		Description: orNull(v.Description), VolumeType: v.Type, Metadata: v.Metadata, Links: q.links("volumes", v.ID),
		UserID: userID, Bootable: "false", Attachments: []attachmentJSON{}, TenantID: c.cfg.ProjectID,
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	if v.ServerID != "" {
		out.Attachments = append(out.Attachments, attachmentJSON{ID: v.ID, AttachmentID: v.AttachmentID,
			VolumeID: v.ID, ServerID: v.ServerID, Device: "/dev/vdb", AttachedAt: c.stamp(v.AttachedAt)})
	}
	return out
}

func (c *Cloud) showVolume(q *request) answer {
	v, ok := c.volumes.byID[q.target]
	if !ok {
		return q.refused(refuse(404, "Volume %s could not be found.", q.target))
	}
	return q.ok(200, map[string]volumeJSON{"volume": c.volumeJSON(q, v)})
}

func (c *Cloud) listVolumes(q *request) answer {
	p, bad := parsePage(q.query)
	if bad != nil {
		return q.refused(bad)
	}
	if _, ok := c.volumes.byID[p.marker]; p.marker != "" && !ok {
		return q.refused(refuse(404, "Volume %s could not be found.", p.marker))
	}
	status, name := q.query.Get("status"), q.query.Get("name")
	from := c.volumes.candidates(filter(byStatus, status), filter(byName, name))
	found, bad := pick(from, c.volumes.byID[p.marker], p, func(v *volume) bool {
		return (status == "" || v.Status == status) && (name == "" || v.Name == name)
	}, volumesBy(p.by))
	if bad != nil {
		return q.refused(bad)
	}
	out := make([]any, 0, len(found))
	for _, v := range found {
		if q.detail() {
			out = append(out, c.volumeJSON(q, v))
		} else {
			out = append(out, summaryJSON{v.ID, v.Name, q.links("volumes", v.ID)})
		}
	}
	return q.page("volumes", out, p, func() string { return found[len(found)-1].ID })
}

// volumesBy gives the order of a sort key, nil for an unknown one.
func volumesBy(sortKey string) func(a, b *volume) int {
	switch sortKey {
	case "created_at":
		return func(a, b *volume) int { return a.Created.Compare(b.Created) }
	case "updated_at":
		return func(a, b *volume) int { return a.Updated.Compare(b.Updated) }
	case "id":
		return func(a, b *volume) int { return strings.Compare(a.ID, b.ID) }
	case "name":
		return func(a, b *volume) int { return strings.Compare(a.Name, b.Name) }
	case "status":
		return func(a, b *volume) int { return strings.Compare(a.Status, b.Status) }
	case "size":
		return func(a, b *volume) int { return a.SizeGiB - b.SizeGiB }
	}
	return nil
}

type newVolumeJSON struct {
	Volume *struct {
		Name, Description string
		Size              int
		VolumeType        string            `json:"volume_type"`
		BackupID          string            `json:"backup_id"`
		Metadata          map[string]string `json:"metadata"`
	} `json:"volume"`
}

// createTime is how long an empty volume takes.
const createTime = time.Second

// createVolume answers POST volumes. backup_id counts from microversion 3.47 on;
// before that Cinder ignores it, and makes an empty volume.
func (c *Cloud) createVolume(q *request) answer {
	if !q.hasBody() {
		return q.fault(500, wentWrong)
	}
	var in newVolumeJSON
	if err := json.Unmarshal(q.body, &in); err != nil {
		return q.refused(refuse(400, "Invalid input for field/attribute volume. %v", err))
	}
	if in.Volume == nil {
		return q.fault(400, "'volume' is a required property")
	}
	want := in.Volume
	b, bad := c.backupToCreateFrom(q, want.BackupID)
	if bad != nil {
		return q.refused(bad)
	}
	if b != nil {
		setDefault(&want.Size, b.SizeGiB)
	}
	switch {
	case want.Size <= 0:
		return q.refused(refuse(400, "Invalid input received: Volume size '%d' must be an integer and greater than 0", want.Size))
	case b != nil && want.Size < b.SizeGiB:
		return q.refused(refuse(400, "Invalid input received: Volume size %dGB cannot be smaller than the backup size %dGB. It must be >= backup size.", want.Size, b.SizeGiB))
	}
	v := c.addVolume(Volume{Name: want.Name, SizeGiB: want.Size, Status: "creating", Metadata: want.Metadata, Created: c.now})
	c.changeVolume(v, func() { v.Name, v.Description = want.Name, want.Description })
	setDefault(&want.VolumeType, v.Type)
	v.Type = want.VolumeType
	if b != nil {
		c.begin(q, v.ID, b.ID)
	} else {
		c.schedule(c.newJob(&job{Kind: kindCreate, Execution: Execution{VolumeID: v.ID}}), stepFinish, c.now.Add(createTime))
	}
	return q.ok(202, map[string]volumeJSON{"volume": c.volumeJSON(q, v)})
}

func (c *Cloud) backupToCreateFrom(q *request, id string) (*backup, *refusal) {
	if id == "" || q.minor < 47 {
		return nil, nil
	}
	b, ok := c.backups.byID[id]
	switch {
	case !ok:
		return nil, refuse(404, "Backup %s could not be found.", id)
	case b.Status != "available":
		return nil, refuse(400, "Invalid backup: Backup status must be available")
	}
	return b, nil
}

const undeletable = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or " +
	"error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be " +
	"disassociated from snapshots after volume transfer."

func (c *Cloud) deleteVolume(q *request) answer {
	v, ok := c.volumes.byID[q.target]
	if !ok {
		return q.refused(refuse(404, "Volume %s could not be found.", q.target))
	}
	deletable := []string{"available", "error", "error_restoring", "error_extending", "error_managing"}
	if v.ServerID != "" || !slices.Contains(deletable, v.Status) {
		return q.fault(400, undeletable)
	}
	c.setVolume(v, "deleting")
	c.schedule(c.newJob(&job{Kind: kindDelete, Execution: Execution{VolumeID: v.ID}}), stepFinish, c.now.Add(deleteTime))
	return q.ok(202, nil)
}

func (c *Cloud) actOnVolume(q *request) answer {
	if _, ok := c.volumes.byID[q.target]; !ok {
		return q.refused(refuse(404, "Volume %s could not be found.", q.target))
	}
	return q.act("volume_extension:volume_admin_actions:reset_status")
}
