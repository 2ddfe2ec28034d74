package simulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// faultNames are Cinder's words for statuses; all others are computeFault.
var faultNames = map[int]string{
	400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
	409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 501: "notImplemented", 503: "serviceUnavailable",
}

func faultName(status int) string {
	if name, ok := faultNames[status]; ok {
		return name
	}
	return "computeFault"
}

// marshal writes JSON as Python does as to characters: <, > and & stay.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return []byte(`{"error":` + strconv.Quote(err.Error()) + `}`)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ok is a success of Cinder. A nil value is an empty body.
func (q *request) ok(status int, value any) answer {
	a := answer{status: status, header: q.cinderHeader()}
	if value != nil {
		a.body = marshal(value)
	}
	return a
}

type faultJSON struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// fault is an error of Cinder.
func (q *request) fault(status int, message string) answer {
	return q.ok(status, map[string]faultJSON{faultName(status): {Code: status, Message: message}})
}

func (q *request) refused(r *refusal) answer { return q.fault(r.status, r.message) }

// cinderHeader is on every answer of Cinder's own.
func (q *request) cinderHeader() http.Header {
	version := "volume 3." + strconv.Itoa(q.minor)
	ids := []string{q.id}
	return http.Header{
		"Content-Type":           {"application/json"},
		"X-Compute-Request-Id":   ids,
		"Openstack-Api-Version":  {version},
		"Vary":                   {"OpenStack-API-Version"},
		"X-Openstack-Request-Id": ids,
		"Connection":             {"close"},
	}
}

// doorHeader is on answers of what stands before Cinder's code: token check,
// router.
func (q *request) doorHeader(contentType string) http.Header {
	return http.Header{
		"Content-Type":           {contentType},
		"X-Openstack-Request-Id": {q.id},
		"Connection":             {"close"},
	}
}

// notFoundRoute is the answer of Cinder's router.
func (q *request) notFoundRoute() answer {
	return answer{status: 404, header: q.doorHeader("text/html; charset=UTF-8"),
		body: htmlPage("404 Not Found", "The resource could not be found.<br /><br />\n")}
}

func htmlPage(title, text string) []byte {
	return []byte("<html>\n <head>\n  <title>" + title + "</title>\n </head>\n <body>\n  <h1>" + title + "</h1>\n  " +
		text + "\n\n\n </body>\n</html>")
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// links point at this server without native/, whichever way the request came.
func (q *request) links(collection, id string) []link {
	pid := q.cloud.cfg.ProjectID
	return []link{
		{"self", q.base + "/v3/" + pid + "/" + collection + "/" + id},
		{"bookmark", q.base + "/" + pid + "/" + collection + "/" + id},
	}
}

// stamp is a time on the wire: UTC, no zone, six digits which MariaDB leaves zero.
func (c *Cloud) stamp(t time.Time) string {
	if !c.cfg.Fractional {
		t = t.Truncate(time.Second)
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// stampOrNull is a time that may not have happened.
func (c *Cloud) stampOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := c.stamp(t)
	return &s
}

// listVersions answers GET /.
func (c *Cloud) listVersions(q *request) answer {
	if q.method != "GET" {
		return q.notFoundRoute()
	}
	top := maxMinor
	if c.cfg.Pike {
		top = maxMinorPike
	}
	return q.ok(300, map[string]any{"versions": []any{map[string]any{
		"id": "v3.0", "status": "CURRENT", "version": "3." + strconv.Itoa(top), "min_version": "3.0",
		"updated": "2022-08-31T00:00:00Z",
		"links":   []link{{"describedby", "https://docs.openstack.org/"}, {"self", q.base + "/v3/"}},
		"media-types": []any{map[string]string{"base": "application/json",
			"type": "application/vnd.openstack.volume+json;version=3"}},
	}}})
}

// tellExecutions answers GET /simulator/executions.
func (c *Cloud) tellExecutions(q *request) answer {
	out := make([]Execution, 0, len(c.executions))
	for _, j := range c.executions {
		out = append(out, j.Execution)
	}
	return answer{status: 200, header: q.doorHeader("application/json"), body: marshal(out)}
}

// tellCalls answers GET /simulator/calls.
func (c *Cloud) tellCalls(q *request) answer {
	return answer{status: 200, header: q.doorHeader("application/json"), body: marshal(c.calls)}
}
