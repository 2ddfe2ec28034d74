package tasks

import (
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxLabels     = 32
	maxLabelValue = 255
	maxActor      = 128
)

var (
	cloudName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	labelKey    = regexp.MustCompile(`^[a-z0-9._/-]{1,63}$`)
	projectHex  = regexp.MustCompile(`^[0-9a-f]{32}$`)
	earliestDay = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latestDay   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// FieldError says what is wrong with one field of a request and how to put it
// right.
type FieldError struct {
	// Field is the JSON name of the field, for example "volume_id".
	Field string
	// Problem completes the sentence "the field …", for example "is empty".
	Problem string
	// Hint tells a person what to do; it may be empty.
	Hint string
}

// Error returns "field: problem".
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Validate returns nil if the restore may be sent. Otherwise it returns every
// problem found, each a *[FieldError], joined by [errors.Join].
//
// It expects a normalized restore: UUIDs in lower case, class and asked_at set.
func (r Restore) Validate() error {
	return errors.Join(
		checkUUID("id", r.ID),
		r.checkCloud(),
		r.checkProject(),
		checkUUID("backup_id", r.BackupID),
		checkUUID("volume_id", r.VolumeID),
		r.checkClass(),
		r.checkTimes(),
		r.checkLabels(),
		checkText("actor", r.Actor, maxActor),
	)
}

func (r Restore) checkCloud() error {
	if cloudName.MatchString(r.Cloud) {
		return nil
	}
	return &FieldError{"cloud", problem(r.Cloud, "is not a cloud name"),
		"use the name of an entry in clouds.yaml: up to 63 letters, digits, dots, underscores and hyphens"}
}

func (r Restore) checkProject() error {
	if r.ProjectID == "" || isUUID(r.ProjectID) || projectHex.MatchString(r.ProjectID) {
		return nil
	}
	return &FieldError{"project_id", problem(r.ProjectID, "is not a project id"),
		"use 32 lower-case hex digits or a UUID, or leave it out"}
}

func (r Restore) checkClass() error {
	if r.Class.Rank() <= ClassDrill.Rank() {
		return nil
	}
	return &FieldError{"class", problem(string(r.Class), "is not a class"), "use urgent, direct, campaign or drill"}
}

func (r Restore) checkTimes() error {
	if r.AskedAt.IsZero() {
		return &FieldError{"asked_at", "is empty", "use the time of the request"}
	}
	err := errors.Join(checkTime("asked_at", r.AskedAt), checkTime("not_before", r.NotBefore), checkTime("not_after", r.NotAfter))
	if start := later(r.AskedAt, r.NotBefore); !r.NotAfter.IsZero() && !r.NotAfter.After(start) {
		err = errors.Join(err, &FieldError{"not_after", "is not after asked_at and not_before",
			"the restore could never start; move not_after or leave it out"})
	}
	return err
}

func checkTime(field string, t time.Time) error {
	if t.IsZero() || !t.Before(earliestDay) && t.Before(latestDay) {
		return nil
	}
	return &FieldError{field, "is not between the years 2000 and 2200", "write it as RFC 3339, for example 2026-05-14T08:30:00Z"}
}

func (r Restore) checkLabels() error {
	if len(r.Labels) > maxLabels {
		return &FieldError{"labels", fmt.Sprintf("has %d entries", len(r.Labels)), fmt.Sprintf("use at most %d", maxLabels)}
	}
	var err error
	for k, v := range r.Labels {
		if !labelKey.MatchString(k) {
			err = errors.Join(err, &FieldError{"labels", fmt.Sprintf("has the key %.70q", k),
				"use 1 to 63 characters out of a-z, 0-9, dot, underscore, slash and hyphen"})
		}
		err = errors.Join(err, checkText("labels", v, maxLabelValue))
	}
	return err
}

func checkUUID(field, s string) error {
	if isUUID(s) {
		return nil
	}
	return &FieldError{field, problem(s, "is not a UUID"), "use the form 0198c0de-7a11-7bcd-8ef0-123456789abc, in lower case"}
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return &FieldError{field, fmt.Sprintf("has %d bytes", len(s)), fmt.Sprintf("use at most %d", limit)}
	}
	if !utf8.ValidString(s) {
		return &FieldError{field, "is not UTF-8", ""}
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return &FieldError{field, fmt.Sprintf("contains %q", c), "use printable characters only"}
		}
	}
	return nil
}

// problem names a wrong value, shortened, or says that there is none.
func problem(value, what string) string {
	if value == "" {
		return "is empty"
	}
	return fmt.Sprintf("%.70q %s", value, what)
}

// isUUID reports whether s is a UUID in its usual form, in lower case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
