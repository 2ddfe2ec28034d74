package simulator

import (
	"slices"
	"time"
)

// A message is what a user may read about a failed restore. Only Cinder 19 and
// later write them.
type message struct {
	ID, EventID, Text, RequestID string
	ResourceType, ResourceID     string
	Created                      time.Time
}

// tell writes a message. Action 015 is restore.
func (c *Cloud) tell(j *job, resourceType, resourceID, detail, text string) {
	m := &message{
		ID: c.newID(), EventID: "VOLUME_" + resourceType + "_015_" + detail,
		Text: "restore backup:" + text, RequestID: j.CloudRequestID,
		ResourceType: resourceType, ResourceID: resourceID, Created: c.now,
	}
	c.messages = append(c.messages, m)
	c.dirtyMessage(m)
}

type messageJSON struct {
	ID              string `json:"id"`
	EventID         string `json:"event_id"`
	UserMessage     string `json:"user_message"`
	MessageLevel    string `json:"message_level"`
	CreatedAt       string `json:"created_at"`
	GuaranteedUntil string `json:"guaranteed_until"`
	RequestID       string `json:"request_id"`
	Links           []link `json:"links"`
	ResourceType    string `json:"resource_type"`
	ResourceUUID    string `json:"resource_uuid"`
}

// listMessages answers GET messages: from microversion 3.3 on; filters and limit
// from 3.5 on, before that they are ignored.
func (c *Cloud) listMessages(q *request) answer {
	if q.minor < 3 || c.cfg.Pike {
		return q.notFoundRoute()
	}
	all := slices.Clone(c.messages)
	slices.Reverse(all)
	if q.minor >= 5 {
		if q.query.Get("sort") == "created_at:asc" {
			slices.Reverse(all)
		}
		all = slices.DeleteFunc(all, func(m *message) bool { return !q.wants(m) })
	}
	p, bad := parsePage(q.query)
	if bad != nil {
		return q.refused(bad)
	}
	if q.minor >= 5 {
		all = afterMarker(all, p.marker, func(m *message) string { return m.ID })
		all = all[min(p.offset, len(all)):]
	}
	all = all[:min(p.limit, len(all))]
	out := make([]messageJSON, 0, len(all))
	for _, m := range all {
		out = append(out, c.messageJSON(q, m))
	}
	return q.ok(200, map[string]any{"messages": out})
}

func (q *request) wants(m *message) bool {
	for name, value := range map[string]string{"resource_uuid": m.ResourceID, "request_id": m.RequestID,
		"resource_type": m.ResourceType, "event_id": m.EventID} {
		if want := q.query.Get(name); want != "" && want != value {
			return false
		}
	}
	return true
}

func (c *Cloud) messageJSON(q *request, m *message) messageJSON {
	return messageJSON{
		ID: m.ID, EventID: m.EventID, UserMessage: m.Text, MessageLevel: "ERROR",
		CreatedAt: c.stamp(m.Created), GuaranteedUntil: c.stamp(m.Created.Add(30 * 24 * time.Hour)),
		RequestID: m.RequestID, Links: q.links("messages", m.ID),
		ResourceType: m.ResourceType, ResourceUUID: m.ResourceID,
	}
}
