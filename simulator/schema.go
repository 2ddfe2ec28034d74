package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// wanted is the body of a restore: {"restore": {"volume_id": …, "name": …}}.
type wanted struct{ VolumeID, Name string }

// parseRestore checks the body of a restore as Cinder's JSON schema does, with
// its messages.
func parseRestore(q *request) (wanted, *refusal) {
	if !q.hasBody() {
		return wanted{}, refuse(500, wentWrong)
	}
	if w, ok := plainRestore(q.body); ok {
		return w, nil
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(q.body, &top) != nil {
		return wanted{}, refuse(400, "Malformed request body")
	}
	inner, ok := top["restore"]
	if !ok {
		return wanted{}, refuse(400, "'restore' is a required property")
	}
	if extra := unexpected(q.body, "restore"); extra != "" {
		return wanted{}, refuse(400, "%s", extra)
	}
	return parseInner(inner)
}

// plainRestore reads the body nearly everybody sends, without the care that
// messages about other bodies need.
func plainRestore(body []byte) (wanted, bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"restore":{"volume_id":"`))
	if !ok || len(rest) != 36+len(`"}}`) || string(rest[36:]) != `"}}` || !likeUUID(string(rest[:36])) {
		return wanted{}, false
	}
	return wanted{VolumeID: string(rest[:36])}, true
}

func parseInner(inner json.RawMessage) (wanted, *refusal) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(inner, &fields) != nil {
		return wanted{}, invalidField("restore", inner, "%s is not of type 'object', 'null'", pythonOf(inner))
	}
	if fields == nil { // null passes the schema, and the handler falls over it
		return wanted{}, refuse(500, wentWrong)
	}
	if extra := unexpected(inner, "volume_id", "name"); extra != "" {
		return wanted{}, invalidField("restore", inner, "%s", extra)
	}
	var w wanted
	if raw, ok := fields["name"]; ok && json.Unmarshal(raw, &w.Name) != nil {
		return w, invalidField("name", raw, "%s is not of type 'string', 'null'", pythonOf(raw))
	}
	raw, ok := fields["volume_id"]
	if ok && string(raw) != "null" && (json.Unmarshal(raw, &w.VolumeID) != nil || !likeUUID(w.VolumeID)) {
		return w, invalidField("volume_id", raw, "%s is not valid under any of the given schemas", pythonOf(raw))
	}
	return w, nil
}

func invalidField(name string, raw json.RawMessage, format string, args ...any) *refusal {
	value := pythonOf(raw)
	if strings.HasPrefix(value, "'") {
		value = strings.Trim(value, "'")
	}
	return refuse(400, "Invalid input for field/attribute %s. Value: %s. %s", name, value, fmt.Sprintf(format, args...))
}

// unexpected is the schema's message about keys that may not be there, "" if none.
func unexpected(object []byte, allowed ...string) string {
	var extra []string
	for _, k := range objectKeys(object) {
		if !slices.Contains(allowed, k) {
			extra = append(extra, "'"+k+"'")
		}
	}
	switch len(extra) {
	case 0:
		return ""
	case 1:
		return "Additional properties are not allowed (" + extra[0] + " was unexpected)"
	}
	return "Additional properties are not allowed (" + strings.Join(extra, ", ") + " were unexpected)"
}

// likeUUID is oslo's is_uuid_like: hyphens and case do not matter.
func likeUUID(s string) bool {
	s = strings.ToLower(strings.ReplaceAll(s, "-", ""))
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

func validObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) && json.Valid(body)
}

// objectKeys gives the keys of a JSON object in their order.
func objectKeys(object []byte) []string {
	var keys []string
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return keys
		}
		keys = append(keys, fmt.Sprint(k))
		var skip json.RawMessage
		if d.Decode(&skip) != nil {
			return keys
		}
	}
	return keys
}

// pythonOf writes a JSON value as Python's repr would: Cinder's messages quote the
// input so.
func pythonOf(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "None"
	}
	switch raw[0] {
	case '{':
		return pythonDict(raw)
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return "[]"
		}
		parts := make([]string, len(items))
		for i, item := range items {
			parts[i] = pythonOf(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return string(raw)
		}
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
	}
	if word, ok := map[string]string{"null": "None", "true": "True", "false": "False"}[string(raw)]; ok {
		return word
	}
	return string(raw)
}

func pythonDict(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return "{}"
	}
	var parts []string
	for _, k := range objectKeys(raw) {
		parts = append(parts, "'"+k+"': "+pythonOf(fields[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
