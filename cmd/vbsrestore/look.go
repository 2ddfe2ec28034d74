package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

const lookTimeout = 20 * time.Second

// cloudView is what the cloud says about one restore's volume and backup.
// A nil Volume or Backup does not exist (or could not be asked; see Error).
type cloudView struct {
	AskedAt  time.Time     `json:"asked_at,omitzero"`
	Volume   *volumeView   `json:"volume"`
	Backup   *backupView   `json:"backup"`
	Messages []messageView `json:"messages"`
	Error    string        `json:"error,omitempty"` // why the cloud could not be asked

	err      error // what Error tells
	messages worker.Finding
	now      time.Time // the cloud's clock
}

type volumeView struct {
	Name        string    `json:"name"`
	Status      string    `json:"status"`
	GiB         int       `json:"gib"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	SrcBackupID string    `json:"src_backup_id,omitempty"` // the backup last restored onto it, as Cinder notes
	Servers     []string  `json:"servers,omitempty"`       // that it is attached to
}

type backupView struct {
	Name      string    `json:"name"`
	Status    string    `json:"status"`
	GiB       int       `json:"gib"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// messageView is a message of the cloud about the last attempt.
type messageView struct {
	CreatedAt time.Time `json:"created_at,omitzero"`
	Text      string    `json:"text"`
	RequestID string    `json:"request_id,omitempty"`
}

// lookAt asks the cloud about a restore: volume first, then backup, as the
// watcher does. What cannot be asked is in Error.
func lookAt(ctx context.Context, s settings, e env, st story) *cloudView {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	v := &cloudView{AskedAt: e.now().UTC().Truncate(time.Millisecond), Messages: []messageView{}}
	if v.err = v.ask(ctx, s, e, st); v.err != nil {
		v.Error = describe(v.err)
	}
	return v
}

// otherProject: with these credentials the volume and the backup of a restore look deleted.
type otherProject struct{ cloud, theirs, ours string }

func (o *otherProject) Error() string {
	return fmt.Sprintf("the credentials of cloud %s are of project %s, this restore is of project %s", o.cloud, o.theirs, o.ours)
}
func (o *otherProject) Unwrap() error { return results.ErrOtherProject }

func (v *cloudView) ask(ctx context.Context, s settings, e env, st story) error {
	r := st.Restore
	files, err := findClouds(e)
	if err != nil {
		return err
	}
	login, err := files.load(r.Cloud)
	if err != nil {
		return err
	}
	client, err := s.open(ctx, login, zerolog.Nop())
	if err != nil {
		return err
	}
	defer client.Close()
	if r.ProjectID != "" && r.ProjectID != client.ProjectID() {
		return &otherProject{r.Cloud, client.ProjectID(), r.ProjectID}
	}
	volume, err := client.Volume(ctx, r.VolumeID)
	if err != nil && !vbs.IsGone(err) {
		return err
	}
	if err == nil {
		v.Volume, v.now = viewVolume(volume), volume.CloudTime
	}
	backup, err := client.Backup(ctx, r.BackupID)
	if err != nil && !vbs.IsGone(err) {
		return err
	}
	if err == nil {
		v.Backup = &backupView{backup.Name, backup.Status, backup.SizeGiB, backup.Updated}
	}
	return v.askMessages(ctx, client, r.BackupID, st.last())
}

func viewVolume(v vbs.Volume) *volumeView {
	view := &volumeView{Name: v.Name, Status: v.Status, GiB: v.SizeGiB, UpdatedAt: v.Updated, SrcBackupID: v.Metadata["src_backup_id"]}
	for _, a := range v.Attachments {
		view.Servers = append(view.Servers, a.ServerID)
	}
	return view
}

// askMessages reads why the last attempt failed; only the cloud's messages tell.
// Those of other people's restores of the backup are none of ours.
func (v *cloudView) askMessages(ctx context.Context, client *vbs.Client, backupID string, last results.Attempt) error {
	if last.Attempt == 0 {
		return nil
	}
	messages, err := client.Messages(ctx, vbs.MessageQuery{ResourceID: backupID})
	if errors.Is(err, vbs.ErrNoMessages) {
		return nil
	}
	for _, m := range messages {
		if !worker.TellsOf(m, last) {
			continue
		}
		v.Messages = append(v.Messages, messageView{m.Created, m.Text, m.RequestID})
		v.messages = worker.Found
	}
	return err
}

// atRest reports whether a POST could go out: both are there and available.
func (v *cloudView) atRest() bool {
	return v.Error == "" && v.Volume != nil && v.Backup != nil && v.Volume.Status == "available" && v.Backup.Status == "available" && len(v.Volume.Servers) == 0
}

// judge asks the watcher's own judgement, with all patience granted but for a
// restore that runs, which may go on running. It reads "gone" as final: the person
// looks at it in peace. "" is no judgement: the cloud could not be asked, or the
// store knows of no POST.
func (v *cloudView) judge(r results.Restore, last results.Attempt) worker.Verdict {
	if v.err != nil || last.Attempt == 0 {
		return ""
	}
	ev := worker.Evidence{Accepted: r.Accepted || r.SeenRunning, Seen: r.SeenRunning, LateEnough: true, Settled: true, PastDeadline: true,
		Volume: worker.Look{Gone: worker.GoneSure}, Backup: worker.Look{Gone: worker.GoneSure},
		Messages: max(v.messages, worker.Clean), Siblings: worker.Clean}
	if r.FailClass == movedByOthers {
		ev.Siblings = worker.Found // its cause may be gone by now; what it did is not
	}
	if v.Volume != nil {
		ev.Volume = worker.Look{Status: v.Volume.Status, Moved: v.Volume.Status != last.Before.VolumeStatus || !v.Volume.UpdatedAt.Equal(last.Before.VolumeUpdated)}
		ev.VolumeAge = max(0, v.now.Sub(v.Volume.UpdatedAt))
	}
	if v.Backup != nil {
		ev.Backup = worker.Look{Status: v.Backup.Status, Moved: v.Backup.Status != last.Before.BackupStatus || !v.Backup.UpdatedAt.Equal(last.Before.BackupUpdated)}
	}
	if v.Volume != nil && v.Backup != nil {
		ev.Lag = v.Backup.UpdatedAt.Sub(v.Volume.UpdatedAt)
	}
	return worker.Judge(ev)
}
