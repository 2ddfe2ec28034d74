package vbs

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxMessage    = 300            // runes of Error.Message
	maxCode       = 64             // runes of Error.Code
	maxID         = 128            // runes of Error.RequestID
	maxRetryAfter = 24 * time.Hour // longer ones are cut to this
)

// ParseAnswer reads an answer that is not the one hoped for. It never fails:
// what it does not understand is a gateway's answer, judged by its status
// alone. It knows the four forms of body that clouds send:
//
//	{"badRequest": {"code": 400, "message": …}}              Cinder
//	{"error": {"code": 401, "title": …, "message": …}}       Keystone and its middleware
//	{"error": {"code": "VolumeBackup.0206", "message": …}}   the VBS front end
//	{"error_code": "APIG.0308", "error_msg": …}              the API gateway
//
// and text or HTML, of which it keeps the words. Executed is filled in as for a
// restore POST.
func ParseAnswer(op string, status int, header http.Header, body []byte) *Error {
	e := &Error{Op: op, Status: status, Answerer: Gateway}
	e.CloudTime = dateOf(header)
	e.RequestID = oneLine(requestID(header), maxID)
	e.RetryAfter, e.HasRetryAfter = retryAfter(header.Get("Retry-After"), e.CloudTime)
	if !e.parseJSON(header, body) {
		e.parseText(body)
	}
	if status == 401 && strings.HasPrefix(header.Get("WWW-Authenticate"), "Keystone") {
		e.Answerer = Keystone
	}
	e.Executed = executed(e)
	return e
}

// fault is the inner object of most error bodies.
type fault struct {
	Code       json.RawMessage `json:"code"`
	Title      text            `json:"title"`
	Message    text            `json:"message"`
	RetryAfter text            `json:"retryAfter"`
}

func (e *Error) parseJSON(header http.Header, body []byte) bool {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) != nil || len(outer) == 0 {
		return false
	}
	if e.parseGateway(outer) {
		return true
	}
	for _, name := range slices.Sorted(maps.Keys(outer)) {
		var f fault
		if json.Unmarshal(outer[name], &f) != nil || (f.Message == "" && f.Code == nil) {
			continue
		}
		e.parseFault(name, f, header)
		return true
	}
	return false
}

// parseGateway reads the flat form of the API gateway.
func (e *Error) parseGateway(outer map[string]json.RawMessage) bool {
	code, message := textOf(outer["error_code"]), textOf(outer["error_msg"])
	if code == "" && message == "" {
		return false
	}
	e.Code, e.Message = serviceCode(code), oneLine(message, maxMessage)
	if e.RequestID == "" {
		e.RequestID = oneLine(textOf(outer["request_id"]), maxID)
	}
	return true
}

func (e *Error) parseFault(name string, f fault, header http.Header) {
	e.Message = oneLine(string(f.Message), maxMessage)
	code := textOf(f.Code)
	number := isNumber(code)
	if !number {
		e.Code = serviceCode(code)
	}
	if !e.HasRetryAfter && f.RetryAfter != "" {
		e.RetryAfter, e.HasRetryAfter = retryAfter(string(f.RetryAfter), e.CloudTime)
	}
	switch {
	case name == "error":
		if number || f.Title != "" {
			e.Answerer = Keystone
		}
	case faultName.MatchString(name):
		e.Fault = faultOf(name)
		if e.Code == "" && header.Get("X-Compute-Request-Id") != "" {
			e.Answerer = Cinder
		}
	}
}

var faultName = regexp.MustCompile(`^[a-z][A-Za-z]{2,40}$`)

// faultOf gives the names their usual spelling: EVS documents "badrequest".
func faultOf(name string) string {
	for _, usual := range []string{"badRequest", "itemNotFound", "computeFault", "overLimit"} {
		if strings.EqualFold(name, usual) {
			return usual
		}
	}
	return name
}

func (e *Error) parseText(body []byte) {
	if bytes.Contains(body, []byte("The Keystone service is temporarily unavailable")) && e.Status == 503 {
		e.Answerer = Keystone
		e.Message = "The Keystone service is temporarily unavailable."
		return
	}
	s := string(body[:min(len(body), 8<<10)])
	if i := strings.Index(strings.ToLower(s), "<body"); i >= 0 && i < len(s) {
		s = s[i:]
	}
	e.Message = oneLine(tag.ReplaceAllString(s, " "), maxMessage)
}

var tag = regexp.MustCompile(`(?s)<!--.*?-->|<[^>]*>`)

// executed judges a restore POST by its answer. Codes go before statuses: the
// HTTP status of a VBS code is not documented.
func executed(e *Error) Executed {
	switch e.Code {
	case "VolumeBackup.0012", "VolumeBackup.0013", "VolumeBackup.0014", "VolumeBackup.0089",
		"VolumeBackup.0201", "VolumeBackup.0205", "VolumeBackup.0206":
		return ExecutedMaybe // busy: perhaps with our own request, replayed by a balancer
	case "APIG.0301", "APIG.0308", "Common.0013", "AutoBackup.0003":
		return ExecutedNo // turned away at the door
	}
	switch e.Status {
	case 400:
		if strings.Contains(e.Message, "must be available") {
			return ExecutedMaybe
		}
		return ExecutedNo
	case 300, 301, 302, 303, 305, 307, 308,
		401, 402, 403, 404, 405, 406, 407, 410, 411, 413, 414, 415, 417,
		421, 422, 426, 428, 429, 431, 498:
		return ExecutedNo
	}
	return ExecutedMaybe
}

// servicePrefix holds the canonical spelling of the prefixes of service codes.
// "VBS.0002" and "VolumeBackup.0002" are the same code; the digits alone are
// not enough, AutoBackup uses the same numbers for other things.
var servicePrefix = map[string]string{
	"volumebackup": "VolumeBackup", "vbs": "VolumeBackup", "autobackup": "AutoBackup",
	"common": "Common", "apig": "APIG", "evs": "EVS",
}

func serviceCode(s string) string {
	s = oneLine(s, maxCode)
	prefix, number, ok := strings.Cut(s, ".")
	if usual := servicePrefix[strings.ToLower(prefix)]; ok && usual != "" {
		return usual + "." + number
	}
	return s
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// oneLine makes text of a stranger fit for a log line and a terminal: valid
// UTF-8, blanks folded, nothing invisible, at most limit runes.
func oneLine(s string, limit int) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			blank = b.Len() > 0
			continue
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			continue
		}
		if blank {
			if n++; n >= limit {
				break
			}
			b.WriteByte(' ')
			blank = false
		}
		if n++; n > limit {
			break
		}
		if r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// requestID prefers the id that Cinder's messages carry.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Openstack-Request-Id", "X-Compute-Request-Id", "X-Request-Id"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

func dateOf(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// retryAfter reads seconds, or an HTTP date counted from the answer's own Date.
// Without a Date header a date says nothing, as our clock need not be theirs.
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	if strings.Trim(s, "0123456789") == "" {
		seconds, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return maxRetryAfter, true
		}
		return min(time.Duration(seconds)*time.Second, maxRetryAfter), true
	}
	at, err := http.ParseTime(s)
	if err != nil || now.IsZero() {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}
