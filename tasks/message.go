package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// ErrNewerVersion marks a message written by a newer vbsrestore. It is not
// broken: keep it for a program that understands it.
var ErrNewerVersion = errors.New("the message is of a newer version")

// Wake tells a worker that a restore in the store is due. Only vbsrestore itself
// sends it.
type Wake struct {
	// ID is the restore's ID.
	ID string `json:"id"`
	// Generation counts the releases of the restore, from 1. It only makes task
	// IDs fresh; it permits nothing.
	Generation int64 `json:"generation"`
}

// Message is a decoded message; exactly one of Restore and Wake is set.
type Message struct {
	Version int      `json:"v"`
	Restore *Restore `json:"restore,omitempty"`
	Wake    *Wake    `json:"wake,omitempty"`
}

// DecodeError says why a message was not accepted.
type DecodeError struct {
	// Reason is one of too_large, not_utf8, not_json, newer_version, bad_version,
	// bad_key, unknown_key, wrong_type, trailing_data, not_one_request, invalid.
	Reason string
	// Err has the details. With Reason newer_version it is [ErrNewerVersion], with
	// invalid the joined *[FieldError]s.
	Err error
}

// Error returns the reason and the details.
func (e *DecodeError) Error() string { return "decode message: " + e.Reason + ": " + e.Err.Error() }

// Unwrap returns the details.
func (e *DecodeError) Unwrap() error { return e.Err }

// EncodeRestore writes a producer's message. It validates r first and returns the
// problems as [Restore.Validate] does.
func EncodeRestore(r Restore) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(Message{Version: Version, Restore: &r})
}

// EncodeWake writes vbsrestore's own message. It returns joined *[FieldError]s if
// the ID is no UUID or the generation is below 1.
func EncodeWake(w Wake) ([]byte, error) {
	if err := w.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(Message{Version: Version, Wake: &w})
}

func (w Wake) validate() error {
	err := checkUUID("id", w.ID)
	if w.Generation < 1 {
		err = errors.Join(err, &FieldError{"generation", "is below 1", ""})
	}
	return err
}

// Decode reads a message. It never panics, and every error is a *[DecodeError].
//
// It is strict: unknown, doubled or upper-case keys, wrong types, anything after
// the message, bytes that are not UTF-8, more than [MaxPayload] bytes, no request
// or two, and requests that [Restore.Validate] refuses are errors. The version is
// looked at before the rest, so that a message of a newer version gives
// [ErrNewerVersion] whatever else it holds.
func Decode(payload []byte) (Message, error) {
	if len(payload) > MaxPayload {
		return refuse("too_large", fmt.Errorf("%d bytes, at most %d are allowed", len(payload), MaxPayload))
	}
	if !utf8.Valid(payload) {
		return refuse("not_utf8", errors.New("the bytes are not UTF-8"))
	}
	if err := checkVersion(payload); err != nil {
		return Message{}, err
	}
	if err := checkKeys(payload); err != nil {
		return refuse("bad_key", err)
	}
	m, err := decodeStrictly(payload)
	if err != nil {
		return Message{}, err
	}
	return m.checked()
}

func refuse(reason string, err error) (Message, error) {
	return Message{}, &DecodeError{Reason: reason, Err: err}
}

// checkVersion reads only "v". Trailing data is left for decodeStrictly.
func checkVersion(payload []byte) error {
	var head struct {
		V *int `json:"v"`
	}
	err := json.NewDecoder(bytes.NewReader(payload)).Decode(&head)
	switch typeErr := new(json.UnmarshalTypeError); {
	case errors.As(err, &typeErr):
		return &DecodeError{"wrong_type", err}
	case err != nil:
		return &DecodeError{"not_json", err}
	case head.V == nil || *head.V < 1:
		return &DecodeError{"bad_version", errors.New("v is missing or below 1")}
	case *head.V > Version:
		return &DecodeError{"newer_version", fmt.Errorf("%w: %d, this program knows %d", ErrNewerVersion, *head.V, Version)}
	}
	return nil
}

func decodeStrictly(payload []byte) (Message, error) {
	var m Message
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return refuse(strictReason(payload), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse("trailing_data", errors.New("something follows the message"))
	}
	return m, nil
}

// strictReason tells why a strict reading failed: if a lenient one succeeds, an
// unknown key is all that is left.
func strictReason(payload []byte) string {
	if json.NewDecoder(bytes.NewReader(payload)).Decode(new(Message)) != nil {
		return "wrong_type"
	}
	return "unknown_key"
}

func (m Message) checked() (Message, error) {
	var err error
	switch {
	case (m.Restore == nil) == (m.Wake == nil):
		return refuse("not_one_request", errors.New("a message holds either a restore or a wake"))
	case m.Wake != nil:
		err = m.Wake.validate()
	default:
		m.Restore.roundTimes()
		err = m.Restore.Validate()
	}
	if err != nil {
		return refuse("invalid", err)
	}
	return m, nil
}
