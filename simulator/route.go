package simulator

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// request is one HTTP request, however it came in.
type request struct {
	method string
	path   []string
	query  url.Values
	header http.Header
	body   []byte
	base   string // of URLs in the answer

	kind   string // restore, volume, volumes, backup, backups, messages, token …
	target string // the id in the path, if any
	id     string // x-openstack-request-id of the answer
	minor  int    // microversion 3.minor
	plan   plan   // what a fault does to a restore
	cloud  *Cloud
}

// answer is what goes back, and how.
type answer struct {
	status int
	header http.Header
	body   []byte
	manner
}

// route finds out what is asked for: the kind, the id and the handler. A nil
// handler is an unknown route.
func (q *request) route() func(*Cloud, *request) answer {
	p := q.path
	switch {
	case len(p) == 0:
		return q.is("versions", (*Cloud).listVersions)
	case p[0] == "simulator" && len(p) == 2:
		return q.routeTruth(p[1])
	case p[0] != "v3":
		return q.is("unknown", nil)
	case len(p) == 1:
		return q.is("identity", (*Cloud).identityVersion)
	case p[1] == "auth":
		return q.routeIdentity(p[2:])
	case len(p) >= 4 && p[2] == "native" && p[3] == "backups":
		return q.routeBackups(p[4:])
	case len(p) >= 3 && p[2] == "backups":
		return q.routeBackups(p[3:])
	case len(p) >= 3 && p[2] == "volumes":
		return q.routeVolumes(p[3:])
	case len(p) == 3 && p[2] == "messages" && q.method == "GET":
		return q.is("messages", (*Cloud).listMessages)
	}
	return q.is("unknown", nil)
}

func (q *request) is(kind string, h func(*Cloud, *request) answer) func(*Cloud, *request) answer {
	q.kind = kind
	return h
}

func (q *request) routeTruth(what string) func(*Cloud, *request) answer {
	switch what {
	case "executions":
		return q.is("simulator", (*Cloud).tellExecutions)
	case "calls":
		return q.is("simulator", (*Cloud).tellCalls)
	}
	return q.is("unknown", nil)
}

func (q *request) routeIdentity(p []string) func(*Cloud, *request) answer {
	switch {
	case len(p) != 1 || p[0] != "tokens":
		return q.is("unknown", nil)
	case q.method == "POST":
		return q.is("token", (*Cloud).openToken)
	case q.method == "GET":
		return q.is("token", (*Cloud).showToken)
	case q.method == "DELETE":
		return q.is("token", (*Cloud).revokeToken)
	}
	return q.is("token", nil)
}

func (q *request) routeBackups(p []string) func(*Cloud, *request) answer {
	switch {
	case len(p) == 0 && q.method == "GET", len(p) == 1 && p[0] == "detail" && q.method == "GET":
		return q.is("backups", (*Cloud).listBackups)
	case len(p) == 1:
		q.target = p[0]
		switch q.method {
		case "GET":
			return q.is("backup", (*Cloud).showBackup)
		case "DELETE":
			return q.is("backup", (*Cloud).deleteBackup)
		}
	case len(p) == 2 && p[1] == "restore" && q.method == "POST":
		q.target = p[0]
		return q.is("restore", (*Cloud).restore)
	case len(p) == 2 && p[1] == "action" && q.method == "POST":
		q.target = p[0]
		return q.is("backup action", (*Cloud).actOnBackup)
	}
	return q.is("unknown", nil)
}

func (q *request) routeVolumes(p []string) func(*Cloud, *request) answer {
	switch {
	case len(p) == 0 && q.method == "POST":
		return q.is("volumes", (*Cloud).createVolume)
	case len(p) == 0 && q.method == "GET", len(p) == 1 && p[0] == "detail" && q.method == "GET":
		return q.is("volumes", (*Cloud).listVolumes)
	case len(p) == 1:
		q.target = p[0]
		switch q.method {
		case "GET":
			return q.is("volume", (*Cloud).showVolume)
		case "DELETE":
			return q.is("volume", (*Cloud).deleteVolume)
		}
	case len(p) == 2 && p[1] == "action" && q.method == "POST":
		q.target = p[0]
		return q.is("volume action", (*Cloud).actOnVolume)
	}
	return q.is("unknown", nil)
}

// detail says whether a listing asks for whole rows.
func (q *request) detail() bool { return q.path[len(q.path)-1] == "detail" }

// serve answers a request: the door's faults first, then the service.
func (c *Cloud) serve(q *request) answer {
	c.enter()
	defer c.leave()
	q.cloud, q.id = c, c.newRequestID()
	handler := q.route()
	c.calls[q.method+" "+q.kind]++
	if c.closed {
		return answer{manner: manner{cut: cutEOF}}
	}
	a := c.withFault(q, func() answer { return c.handle(q, handler) })
	if c.flush() != nil { // not kept, so not promised: as a Cinder without its database
		a = q.fault(500, wentWrong)
	}
	if !c.cfg.NoDate {
		a.header["Date"] = []string{c.clock().Format(http.TimeFormat)}
	}
	return a
}

const wentWrong = "The server has either erred or is incapable of performing the requested operation."

// handle is the service behind the door: token, route, microversion, body,
// project, then the handler, in Cinder's order.
func (c *Cloud) handle(q *request, handler func(*Cloud, *request) answer) answer {
	switch q.kind {
	case "versions", "simulator", "identity", "token":
		if handler == nil {
			return q.notFoundRoute()
		}
		return handler(c, q)
	}
	if a, bad := c.checkToken(q); bad {
		return a
	}
	if handler == nil {
		return q.notFoundRoute()
	}
	if r := q.chooseVersion(); r != nil {
		return q.refused(r)
	}
	if r := q.checkBody(); r != nil {
		return q.refused(r)
	}
	if q.path[1] != c.cfg.ProjectID {
		return q.fault(400, "Malformed request url")
	}
	a := handler(c, q)
	c.advance(c.now)
	return a
}

const maxMinor, maxMinorPike = 70, 45

// chooseVersion reads the header OpenStack-API-Version: "volume 3.NN" or "volume
// latest"; those of other services do not matter.
func (q *request) chooseVersion() *refusal {
	top := maxMinor
	if q.cloud.cfg.Pike {
		top = maxMinorPike
	}
	for part := range strings.SplitSeq(q.header.Get("OpenStack-API-Version"), ",") {
		f := strings.Fields(part)
		if len(f) != 2 || f[0] != "volume" {
			continue
		}
		if f[1] == "latest" {
			q.minor = top
			return nil
		}
		major, minor, _ := strings.Cut(f[1], ".")
		n, err := strconv.Atoi(minor)
		if _, merr := strconv.Atoi(major); err != nil || merr != nil || n < 0 {
			return refuse(400, "API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", f[1])
		}
		q.minor = n
		if major != "3" || n > top {
			return refuse(406, "Version %s is not supported by the API. Minimum is 3.0 and maximum is 3.%d.", f[1], top)
		}
	}
	return nil
}

// checkBody looks at what every POST needs before anything else.
func (q *request) checkBody() *refusal {
	if q.method != "POST" || len(q.body) == 0 {
		return nil
	}
	switch kind, _, _ := strings.Cut(q.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) {
	case "":
		return nil // Cinder takes the body for absent, and fails over that later
	case "application/json", "application/vnd.openstack.volume+json":
		if !validObject(q.body) {
			return refuse(400, "Malformed request body")
		}
		return nil
	}
	return refuse(415, "Unsupported Content-Type")
}

// hasBody says whether Cinder sees a body.
func (q *request) hasBody() bool { return len(q.body) > 0 && q.header.Get("Content-Type") != "" }
