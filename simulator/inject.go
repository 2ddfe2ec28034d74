package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// injector decides what goes wrong. A draw depends on the seed, on what is asked
// for and on how often that was asked for: not on how requests of several clients
// mix.
type injector struct {
	seed   uint64
	faults Faults
	script map[string][]Fault
	asked  map[string]uint64
	tokens float64 // left in the rate limiter's bucket
	filled time.Time
}

func newInjector(seed uint64, f Faults) injector {
	setDefault(&f.MaxLate, 20*time.Second)
	return injector{seed: seed, faults: f, script: map[string][]Fault{}, asked: map[string]uint64{}}
}

// Script lines up faults for the next requests that match: one fault each, before
// those of Config.Faults. match is like that of a [Rule]: "POST restore",
// "GET volume", "GET volumes", "POST token", "GET", or "POST restore <volume id>"
// and "GET volume <id>" for one only (the closest match goes first). It panics on a fault of an
// unknown kind.
func (c *Cloud) Script(match string, faults ...Fault) {
	for _, f := range faults {
		if err := (Rule{Match: match, Fault: f}).check(); err != nil {
			panic("simulator: " + err.Error())
		}
	}
	c.enter()
	defer c.leave()
	c.faults.script[match] = append(c.faults.script[match], faults...)
}

// names are the matches for a request, the closest first.
func (q *request) names() []string {
	name := q.method + " " + q.kind
	out := []string{name}
	switch q.kind {
	case "restore":
		out = []string{name + " " + q.volumeOfBody(), name}
	case "volume", "backup":
		out = []string{name + " " + q.target, name}
	}
	if q.method == "GET" && q.kind != "token" {
		out = append(out, q.method)
	}
	return out
}

// volumeOfBody is the volume a restore is for, whatever else is in the body.
func (q *request) volumeOfBody() string {
	var in struct {
		Restore struct {
			VolumeID string `json:"volume_id"`
		} `json:"restore"`
	}
	if json.Unmarshal(q.body, &in) != nil {
		return ""
	}
	return in.Restore.VolumeID
}

// next gives the fault of a request, if it has one.
func (i *injector) next(q *request, now time.Time) (Fault, bool) {
	if len(i.script) == 0 && len(i.faults.Rules) == 0 && i.faults.RatePerSecond == 0 {
		return Fault{}, false
	}
	names := q.names()
	for _, name := range names {
		if line := i.script[name]; len(line) > 0 {
			if i.script[name] = line[1:]; len(line) == 1 {
				delete(i.script, name)
			}
			return line[0], true
		}
	}
	if q.kind != "token" && i.limited(now) {
		return Fault{Kind: Answer, Status: 429, Form: Gateway}, true
	}
	return i.drawn(names)
}

// limited takes a token out of the bucket, and says when there is none.
func (i *injector) limited(now time.Time) bool {
	rate := i.faults.RatePerSecond
	if rate == 0 {
		return false
	}
	burst := max(rate, 1)
	if i.filled.IsZero() {
		i.tokens = burst
	} else {
		i.tokens = min(burst, i.tokens+rate*now.Sub(i.filled).Seconds())
	}
	i.filled = now
	if i.tokens < 1 {
		return true
	}
	i.tokens--
	return false
}

// drawn lets chance decide among the rules.
func (i *injector) drawn(names []string) (Fault, bool) {
	if !slices.ContainsFunc(i.faults.Rules, func(r Rule) bool { return slices.Contains(names, r.Match) }) {
		return Fault{}, false
	}
	i.asked[names[0]]++
	luck := i.draw(names[0], i.asked[names[0]], 1)
	for _, r := range i.faults.Rules {
		if !slices.Contains(names, r.Match) {
			continue
		}
		if luck < r.P {
			f := r.Fault
			i.fill(&f, i.draw(names[0], i.asked[names[0]], 2))
			return f, true
		}
		luck -= r.P
	}
	return Fault{}, false
}

// draw gives a number in [0, 1): FNV-1a over what is asked, stirred.
func (i *injector) draw(name string, n, use uint64) float64 {
	h := uint64(14695981039346656037)
	for k := range len(name) {
		h = (h ^ uint64(name[k])) * 1099511628211
	}
	for _, x := range []uint64{i.seed, n, use} {
		h = (h ^ x) * 1099511628211
		h ^= h >> 29
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 32
	}
	return float64(h>>11) / (1 << 53)
}

// fill sets the time a fault leaves open.
func (i *injector) fill(f *Fault, luck float64) {
	late := time.Duration((0.5 + luck/2) * float64(i.faults.MaxLate))
	switch f.Kind {
	case Pause:
		late = min(3*time.Second, i.faults.MaxLate)
	case Crash:
		late = 30 * time.Second
	}
	setDefault(&f.After, late)
}

// withFault does the work of a request, or what goes wrong with it.
func (c *Cloud) withFault(q *request, work func() answer) answer {
	switch q.kind {
	case "simulator", "versions", "identity", "unknown":
		return work()
	}
	f, ok := c.faults.next(q, c.now)
	if q.kind == "restore" {
		q.plan.Window = c.cfg.Faults.NoLockWindow
	}
	if !ok {
		return work()
	}
	c.faults.fill(&f, 1)
	c.cfg.Log.Debug().Str("kind", string(f.Kind)).Str("request", q.method+" "+q.kind).Int("status", f.Status).Msg("fault injected")
	if a, before := c.faultBefore(q, f); before {
		return a
	}
	q.planFor(f)
	a := work()
	c.faultAfter(q, f, &a)
	return a
}

// faultBefore gives the answers of those faults that keep the work from being
// done.
func (c *Cloud) faultBefore(q *request, f Fault) (answer, bool) {
	none := answer{header: http.Header{}}
	switch f.Kind {
	case Answer:
		setDefault(&f.Status, 503)
		return q.faulty(f), true
	case Reset:
		none.cut = cutReset
		return none, true
	case EOF:
		none.cut = cutEOF
		return none, true
	case NoService:
		return q.fault(404, "Service cinder-backup could not be found."), true
	case TokenExpired:
		setDefault(&f.Shape, ShapeKeystone)
		if t, ok := c.tokens[q.header.Get("X-Auth-Token")]; ok {
			t.dead = f.Shape
		}
		return q.deadToken(f.Shape), true
	case HangUnseen:
		q.plan.Unseen = f.After
		if volumeID := q.volumeOfBody(); q.kind == "restore" && volumeID != "" {
			c.begin(q, volumeID, q.target)
		}
		none.cut = cutNever
		return none, true
	}
	return none, false
}

// planFor changes the course of the restore.
func (q *request) planFor(f Fault) {
	switch f.Kind {
	case AsyncFailure:
		setDefault(&f.Outcome, "error_restoring")
		q.plan.Fate = f.Outcome
	case Stuck:
		q.plan.Fate = fateStuck
	case Hang:
		q.plan.Hang = f.After
	case Pause:
		q.plan.Pause = f.After
	case Queue:
		q.plan.Queue = f.After
	}
}

// faultAfter spoils the answer after the work is done.
func (c *Cloud) faultAfter(q *request, f Fault, a *answer) {
	switch f.Kind {
	case AnswerAfter:
		setDefault(&f.Status, 504)
		delay := a.delay
		*a = q.faulty(f)
		a.delay = delay
	case ResetAfter:
		a.cut = cutReset
	case EOFAfter:
		a.cut = cutEOF
	case Hang:
		a.cut = cutNever
	case Late:
		a.delay += f.After
	case Crash:
		c.stopService()
		c.schedule(c.newJob(&job{Kind: kindService}), stepFinish, c.now.Add(f.After))
	}
	if a.status < 300 {
		f.spoil(a)
	}
}

// spoil ruins the body of a success.
func (f Fault) spoil(a *answer) {
	switch f.Kind {
	case Malformed:
		a.body = bytes.Replace(a.body, []byte(`,"volume_name"`), []byte(` "volume_name"`), 1)
	case Truncated:
		a.body = a.body[:len(a.body)/2]
	case Empty:
		a.body = nil
	case Huge:
		a.body = append(bytes.TrimSuffix(a.body, []byte("}")), `,"padding":"`+strings.Repeat("x", 4<<20)+`"}`...)
	case Endless:
		a.body = bytes.TrimSuffix(a.body, []byte("}"))
		a.endless = true
	}
}

// faulty is an error answer in the form wanted.
func (q *request) faulty(f Fault) answer {
	var a answer
	switch f.Form {
	case HTML:
		title := fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status))
		a = answer{status: f.Status, header: http.Header{"Content-Type": {"text/html"}, "Connection": {"close"}},
			body: []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
				"</h1></center>\r\n<hr><center>" + f.words("gateway") + "</center>\r\n</body>\r\n</html>\r\n")}
	case Gateway:
		code, message := "APIG.0201", "Backend unavailable"
		if f.Status == 429 {
			code, message = "APIG.0308", "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute"
		}
		setDefault(&f.Code, code)
		a = q.gateway(f.Status, map[string]string{"error_msg": f.words(message), "error_code": f.Code, "request_id": q.gatewayID()})
	case VBS:
		code, message := "VolumeBackup.0900", "The service is unavailable."
		if f.Status == 400 || f.Status == 409 {
			code, message = "VolumeBackup.0206", "A backup is being created for the disk."
		}
		setDefault(&f.Code, code)
		a = q.gateway(f.Status, map[string]any{"error": map[string]string{"code": f.Code, "message": f.words(message)}})
	default:
		a = q.cinderFault(f)
	}
	if f.RetryAfter != "" {
		a.header.Set("Retry-After", f.RetryAfter)
	}
	return a
}

func (q *request) cinderFault(f Fault) answer {
	message := wentWrong
	if f.Status != 500 {
		message = http.StatusText(f.Status)
	}
	return q.ok(f.Status, map[string]faultJSON{faultName(f.Status): {
		Code: f.Status, Message: f.words(message), RetryAfter: f.RetryAfter}})
}

func (f Fault) words(otherwise string) string {
	setDefault(&f.Message, otherwise)
	return f.Message
}

// gateway is an answer of what stands before OpenStack: none of its ids.
func (q *request) gateway(status int, value any) answer {
	return answer{status: status, body: marshal(value),
		header: http.Header{"Content-Type": {"application/json"}, "Connection": {"close"}}}
}

// gatewayID is a request id of the gateway's.
func (q *request) gatewayID() string {
	return strings.ReplaceAll(strings.TrimPrefix(q.id, "req-"), "-", "")
}
