package vbs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNoMessages is wrapped by the error of [Client.Messages] when the cloud
// offers no user messages (a Cinder below microversion 3.3, or a gateway that
// hides them).
var ErrNoMessages = errors.New("the cloud offers no messages")

// errTooLate is the cause inside an [Error] whose TooLate is set.
var errTooLate = errors.New("the deadline has passed, nothing was sent")

// An Answerer is who wrote an answer, as far as its form tells.
type Answerer int

// Who may have answered.
const (
	Nobody   Answerer = iota // there was no answer
	Cinder                   // a Cinder fault body with x-compute-request-id: the request's thread has ended
	Keystone                 // Keystone itself, or its middleware in front of Cinder
	Gateway                  // everything else: APIG.*, VolumeBackup.*, EVS.*, HTML, plain text, an empty body
)

// String returns the name in lower case.
func (a Answerer) String() string {
	switch a {
	case Nobody:
		return "nobody"
	case Cinder:
		return "cinder"
	case Keystone:
		return "keystone"
	}
	return "gateway"
}

// Executed says whether a failed request may have had its effect. The zero
// value is the careful one.
type Executed int

// The two things that can be known about a failed request.
const (
	ExecutedMaybe Executed = iota // not proven either way: observe before repeating
	ExecutedNo                    // proven: the request had no effect
)

// String returns "maybe" or "no".
func (e Executed) String() string {
	if e == ExecutedNo {
		return "no"
	}
	return "maybe"
}

// An Error is what a failed call returns, or wraps. It holds the facts of the
// answer; what to do about them is the caller's decision.
type Error struct {
	Op     string // what we were doing: "restore backup B onto volume V"
	Status int    // HTTP status; 0 when there was no answer

	// Fault is the name of a Cinder fault body: "badRequest", "itemNotFound",
	// "computeFault"; empty for every other form.
	Fault string
	// Code is the service's own code: "VolumeBackup.0012", "APIG.0308",
	// "Common.0013". VBS.NNNN is written VolumeBackup.NNNN: both prefixes exist.
	Code string
	// Message is the cloud's text: one line, at most 300 runes, without control
	// characters or secrets.
	Message string
	// RequestID is the cloud's id of the request, "req-…", if it sent one.
	RequestID string

	RetryAfter    time.Duration // from seconds or an HTTP date, at most 24 h
	HasRetryAfter bool          // a Retry-After of zero was sent, too

	Answerer Answerer
	Executed Executed // for calls that only read always ExecutedNo

	Cert      bool      // a TLS certificate problem: configuration, not weather
	TooLate   bool      // refused by our own deadline guard; Executed is ExecutedNo
	CloudTime time.Time // the answer's Date header, zero if none (a bare Cinder sends none)
	Err       error     // the cause, if there is one besides the answer
}

// Error returns one line, for example
//
//	restore backup B onto volume V: 409 VolumeBackup.0206 by gateway: A backup is being created (req-…)
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Status == 0 {
		b.WriteString(": no answer")
	} else {
		b.WriteString(": " + strconv.Itoa(e.Status))
		if name := e.Code; name != "" || e.Fault != "" {
			if name == "" {
				name = e.Fault
			}
			b.WriteString(" " + name)
		}
		b.WriteString(" by " + e.Answerer.String())
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.RequestID != "" {
		b.WriteString(" (" + e.RequestID + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// goneText is Cinder's text for a missing backup or volume. The same status
// and fault with "Service cinder-backup could not be found." means that the
// backup service is down.
var goneText = regexp.MustCompile(`^(Backup|Volume) \S+ could not be found\.?$`)

// IsGone reports whether err is Cinder's own statement that the backup or the
// volume of the call does not exist: 404 with an itemNotFound body that names
// it. A 404 in HTML, of a gateway, about a service, or about the marker of a
// listing is not that.
func IsGone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == 404 && e.Fault == "itemNotFound" && goneText.MatchString(e.Message)
}

// IsAuth reports whether err says that our credentials or token are not
// accepted: 401, Common.0013, AutoBackup.0003 or APIG.0301. The token has
// been renewed once before such an error is returned.
func IsAuth(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.isAuth()
}

func (e *Error) isAuth() bool {
	switch e.Code {
	case "Common.0013", "AutoBackup.0003", "APIG.0301":
		return true
	}
	return e.Status == 401
}

// failed makes an Error for a call that stopped before anything was sent.
func failed(op, format string, args ...any) *Error {
	return &Error{Op: op, Executed: ExecutedNo, Err: fmt.Errorf(format, args...)}
}
