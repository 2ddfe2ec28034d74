package results

import (
	"errors"
	"fmt"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// A Restore is one backup written onto one volume: a row of the store. All
// times are the store's clock in UTC; the zero time means "none".
type Restore struct {
	ID         string      `json:"id"`
	Cloud      string      `json:"cloud"`
	ProjectID  string      `json:"project_id"`
	BackupID   string      `json:"backup_id"`
	VolumeID   string      `json:"volume_id"`
	BackupName string      `json:"backup_name"`
	VolumeName string      `json:"volume_name"`
	BackupGiB  int         `json:"backup_gib"`
	VolumeGiB  int         `json:"volume_gib"`
	Class      tasks.Class `json:"class"`

	State      State     `json:"state"`
	StateSince time.Time `json:"state_since,omitzero"`
	Wait       Wait      `json:"wait"`
	Reason     string    `json:"reason"`
	FailClass  string    `json:"fail_class"`
	Advice     string    `json:"advice"`
	Proof      Proof     `json:"proof"`

	Attempt     int   `json:"attempts"`   // restore POSTs claimed so far
	Spent       int   `json:"spent"`      // of these, counted against the budget since the last retry by a person
	Waits       int   `json:"waits"`      // waits in a row without an attempt; drives their backoff
	Generation  int64 `json:"generation"` // wake-ups sent; makes fresh task ids
	Releases    int   `json:"releases"`   // wake-ups since the last stored outcome
	Accepted    bool  `json:"accepted"`   // the current attempt was answered 202, or adopted
	SeenRunning bool  `json:"seen_running"`
	Unproven    bool  `json:"unproven"` // an attempt ended "not executed" by evidence, not by a refusal: every later POST is preceded by one more judgement
	Overdue     bool  `json:"overdue"`
	Again       bool  `json:"again"`

	NotBefore     time.Time `json:"not_before,omitzero"`
	NotAfter      time.Time `json:"not_after,omitzero"`
	AskedAt       time.Time `json:"asked_at,omitzero"`
	CreatedAt     time.Time `json:"created_at,omitzero"`
	UpdatedAt     time.Time `json:"updated_at,omitzero"`
	ReleasedAt    time.Time `json:"released_at,omitzero"`
	PostDeadline  time.Time `json:"post_deadline,omitzero"`
	SettledAt     time.Time `json:"settled_at,omitzero"` // when the current attempt's answer was stored
	AcceptedAt    time.Time `json:"accepted_at,omitzero"`
	WatchDeadline time.Time `json:"watch_deadline,omitzero"`
	FinishedAt    time.Time `json:"finished_at,omitzero"`
	VolumeGoneAt  time.Time `json:"volume_gone_at,omitzero"` // first time it was not found
	BackupGoneAt  time.Time `json:"backup_gone_at,omitzero"`
	SeenVolume    time.Time `json:"-"` // updated_at at the last look, for clouds without a Date header
	SeenBackup    time.Time `json:"-"`
	SeenAt        time.Time `json:"-"`

	Labels map[string]string `json:"labels,omitempty"`
	Trace  map[string]string `json:"trace,omitempty"`
	Actor  string            `json:"actor"`
	Hash   string            `json:"-"`

	rev int64
}

// An Attempt is one restore POST: what the cloud looked like before, and what it answered.
type Attempt struct {
	RestoreID    string    `json:"restore_id"`
	Attempt      int       `json:"attempt"`
	RequestID    string    `json:"request_id"` // the X-Openstack-Request-Id we sent
	Worker       string    `json:"worker"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	PostDeadline time.Time `json:"post_deadline,omitzero"`
	Before       Before    `json:"before"`
	AnsweredAt   time.Time `json:"answered_at,omitzero"` // zero: no answer was stored
	Answer       Answer    `json:"answer"`
	Outcome      string    `json:"outcome"` // accepted, ambiguous, not executed, refused, adopted …; "" while unknown
}

// Before is the state of volume and backup just before a POST. Updated times
// are the cloud's clock and may only be compared with the cloud's.
type Before struct {
	VolumeStatus  string    `json:"volume_status"`
	VolumeUpdated time.Time `json:"volume_updated,omitzero"`
	BackupStatus  string    `json:"backup_status"`
	BackupUpdated time.Time `json:"backup_updated,omitzero"`
	BackupSource  string    `json:"backup_source"` // the volume the backup was taken of
	SrcBackupID   string    `json:"src_backup_id"` // volume metadata: the backup last restored onto it
	CloudTime     time.Time `json:"cloud_time,omitzero"`
}

// An Answer is what came back for a POST. Status 0 means no answer came.
type Answer struct {
	Status     int           `json:"status"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	RequestID  string        `json:"cloud_request_id"`
	Answerer   string        `json:"answerer"`
	Executed   string        `json:"executed"`
	RetryAfter time.Duration `json:"-"`
}

// An Event is one thing that happened to a restore or a cloud.
type Event struct {
	Seq       int64     `json:"seq,omitempty"` // 0 until the leader has numbered it
	ID        string    `json:"id"`
	Hash      string    `json:"hash,omitempty"` // of this event and the hash before it
	At        time.Time `json:"at"`
	Cloud     string    `json:"cloud"`
	RestoreID string    `json:"restore_id,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	Kind      string    `json:"kind"`
	From      State     `json:"from,omitempty"`
	To        State     `json:"to,omitempty"`
	Reason    string    `json:"reason"`
	Actor     string    `json:"actor,omitempty"`
}

var (
	// ErrNotFound says that the store has no such row.
	ErrNotFound = errors.New("not in the store")
	// ErrMoved says that another process moved the row first. That is normal: the loser stops.
	ErrMoved = errors.New("moved by someone else meanwhile")
	// ErrNoStore says that there is no store at the URL; reading never makes one.
	ErrNoStore = errors.New("no store there")
)

// An ArrowError is a move that the state table does not allow.
type ArrowError struct{ From, To State }

func (e *ArrowError) Error() string {
	return fmt.Sprintf("a restore may not go from %s to %s", e.From, e.To)
}
