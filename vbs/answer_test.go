package vbs

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// ofCinder are the headers of a real Cinder 21.3.
func ofCinder(more ...string) http.Header {
	h := http.Header{"X-Compute-Request-Id": {requestUp}, "X-Openstack-Request-Id": {requestUp}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestParseAnswer(t *testing.T) {
	const html404 = "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  The resource could not be found.<br /><br />\n\n </body>\n</html>"
	const html503 = "<html>\n <head>\n  <title>503 Service Unavailable</title>\n </head>\n <body>\n  <h1>503 Service Unavailable</h1>\n  The server is currently unavailable. Please try again at a later time.<br /><br />\nThe Keystone service is temporarily unavailable.\n </body>\n</html>"
	date := "Mon, 23 Nov 2026 14:00:00 GMT"
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	no, maybe := ExecutedNo, ExecutedMaybe
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		want   Error
	}{
		{"busy backup", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Invalid backup: Backup status must be available"}}`,
			Error{Fault: "badRequest", Message: "Invalid backup: Backup status must be available", Answerer: Cinder, Executed: maybe}},
		{"busy volume", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Invalid volume: Volume to be restored to must be available"}}`,
			Error{Fault: "badRequest", Message: "Invalid volume: Volume to be restored to must be available", Answerer: Cinder, Executed: maybe}},
		{"volume too small", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Invalid volume: volume size 1 is too small to restore backup of size 2."}}`,
			Error{Fault: "badRequest", Message: "Invalid volume: volume size 1 is too small to restore backup of size 2.", Answerer: Cinder, Executed: no}},
		{"invalid size", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Invalid backup: Backup to be restored has invalid size"}}`,
			Error{Fault: "badRequest", Message: "Invalid backup: Backup to be restored has invalid size", Answerer: Cinder, Executed: no}},
		{"schema", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Additional properties are not allowed ('foo' was unexpected)"}}`,
			Error{Fault: "badRequest", Message: "Additional properties are not allowed ('foo' was unexpected)", Answerer: Cinder, Executed: no}},
		{"project of the URL", 400, ofCinder(), `{"badRequest": {"code": 400, "message": "Malformed request url"}}`,
			Error{Fault: "badRequest", Message: "Malformed request url", Answerer: Cinder, Executed: no}},
		{"no backup", 404, ofCinder(), `{"itemNotFound": {"code": 404, "message": "Backup b could not be found."}}`,
			Error{Fault: "itemNotFound", Message: "Backup b could not be found.", Answerer: Cinder, Executed: no}},
		{"no backup service", 404, ofCinder(), `{"itemNotFound": {"code": 404, "message": "Service cinder-backup could not be found."}}`,
			Error{Fault: "itemNotFound", Message: "Service cinder-backup could not be found.", Answerer: Cinder, Executed: no}},
		{"policy", 403, ofCinder(), `{"forbidden": {"code": 403, "message": "Policy doesn't allow backup:restore to be performed."}}`,
			Error{Fault: "forbidden", Message: "Policy doesn't allow backup:restore to be performed.", Answerer: Cinder, Executed: no}},
		{"conflict", 409, ofCinder(), `{"conflictingRequest": {"code": 409, "message": "busy"}}`,
			Error{Fault: "conflictingRequest", Message: "busy", Answerer: Cinder, Executed: maybe}},
		{"quota", 413, ofCinder("Retry-After", "0"), `{"overLimit": {"code": 413, "message": "Maximum number of volumes allowed (1) exceeded for quota 'volumes'.", "retryAfter": "0"}}`,
			Error{Fault: "overLimit", Message: "Maximum number of volumes allowed (1) exceeded for quota 'volumes'.", HasRetryAfter: true, Answerer: Cinder, Executed: no}},
		{"rate limit in the body alone", 413, ofCinder(), `{"overLimit": {"code": 413, "message": "slower", "retryAfter": 17}}`,
			Error{Fault: "overLimit", Message: "slower", RetryAfter: 17 * time.Second, HasRetryAfter: true, Answerer: Cinder, Executed: no}},
		{"legacy rate limiter", 413, ofCinder("Retry-After", "3"), `{"overLimitFault": {"code": 413, "message": "This request was rate-limited.", "details": "x"}}`,
			Error{Fault: "overLimitFault", Message: "This request was rate-limited.", RetryAfter: 3 * time.Second, HasRetryAfter: true, Answerer: Cinder, Executed: no}},
		{"form content type", 415, ofCinder(), `{"badMediaType": {"code": 415, "message": "Unsupported Content-Type"}}`,
			Error{Fault: "badMediaType", Message: "Unsupported Content-Type", Answerer: Cinder, Executed: no}},
		{"microversion", 406, ofCinder(), `{"computeFault": {"code": 406, "message": "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70."}}`,
			Error{Fault: "computeFault", Message: "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70.", Answerer: Cinder, Executed: no}},
		{"broken database", 500, ofCinder(), `{"computeFault": {"code": 500, "message": "The server has either erred or is incapable of performing the requested operation."}}`,
			Error{Fault: "computeFault", Message: "The server has either erred or is incapable of performing the requested operation.", Answerer: Cinder, Executed: maybe}},
		{"a fault without Cinder's header", 500, nil, `{"computeFault": {"code": 500, "message": "x"}}`,
			Error{Fault: "computeFault", Message: "x", Answerer: Gateway, Executed: maybe}},
		{"unavailable", 503, ofCinder("Retry-After", "120"), `{"serviceUnavailable": {"code": 503, "message": "x"}}`,
			Error{Fault: "serviceUnavailable", Message: "x", RetryAfter: 2 * time.Minute, HasRetryAfter: true, Answerer: Cinder, Executed: maybe}},
		{"not implemented", 501, ofCinder(), `{"notImplemented": {"code": 501, "message": "x"}}`,
			Error{Fault: "notImplemented", Message: "x", Answerer: Cinder, Executed: maybe}},
		{"the middleware's 401", 401, http.Header{"Www-Authenticate": {`Keystone uri="http://127.0.0.1:5000"`}}, body401,
			Error{Message: "The request you have made requires authentication.", Answerer: Keystone, Executed: no}},
		{"the middleware's 401 to HEAD", 401, http.Header{"Www-Authenticate": {`Keystone uri="x"`}}, "",
			Error{Answerer: Keystone, Executed: no}},
		{"Keystone is away, HTML", 503, nil, html503,
			Error{Message: "The Keystone service is temporarily unavailable.", Answerer: Keystone, Executed: maybe}},
		{"Keystone is away, text", 503, nil, "The Keystone service is temporarily unavailable.\n",
			Error{Message: "The Keystone service is temporarily unavailable.", Answerer: Keystone, Executed: maybe}},
		{"no such route", 404, nil, html404,
			Error{Message: "404 Not Found The resource could not be found.", Answerer: Gateway, Executed: no}},
		{"gateway time-out", 504, nil, "<html><body><h1>504 Gateway Time-out</h1><!-- pad --></body></html>",
			Error{Message: "504 Gateway Time-out", Answerer: Gateway, Executed: maybe}},
		{"an empty 502", 502, nil, "", Error{Answerer: Gateway, Executed: maybe}},
		{"408", 408, nil, "", Error{Answerer: Gateway, Executed: maybe}},
		{"an unknown 4xx", 499, nil, "", Error{Answerer: Gateway, Executed: maybe}},
		{"VBS busy", 400, nil, `{"error": {"code": "VolumeBackup.0206", "message": "A backup is being created for the disk."}}`,
			Error{Code: "VolumeBackup.0206", Message: "A backup is being created for the disk.", Answerer: Gateway, Executed: maybe}},
		{"VBS's other prefix", 400, nil, `{"error": {"code": "vbs.0002", "message": "x"}}`,
			Error{Code: "VolumeBackup.0002", Message: "x", Answerer: Gateway, Executed: no}},
		{"VBS behind Cinder's form", 400, ofCinder(), `{"badRequest": {"code": "VolumeBackup.0209", "message": "x"}}`,
			Error{Fault: "badRequest", Code: "VolumeBackup.0209", Message: "x", Answerer: Gateway, Executed: no}},
		{"lower case of EVS", 400, nil, `{"badrequest": {"message": "XXXX", "code": "XXX"}}`,
			Error{Fault: "badRequest", Code: "XXX", Message: "XXXX", Answerer: Gateway, Executed: no}},
		{"EVS quota", 413, nil, `{"error": {"code": "EVS.5413", "message": "Insufficient volume quota."}}`,
			Error{Code: "EVS.5413", Message: "Insufficient volume quota.", Answerer: Gateway, Executed: no}},
		{"token as 400", 400, nil, `{"error": {"code": "common.0013", "message": "Invalid token in the header."}}`,
			Error{Code: "Common.0013", Message: "Invalid token in the header.", Answerer: Gateway, Executed: no}},
		{"token of AutoBackup", 400, nil, `{"error": {"code": "AutoBackup.0003", "message": "x"}}`,
			Error{Code: "AutoBackup.0003", Message: "x", Answerer: Gateway, Executed: no}},
		{"token at the gateway", 401, nil, `{"error_msg": "Incorrect IAM authentication information: token expires, expires_at: xxx", "error_code": "APIG.0301", "request_id": "r1"}`,
			Error{Code: "APIG.0301", Message: "Incorrect IAM authentication information: token expires, expires_at: xxx", RequestID: "r1", Answerer: Gateway, Executed: no}},
		{"throttled", 429, nil, `{"error_msg": "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute", "error_code": "APIG.0308", "request_id": "r2"}`,
			Error{Code: "APIG.0308", Message: "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute", RequestID: "r2", Answerer: Gateway, Executed: no}},
		{"throttled with another status", 503, nil, `{"error_msg": "x", "error_code": "APIG.0308"}`,
			Error{Code: "APIG.0308", Message: "x", Answerer: Gateway, Executed: no}},
		{"Retry-After as a date", 429, http.Header{"Retry-After": {"Mon, 23 Nov 2026 14:01:30 GMT"}, "Date": {date}}, "",
			Error{RetryAfter: 90 * time.Second, HasRetryAfter: true, Answerer: Gateway, Executed: no, CloudTime: at}},
		{"Retry-After in the past", 429, http.Header{"Retry-After": {"Mon, 23 Nov 2026 13:01:30 GMT"}, "Date": {date}}, "",
			Error{HasRetryAfter: true, Answerer: Gateway, Executed: no, CloudTime: at}},
		{"Retry-After as a date without Date", 429, http.Header{"Retry-After": {date}}, "", Error{Answerer: Gateway, Executed: no}},
		{"Retry-After of an age", 429, http.Header{"Retry-After": {"99999999999999999999"}}, "",
			Error{RetryAfter: 24 * time.Hour, HasRetryAfter: true, Answerer: Gateway, Executed: no}},
		{"Retry-After negative", 429, http.Header{"Retry-After": {"-5"}}, "", Error{Answerer: Gateway, Executed: no}},
		{"control characters", 500, nil, "a\x00b\x1b[31m\r\nc\u202ed\xff", Error{Message: "ab[31m cd?", Answerer: Gateway, Executed: maybe}},
		{"two objects", 400, nil, `{"z": {"message": "second"}, "error": {"code": "VBS.0012", "message": "first"}}`,
			Error{Code: "VolumeBackup.0012", Message: "first", Answerer: Gateway, Executed: maybe}},
		{"a redirect", 302, nil, "", Error{Answerer: Gateway, Executed: no}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ParseAnswer("op", tt.status, tt.header, []byte(tt.body))
			tt.want.Op, tt.want.Status = "op", tt.status
			if tt.want.RequestID == "" && tt.header.Get("X-Compute-Request-Id") != "" {
				tt.want.RequestID = requestUp
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBusyCodesProveNothing(t *testing.T) {
	for _, digits := range []string{"0012", "0013", "0014", "0089", "0201", "0205", "0206"} {
		for _, prefix := range []string{"VolumeBackup.", "VBS."} {
			e := ParseAnswer("op", 400, nil, fmt.Appendf(nil, `{"error": {"code": %q, "message": "x"}}`, prefix+digits))
			if e.Executed != ExecutedMaybe || e.Code != "VolumeBackup."+digits {
				t.Errorf("%s%s: %+v", prefix, digits, e)
			}
		}
	}
}

func TestErrorReadsAsASentence(t *testing.T) {
	for want, e := range map[string]*Error{
		"restore backup B onto volume V: 409 VolumeBackup.0206 by gateway: A backup is being created (req-1)": {
			Op: "restore backup B onto volume V", Status: 409, Code: "VolumeBackup.0206",
			Message: "A backup is being created", RequestID: "req-1", Answerer: Gateway},
		"get volume V: 404 itemNotFound by cinder: Volume V could not be found.": {
			Op: "get volume V", Status: 404, Fault: "itemNotFound", Message: "Volume V could not be found.", Answerer: Cinder},
		"ping: no answer: EOF": {Op: "ping", Err: errors.New("EOF")},
		"ping: 502 by gateway": {Op: "ping", Status: 502, Answerer: Gateway},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestIsGoneIsCinderSpeakingOfTheThing(t *testing.T) {
	item := func(message string) *Error {
		return ParseAnswer("op", 404, nil, fmt.Appendf(nil, `{"itemNotFound": {"code": 404, "message": %q}}`, message))
	}
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"backup", item("Backup " + backupID + " could not be found."), true},
		{"volume", item("Volume " + volumeID + " could not be found."), true},
		{"wrapped", fmt.Errorf("look: %w", item("Volume v could not be found.")), true},
		{"service", item("Service cinder-backup could not be found."), false},
		{"HTML", ParseAnswer("op", 404, nil, []byte("<html>Volume v could not be found.</html>")), false},
		{"gateway", ParseAnswer("op", 404, nil, []byte(`{"error_code": "APIG.0101", "error_msg": "The API does not exist"}`)), false},
		{"other status", &Error{Status: 400, Fault: "itemNotFound", Message: "Volume v could not be found."}, false},
		{"nil", nil, false},
	}
	for _, tt := range tests {
		if got := IsGone(tt.err); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(400, "0", "", []byte(`{"badRequest": {"code": 400, "message": "x"}}`))
	f.Add(401, "", "Mon, 23 Nov 2026 14:00:00 GMT", []byte(body401))
	f.Add(429, "Mon, 23 Nov 2026 14:00:00 GMT", "", []byte(`{"error_msg": "m", "error_code": "APIG.0308", "request_id": "r"}`))
	f.Add(504, "-1", "x", []byte("<html><body>504</body>"))
	f.Add(400, "", "", []byte(`{"error": {"code": "VBS.0206", "message": ["a"]}}`))
	f.Add(500, "", "", []byte("\xff\xfe<BODY"))
	f.Fuzz(func(t *testing.T, status int, retry, date string, body []byte) {
		h := http.Header{"Retry-After": {retry}, "Date": {date}, "X-Request-Id": {retry}}
		e := ParseAnswer("op", status, h, body)
		for what, s := range map[string]string{"message": e.Message, "code": e.Code, "request id": e.RequestID} {
			if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxMessage || strings.TrimSpace(s) != s ||
				strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%s %q is not one clean line", what, s)
			}
		}
		if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter || (e.RetryAfter > 0 && !e.HasRetryAfter) {
			t.Errorf("retry after %v, %v", e.RetryAfter, e.HasRetryAfter)
		}
		if e.Answerer == Nobody || e.Answerer == Cinder {
			t.Errorf("answered by %s without Cinder's header", e.Answerer)
		}
		if e.Status != status || e.Error() == "" {
			t.Errorf("got %+v", e)
		}
	})
}
