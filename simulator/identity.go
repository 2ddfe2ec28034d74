package simulator

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"
)

const (
	userID   = "4e1608ec1e2345ae86f8f07f7398768f"
	domainID = "default"
	region   = "RegionOne"
)

// token is one that was given out.
type token struct {
	issued, expires time.Time
	methods         []string
	scoped          bool
	dead            Shape // how its end is told; "" as Keystone's middleware does
}

// newID gives a fresh UUID out of the seed.
func (c *Cloud) newID() string {
	var u uuid.UUID
	for i := range 2 {
		n := c.rng.Uint64()
		for k := range 8 {
			u[8*i+k] = byte(n >> (8 * k))
		}
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u.String()
}

func (c *Cloud) newRequestID() string { return "req-" + c.newID() }

var requestIDForm = regexp.MustCompile(`^req-[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$`)

// globalID is the caller's request id, if it has the form Cinder accepts.
func (q *request) globalID() string {
	if id := q.header.Get("X-Openstack-Request-Id"); requestIDForm.MatchString(id) {
		return id
	}
	return ""
}

// checkToken is Keystone's middleware in front of Cinder. It says whether its
// answer is to be given.
func (c *Cloud) checkToken(q *request) (answer, bool) {
	t, ok := c.tokens[q.header.Get("X-Auth-Token")]
	if ok && t.dead != "" {
		return q.deadToken(t.dead), true
	}
	if !ok || !t.scoped || !c.now.Before(t.expires) {
		return q.deadToken(ShapeKeystone), true
	}
	return answer{}, false
}

// deadToken is how a token's end is told.
func (q *request) deadToken(shape Shape) answer {
	switch shape {
	case ShapeCommon:
		return q.gateway(400, map[string]any{"error": map[string]string{
			"code": "Common.0013", "message": "Invalid token in the header."}})
	case ShapeGateway:
		return q.gateway(401, map[string]any{"error_code": "APIG.0301", "request_id": q.gatewayID(),
			"error_msg": "Incorrect IAM authentication information: token expires, expires_at: " + q.cloud.stamp(q.cloud.now) + "Z"})
	}
	a := answer{status: 401, header: q.doorHeader("application/json"), body: marshal(map[string]any{"error": keystoneError{
		Code: 401, Title: "Unauthorized", Message: "The request you have made requires authentication."}})}
	a.header.Set("WWW-Authenticate", fmt.Sprintf("Keystone uri=%q", q.base))
	return a
}

type keystoneError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Title   string `json:"title"`
}

// keystone is an answer of Keystone's own.
func (q *request) keystone(status int, value any) answer {
	a := answer{status: status, header: http.Header{
		"Content-Type":           {"application/json"},
		"Vary":                   {"X-Auth-Token"},
		"X-Openstack-Request-Id": {q.id},
	}}
	if value != nil {
		a.body = marshal(value)
	}
	return a
}

func (q *request) keystoneFault(status int, title, message string) answer {
	a := q.keystone(status, map[string]keystoneError{"error": {status, message, title}})
	if status == 401 {
		a.header.Set("WWW-Authenticate", fmt.Sprintf("Keystone uri=%q", q.base+"/v3"))
	}
	return a
}

func (q *request) unauthorized() answer {
	return q.keystoneFault(401, "Unauthorized", "The request you have made requires authentication.")
}

type authJSON struct {
	Auth *struct {
		Identity struct {
			Methods  []string
			Password struct {
				User struct {
					ID, Name, Password string
				}
			}
			ApplicationCredential struct{ ID, Name, Secret string } `json:"application_credential"`
		}
		Scope json.RawMessage // absent, an object, or "unscoped"
	}
}

const malformedAuth = " The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error."

// openToken answers POST /v3/auth/tokens.
func (c *Cloud) openToken(q *request) answer {
	var in authJSON
	if json.Unmarshal(q.body, &in) != nil {
		return q.keystoneFault(400, "Bad Request", "Expecting to find valid JSON in request body."+malformedAuth)
	}
	if in.Auth == nil {
		return q.keystoneFault(400, "Bad Request", "Expecting to find auth in request body."+malformedAuth)
	}
	scoped, known := c.scope(&in)
	if !known || !c.knows(&in) {
		return q.unauthorized()
	}
	t := &token{issued: c.now, expires: c.now.Add(c.cfg.TokenLife), methods: in.Auth.Identity.Methods, scoped: scoped}
	text := c.newTokenText()
	c.tokens[text] = t
	a := q.keystone(201, c.tokenJSON(q, t))
	a.header.Set("X-Subject-Token", text)
	return a
}

// newTokenText looks like a fernet token. It never comes from the seed alone: a
// cloud that was restarted must not give out the tokens of its predecessor.
func (c *Cloud) newTokenText() string {
	u := uuid.New()
	return "gAAAAAB" + hex.EncodeToString(u[:])
}

// knows checks the credentials.
func (c *Cloud) knows(in *authJSON) bool {
	id := in.Auth.Identity
	for _, m := range id.Methods {
		switch m {
		case "password":
			u := id.Password.User
			if u.Password != c.cfg.Password || u.Name != c.cfg.User && u.ID != userID {
				return false
			}
		case "application_credential":
			a := id.ApplicationCredential
			if a.Secret != c.cfg.Password || a.ID != c.cfg.User && a.Name != c.cfg.User {
				return false
			}
		default:
			return false
		}
	}
	return len(id.Methods) > 0
}

// scope says whether the token is for the project, and whether what was asked for
// exists. An application credential carries its project.
func (c *Cloud) scope(in *authJSON) (scoped, known bool) {
	for _, m := range in.Auth.Identity.Methods {
		if m == "application_credential" {
			return true, true
		}
	}
	var want struct {
		Project *struct{ ID, Name string }
	}
	if len(in.Auth.Scope) == 0 || json.Unmarshal(in.Auth.Scope, &want) != nil || want.Project == nil {
		return false, true
	}
	return true, want.Project.ID == c.cfg.ProjectID || want.Project.ID == "" && want.Project.Name == projectName
}

const projectName = "demo"

type tokenJSON struct {
	Methods   []string   `json:"methods"`
	User      any        `json:"user"`
	AuditIDs  []string   `json:"audit_ids"`
	ExpiresAt string     `json:"expires_at"`
	IssuedAt  string     `json:"issued_at"`
	Project   any        `json:"project,omitempty"`
	IsDomain  bool       `json:"is_domain"`
	Roles     []nameID   `json:"roles,omitempty"`
	Catalog   []offering `json:"catalog,omitempty"`
}

type nameID struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type offering struct {
	Endpoints []endpointJSON `json:"endpoints"`
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	Name      string         `json:"name"`
}

type endpointJSON struct {
	ID        string `json:"id"`
	Interface string `json:"interface"`
	RegionID  string `json:"region_id"`
	URL       string `json:"url"`
	Region    string `json:"region"`
}

func (c *Cloud) tokenJSON(q *request, t *token) any {
	out := tokenJSON{
		Methods: t.methods, AuditIDs: []string{"dm8AKLUDQhqEqZrMQ4fFbA"},
		ExpiresAt: c.stamp(t.expires) + "Z", IssuedAt: c.stamp(t.issued) + "Z",
		User: map[string]any{"domain": nameID{domainID, "Default"}, "id": userID, "name": c.cfg.User, "password_expires_at": nil},
	}
	if t.scoped {
		out.Project = map[string]any{"domain": nameID{domainID, "Default"}, "id": c.cfg.ProjectID, "name": projectName}
		out.Roles = []nameID{{"ed338a550d4649998ae56eb0d01cd3a1", "reader"}, {"5f61d7b682214addb37c149a783812d1", "member"}}
		out.Catalog = c.catalog(q)
	}
	return map[string]any{"token": out}
}

// catalog names this server for Keystone, Cinder and VBS.
func (c *Cloud) catalog(q *request) []offering {
	cinder := q.base + "/v3/" + c.cfg.ProjectID
	var out []offering
	for i, o := range []struct{ kind, name, url string }{
		{"identity", "keystone", q.base + "/v3"},
		{"block-storage", "cinder", cinder},
		{"volumev3", "cinderv3", cinder},
		{"vbs", "vbs", cinder},
	} {
		offer := offering{ID: fmt.Sprintf("%032x", i+1), Type: o.kind, Name: o.name}
		for k, face := range []string{"public", "internal", "admin"} {
			offer.Endpoints = append(offer.Endpoints, endpointJSON{
				ID: fmt.Sprintf("%032x", 16*(i+1)+k), Interface: face, RegionID: region, URL: o.url, Region: region})
		}
		out = append(out, offer)
	}
	return out
}

// showToken answers GET /v3/auth/tokens: a token shows one, often itself.
func (c *Cloud) showToken(q *request) answer {
	if !c.valid(q.header.Get("X-Auth-Token")) {
		return q.unauthorized()
	}
	text := q.header.Get("X-Subject-Token")
	if !c.valid(text) {
		return q.keystoneFault(404, "Not Found", "Could not find token: "+text+".")
	}
	a := q.keystone(200, c.tokenJSON(q, c.tokens[text]))
	a.header.Set("X-Subject-Token", text)
	return a
}

// revokeToken answers DELETE /v3/auth/tokens.
func (c *Cloud) revokeToken(q *request) answer {
	if !c.valid(q.header.Get("X-Auth-Token")) {
		return q.unauthorized()
	}
	delete(c.tokens, q.header.Get("X-Subject-Token"))
	return q.keystone(204, nil)
}

func (c *Cloud) valid(text string) bool {
	t, ok := c.tokens[text]
	return ok && t.dead == "" && c.now.Before(t.expires)
}

// identityVersion answers GET /v3.
func (c *Cloud) identityVersion(q *request) answer {
	return q.keystone(200, map[string]any{"version": map[string]any{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links": []link{{"self", q.base + "/v3/"}},
		"media-types": []any{map[string]string{"base": "application/json",
			"type": "application/vnd.openstack.identity-v3+json"}},
	}})
}
