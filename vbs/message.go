package vbs

import (
	"context"
	"encoding/json"
	"net/url"
	"time"
)

// A MessageQuery selects user messages; empty fields select all.
type MessageQuery struct {
	RequestID  string // x-openstack-request-id of the call that failed later
	ResourceID string // the backup; for VOLUME_INVALID_STATE the volume
	Since      time.Time
}

// A Message is Cinder's note to the user about something that failed after its
// 202. For a failed restore it is the only place where the reason is told.
type Message struct {
	ID, EventID string
	Text        string // one line, for example "restore backup:Backup driver failed to restore backup."
	Level       string // "ERROR"
	RequestID   string
	ResourceID  string
	Created     time.Time // UTC
}

type messageJSON struct {
	ID         text   `json:"id"`
	EventID    text   `json:"event_id"`
	Text       text   `json:"user_message"`
	Level      text   `json:"message_level"`
	RequestID  text   `json:"request_id"`
	ResourceID text   `json:"resource_uuid"`
	Created    moment `json:"created_at"`
}

// Messages returns the user messages of the query, the newest first, at most
// one page of the cloud (1000). Cinder has them from microversion 3.3 on and
// filters them from 3.5 on; we filter, too. If the cloud has none the error
// wraps [ErrNoMessages].
func (c *Client) Messages(ctx context.Context, q MessageQuery) ([]Message, error) {
	filters := query("request_id", q.RequestID, "resource_uuid", q.ResourceID)
	all, e := c.messages(ctx, "3.5", filters)
	if e != nil && (e.Status == 406 || e.Status == 400) {
		all, e = c.messages(ctx, "3.3", nil)
	}
	if e != nil && (e.Status == 406 || e.Status == 404) {
		e.Err = ErrNoMessages
	}
	if e != nil {
		return nil, e
	}
	var out []Message
	for _, j := range all {
		m := Message{
			ID: string(j.ID), EventID: string(j.EventID), Text: oneLine(string(j.Text), maxMessage), Level: string(j.Level),
			RequestID: string(j.RequestID), ResourceID: string(j.ResourceID), Created: j.Created.Time,
		}
		if q.wants(m) {
			out = append(out, m)
		}
	}
	return out, nil
}

func (q MessageQuery) wants(m Message) bool {
	return (q.RequestID == "" || m.RequestID == q.RequestID) &&
		(q.ResourceID == "" || m.ResourceID == q.ResourceID) &&
		!m.Created.Before(q.Since)
}

func (c *Client) messages(ctx context.Context, microversion string, filters url.Values) ([]messageJSON, *Error) {
	what := call{op: "list messages", url: c.volumes + "messages", limit: maxListing, microversion: microversion}
	if len(filters) > 0 {
		what.url += "?" + filters.Encode()
	}
	var body map[string]json.RawMessage
	a, e := c.get(ctx, what, &body)
	if e != nil {
		return nil, e
	}
	var all []messageJSON
	if raw, ok := body["messages"]; !ok || json.Unmarshal(raw, &all) != nil {
		return nil, unreadable(what.op, a, errNoList("messages"))
	}
	return all, nil
}
