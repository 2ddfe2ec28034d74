package vbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Volume is what the cloud says about a volume at one moment.
type Volume struct {
	ID, Name, Status string
	SizeGiB          int
	Type, Zone       string
	Metadata         map[string]string
	Attachments      []Attachment
	// Created and Updated are in UTC, zero where the cloud says null. Compare
	// them with each other only: many clouds keep whole seconds.
	Created, Updated    time.Time
	Bootable, Encrypted bool
	CloudTime           time.Time // Date header of the answer, zero if none
}

// An Attachment says which server holds a volume.
type Attachment struct {
	ServerID, Device string
}

// A Backup is what the cloud says about a backup at one moment.
type Backup struct {
	ID, Name, Status string
	VolumeID         string // the volume it was made of
	FailReason       string // about making it; a failed restore does not change it
	SizeGiB          int
	Incremental      bool
	HasDependents    bool      // incremental backups build on it
	DataTime         time.Time // the moment whose data it holds, zero if unknown
	Created, Updated time.Time // UTC, zero where the cloud says null
	CloudTime        time.Time // Date header of the answer, zero if none
}

type volumeJSON struct {
	ID          text       `json:"id"`
	Name        text       `json:"name"`
	Status      text       `json:"status"`
	Size        number     `json:"size"`
	Type        text       `json:"volume_type"`
	Zone        text       `json:"availability_zone"`
	Metadata    pairs      `json:"metadata"`
	Created     moment     `json:"created_at"`
	Updated     lastChange `json:"updated_at"`
	Bootable    truth      `json:"bootable"`
	Encrypted   truth      `json:"encrypted"`
	Attachments []struct {
		ServerID text `json:"server_id"`
		Device   text `json:"device"`
	} `json:"attachments"`
}

func (j volumeJSON) id() string { return string(j.ID) }

func (j volumeJSON) value(at time.Time) Volume {
	v := Volume{
		ID: string(j.ID), Name: string(j.Name), Status: string(j.Status), SizeGiB: int(j.Size),
		Type: string(j.Type), Zone: string(j.Zone), Metadata: j.Metadata,
		Created: j.Created.Time, Updated: j.Updated.Time,
		Bootable: bool(j.Bootable), Encrypted: bool(j.Encrypted), CloudTime: at,
	}
	for _, a := range j.Attachments {
		v.Attachments = append(v.Attachments, Attachment{string(a.ServerID), string(a.Device)})
	}
	return v
}

type backupJSON struct {
	ID            text       `json:"id"`
	Name          text       `json:"name"`
	Status        text       `json:"status"`
	VolumeID      text       `json:"volume_id"`
	FailReason    text       `json:"fail_reason"`
	Size          number     `json:"size"`
	Incremental   truth      `json:"is_incremental"`
	HasDependents truth      `json:"has_dependent_backups"`
	DataTime      moment     `json:"data_timestamp"`
	Created       moment     `json:"created_at"`
	Updated       lastChange `json:"updated_at"`
}

func (j backupJSON) id() string { return string(j.ID) }

func (j backupJSON) value(at time.Time) Backup {
	return Backup{
		ID: string(j.ID), Name: string(j.Name), Status: string(j.Status), VolumeID: string(j.VolumeID),
		FailReason: string(j.FailReason), SizeGiB: int(j.Size),
		Incremental: bool(j.Incremental), HasDependents: bool(j.HasDependents),
		DataTime: j.DataTime.Time, Created: j.Created.Time, Updated: j.Updated.Time, CloudTime: at,
	}
}

// Volume reads one volume. [IsGone] tells whether the cloud denies its existence.
func (c *Client) Volume(ctx context.Context, id string) (Volume, error) {
	var body struct {
		Volume volumeJSON `json:"volume"`
	}
	a, e := c.show(ctx, "volume", c.volumes+"volumes/", id, &body)
	if e != nil {
		return Volume{}, e
	}
	if err := sameThing(id, body.Volume.ID, body.Volume.Status); err != nil {
		return Volume{}, unreadable("get volume "+id, a, err)
	}
	return body.Volume.value(dateOf(a.header)), nil
}

// Backup reads one backup. [IsGone] tells whether the cloud denies its existence.
func (c *Client) Backup(ctx context.Context, id string) (Backup, error) {
	var body struct {
		Backup backupJSON `json:"backup"`
	}
	a, e := c.show(ctx, "backup", c.backups+"backups/", id, &body)
	if e != nil {
		return Backup{}, e
	}
	if err := sameThing(id, body.Backup.ID, body.Backup.Status); err != nil {
		return Backup{}, unreadable("get backup "+id, a, err)
	}
	return body.Backup.value(dateOf(a.header)), nil
}

func (c *Client) show(ctx context.Context, kind, base, id string, out any) (answer, *Error) {
	op := "get " + kind + " " + oneLine(id, maxID)
	if !usableID(id) {
		return answer{}, failed(op, "that is no id")
	}
	return c.get(ctx, call{op: op, url: base + id, limit: maxSingle}, out)
}

// sameThing refuses an answer about something else, and one without a status:
// decisions are made on both.
func sameThing(id string, gotID, status text) error {
	switch {
	case gotID == "" || status == "":
		return errors.New("the answer lacks id or status")
	case !strings.EqualFold(id, string(gotID)):
		return fmt.Errorf("the answer is about %s", oneLine(string(gotID), maxID))
	}
	return nil
}

// NewVolume describes a volume to create. Empty fields are left to the cloud.
type NewVolume struct {
	Name        string
	SizeGiB     int // at least 1
	Type, Zone  string
	Description string
}

// CreateVolume asks once for a new, empty volume and returns it as the cloud
// sees it, usually "creating". Creating is not idempotent: after an error with
// ExecutedMaybe look for the volume by its name before asking again.
func (c *Client) CreateVolume(ctx context.Context, n NewVolume) (Volume, error) {
	op := "create volume " + oneLine(n.Name, maxID)
	if n.SizeGiB < 1 {
		return Volume{}, failed(op, "a size of %d GiB is not possible", n.SizeGiB)
	}
	type volume struct {
		Name        string `json:"name,omitempty"`
		Size        int    `json:"size"`
		Type        string `json:"volume_type,omitempty"`
		Zone        string `json:"availability_zone,omitempty"`
		Description string `json:"description,omitempty"`
	}
	raw, err := json.Marshal(map[string]volume{"volume": {n.Name, n.SizeGiB, n.Type, n.Zone, n.Description}})
	if err != nil {
		return Volume{}, failed(op, "%w", err)
	}
	a, e := c.post(ctx, post{op: op, url: c.volumes + "volumes", body: raw, notAfter: time.Now().Add(c.timeout)})
	if e != nil {
		return Volume{}, e
	}
	var body struct {
		Volume volumeJSON `json:"volume"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.Volume.ID == "" {
		e := unreadable(op, a, errors.New("the answer does not name the new volume"))
		e.Executed = ExecutedMaybe
		return Volume{}, e
	}
	return body.Volume.value(dateOf(a.header)), nil
}

// DeleteVolume asks the cloud to delete a volume; it is gone when [Client.Volume]
// says so. A volume that does not exist is an error for which [IsGone] is true.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	op := "delete volume " + oneLine(id, maxID)
	if !usableID(id) {
		return failed(op, "that is no id")
	}
	if _, e := c.read(ctx, call{op: op, method: http.MethodDelete, url: c.volumes + "volumes/" + id, limit: maxSingle}); e != nil {
		return e
	}
	return nil
}
