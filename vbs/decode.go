package vbs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// text is a JSON string, or a number or boolean in its place; null is "".
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	*t = text(textOf(raw))
	return nil
}

// textOf returns "" for objects and arrays.
func textOf(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '{', '[':
		return ""
	}
	return string(raw)
}

// number is a JSON integer, also in quotes; anything else is 0.
type number int

func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(textOf(raw), 64)
	if err != nil || f < 0 || f > 1<<31 {
		f = 0
	}
	*n = number(f)
	return nil
}

// truth is a JSON boolean, also in quotes as Cinder sends "bootable".
type truth bool

func (b *truth) UnmarshalJSON(raw []byte) error {
	*b = truth(strings.EqualFold(textOf(raw), "true"))
	return nil
}

// moment is a time as the services write it: with or without fraction, with or
// without zone (then UTC). Anything else, null too, is the zero time.
type moment struct{ time.Time }

func (m *moment) UnmarshalJSON(raw []byte) error {
	m.Time, _ = parseTime(textOf(raw)) // for people to read
	return nil
}

// lastChange is an updated_at, by which changes are recognised: one that cannot be
// read is an error, because taken for none it would look like "nothing changed".
type lastChange struct{ time.Time }

func (m *lastChange) UnmarshalJSON(raw []byte) (err error) {
	m.Time, err = parseTime(textOf(raw))
	return err
}

// parseTime reads the cloud's times; none and null are the zero time.
func parseTime(s string) (time.Time, error) {
	if s == "" || s == "null" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("time %.40q is of no known form", s)
}

// pairs is a JSON object of strings; other values are written as JSON.
type pairs map[string]string

func (p *pairs) UnmarshalJSON(raw []byte) error {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || len(m) == 0 {
		*p = nil
		return nil
	}
	*p = make(pairs, len(m))
	for k, v := range m {
		s := textOf(v)
		if s == "" && len(v) > 0 && (v[0] == '{' || v[0] == '[') {
			s = string(v)
		}
		(*p)[k] = s
	}
	return nil
}
