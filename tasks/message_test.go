package tasks

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRestoreSurvivesTheQueue(t *testing.T) {
	r := newRestore()
	r.ProjectID, r.Actor, r.Again = volumeID, "alice", true
	r.NotBefore = r.AskedAt.Add(time.Minute)
	r.Labels = map[string]string{"team/a": "<db> \u00e9"}
	payload, err := EncodeRestore(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(payload)
	if diff := cmp.Diff(Message{Version: 1, Restore: &r}, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestMessageOfVersionOneKeepsItsForm(t *testing.T) {
	payload, err := EncodeRestore(newRestore())
	const want = `{"v":1,"restore":{"id":"0198c0de-7a11-7bcd-8ef0-123456789abc","cloud":"prod",` +
		`"backup_id":"2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11","volume_id":"9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22",` +
		`"class":"direct","asked_at":"2026-05-14T12:00:00.123456Z","not_after":"2026-05-15T12:00:00.123456Z"}}`
	if err != nil || string(payload) != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, payload, want)
	}
	payload, err = EncodeWake(Wake{ID: firstID, Generation: 3})
	const wake = `{"v":1,"wake":{"id":"0198c0de-7a11-7bcd-8ef0-123456789abc","generation":3}}`
	if err != nil || string(payload) != wake {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, payload, wake)
	}
}

func TestLargestRestoreFits(t *testing.T) {
	r := newRestore()
	r.Cloud, r.ProjectID, r.Class, r.Again = strings.Repeat("c", 63), volumeID, ClassCampaign, true
	r.NotBefore, r.Actor = r.AskedAt.Add(time.Second), strings.Repeat("<", 128)
	r.Labels = map[string]string{}
	for i := range 32 {
		r.Labels[fmt.Sprintf("%063d", i)] = strings.Repeat("<", 255) // written as \u003c
	}
	payload, err := EncodeRestore(r)
	if err != nil || len(payload) > MaxPayload {
		t.Fatalf("error %v, %d bytes, want at most %d", err, len(payload), MaxPayload)
	}
	if _, err := Decode(payload); err != nil {
		t.Error(err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	if p, err := EncodeRestore(Restore{}); err == nil {
		t.Errorf("an empty restore became %s", p)
	}
	for _, w := range []Wake{{ID: "x", Generation: 1}, {ID: firstID}} {
		if p, err := EncodeWake(w); err == nil {
			t.Errorf("%+v became %s", w, p)
		}
	}
}

const (
	inner = `"id":"0198c0de-7a11-7bcd-8ef0-123456789abc","cloud":"prod","backup_id":"2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11",` +
		`"volume_id":"9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22","class":"direct","asked_at":"2026-05-14T14:00:00+02:00"`
	good = `{"v":1,"restore":{` + inner + `}}`
	wake = `{"v":1,"wake":{"id":"0198c0de-7a11-7bcd-8ef0-123456789abc","generation":1}}`
)

// refusals are messages that must not be understood, by reason.
var refusals = []struct{ name, reason, payload string }{
	{"nothing", "not_json", ``},
	{"text", "not_json", `hello`},
	{"a cut message", "not_json", good[:40]},
	{"bytes that are not UTF-8", "not_utf8", `{"v":1,"x":"` + "\xff" + `"}`},
	{"a flood", "too_large", good + strings.Repeat(" ", MaxPayload)},
	{"a list", "wrong_type", `[1]`},
	{"a version in words", "wrong_type", `{"v":"1"}`},
	{"null", "bad_version", `null`},
	{"no version", "bad_version", `{"restore":{` + inner + `}}`},
	{"version 0", "bad_version", `{"v":0}`},
	{"a newer version", "newer_version", `{"v":2,"restores":[{"to":"new"}],"V":7}`},
	{"a number for an id", "wrong_type", `{"v":1,"wake":{"id":5,"generation":1}}`},
	{"a time in words", "wrong_type", `{"v":1,"restore":{` + inner + `,"not_after":"tomorrow"}}`},
	{"an unknown key", "unknown_key", `{"v":1,"restore":{` + inner + `,"volume":"x"}}`},
	{"an unknown key at the top", "unknown_key", strings.Replace(wake, `"wake"`, `"urgent":true,"wake"`, 1)},
	{"a key given twice", "bad_key", `{"v":1,"restore":{` + inner + `,"volume_id":"2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"}}`},
	{"a key in upper case", "bad_key", `{"v":1,"restore":{` + inner + `,"Volume_ID":"2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"}}`},
	{"a key with a long s", "bad_key", `{"v":1,"re\u017ftore":{` + inner + `}}`},
	{"two messages", "trailing_data", wake + wake},
	{"a bracket too many", "trailing_data", wake + `}`},
	{"no request", "not_one_request", `{"v":1}`},
	{"two requests", "not_one_request", strings.Replace(good, `"restore"`, `"wake":{"id":"","generation":0},"restore"`, 1)},
	{"an invalid restore", "invalid", strings.Replace(good, `"prod"`, `"{prod}"`, 1)},
	{"an invalid wake", "invalid", strings.Replace(wake, `:1}}`, `:0}}`, 1)},
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			m, err := Decode([]byte(c.payload))
			var de *DecodeError
			if !errors.As(err, &de) || de.Reason != c.reason {
				t.Fatalf("got %+v, %v; want reason %s", m, err, c.reason)
			}
			if errors.Is(err, ErrNewerVersion) != (c.reason == "newer_version") {
				t.Errorf("%v: newer version or not?", err)
			}
		})
	}
}

func TestDecodeBringsTimesToUTC(t *testing.T) {
	m, err := Decode([]byte(good + "\n"))
	if err != nil || m.Restore.AskedAt.Location() != time.UTC || m.Restore.AskedAt.Hour() != 12 {
		t.Errorf("got %+v, %v", m.Restore, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(wake))
	f.Add([]byte(strings.Repeat("[", 20000)))
	for _, c := range refusals {
		f.Add([]byte(c.payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := Decode(payload)
		var de *DecodeError
		if err != nil {
			if !errors.As(err, &de) || !cmp.Equal(m, Message{}) {
				t.Fatalf("got %+v and %v", m, err)
			}
			return
		}
		once := encode(t, m)
		again, err := Decode(once)
		if err != nil || !bytes.Equal(encode(t, again), once) {
			t.Fatalf("%s was accepted, but its own form %s gives %v", payload, once, err)
		}
	})
}

func encode(t *testing.T, m Message) []byte {
	t.Helper()
	var payload []byte
	var err error
	if m.Restore != nil {
		payload, err = EncodeRestore(*m.Restore)
	} else {
		payload, err = EncodeWake(*m.Wake)
	}
	if err != nil {
		t.Fatal(err)
	}
	return payload
}
