package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Kind is what goes wrong with one request.
type Kind string

// The kinds of faults. "Executed" means that the request did its work; for a
// restore that its checks were made and, if they passed, that it runs.
const (
	// Answer is an error status in place of any work: not executed.
	Answer Kind = "answer"
	// AnswerAfter is an error status after the work: executed.
	AnswerAfter Kind = "answer-after"
	// Reset breaks the connection before any work: not executed.
	Reset Kind = "reset"
	// ResetAfter breaks the connection after the work: executed.
	ResetAfter Kind = "reset-after"
	// EOF closes the connection without a byte, before any work: not executed.
	EOF Kind = "eof"
	// EOFAfter closes the connection without a byte, after the work: executed.
	EOFAfter Kind = "eof-after"
	// Late executes at once and answers After later.
	Late Kind = "late"
	// Malformed is a 202 whose JSON lacks the comma that the documentation of VBS
	// lacks, too: executed.
	Malformed Kind = "malformed"
	// Truncated is a 2xx whose body ends half way: executed.
	Truncated Kind = "truncated"
	// Empty is a 2xx without a body: executed.
	Empty Kind = "empty"
	// Huge is a 2xx with 4 MiB of body: executed.
	Huge Kind = "huge"
	// Endless is a 2xx whose body never ends: executed.
	Endless Kind = "endless"
	// TokenExpired ends the token of the request, told in the form Shape. Only a
	// new token heals it. Not executed.
	TokenExpired Kind = "token-expired"
	// AsyncFailure accepts the restore, which then fails: the volume becomes
	// Outcome, the backup available, and for error_restoring there is a message.
	AsyncFailure Kind = "async-failure"
	// Stuck accepts the restore, which then works for ever, in a slot, until the
	// backup service is restarted.
	Stuck Kind = "stuck"
	// Crash accepts the restore, then the backup service dies. After later it is
	// back, and every restore it finds becomes error_restoring.
	Crash Kind = "crash"
	// NoService is 404 "Service cinder-backup could not be found.": not executed.
	NoService Kind = "no-service"
	// Hang never answers; the statuses change at once and the restore itself runs
	// After later. A real Cinder did so while its message bus was down.
	Hang Kind = "hang"
	// HangUnseen never answers, and nothing at all happens until After later, when
	// the restore is executed if its checks pass then.
	HangUnseen Kind = "hang-unseen"
	// Pause puts the time After between the statuses of backup and volume at the
	// start of the restore.
	Pause Kind = "pause"
	// Queue is a front end that answers 202 and hands the restore to Cinder After
	// later: until then no status changes.
	Queue Kind = "queue"
)

// A Form is who gives a faulty status.
type Form string

// The forms of faulty answers.
const (
	Cinder  Form = "cinder" // a Cinder fault body with its request ids (default)
	HTML    Form = "html"   // a gateway's or balancer's page
	Gateway Form = "apig"   // the API gateway's {"error_msg", "error_code", "request_id"}
	VBS     Form = "vbs"    // VBS's {"error": {"code", "message"}}
)

// A Shape is how an expired token is told.
type Shape string

// The shapes of an expired token.
const (
	ShapeKeystone Shape = "keystone" // 401 of Keystone's middleware (default)
	ShapeCommon   Shape = "common"   // 400 Common.0013
	ShapeGateway  Shape = "apig"     // 401 APIG.0301
)

// A Fault is one thing that goes wrong with one request.
type Fault struct {
	Kind Kind `json:"kind"`
	// Status of Answer and AnswerAfter. Default 503 and 504.
	Status int `json:"status,omitempty"`
	// Form of Answer and AnswerAfter. Default Cinder.
	Form Form `json:"form,omitempty"`
	// Code of the forms Gateway and VBS. Default by status: APIG.0308 for 429,
	// VolumeBackup.0206 for 400 and 409, else APIG.0201 and VolumeBackup.0900.
	Code string `json:"code,omitempty"`
	// Message of Answer and AnswerAfter. Default: a fitting one.
	Message string `json:"message,omitempty"`
	// RetryAfter is the header's value. Default: no header.
	RetryAfter string `json:"retry_after,omitempty"`
	// After is the time of Late, Crash, Hang, HangUnseen, Pause and Queue. Default
	// 3s for Pause, 30s for Crash, else half of Faults.MaxLate to all of it.
	After time.Duration `json:"-"`
	// Outcome of AsyncFailure: error_restoring (default) or error.
	Outcome string `json:"outcome,omitempty"`
	// Shape of TokenExpired. Default ShapeKeystone.
	Shape Shape `json:"shape,omitempty"`
}

// A Rule is a fault that happens to some requests.
type Rule struct {
	// Match says to which: "POST restore", "GET volume", "POST token" …; "GET"
	// alone means every GET of volumes, backups and messages; "POST restore
	// <volume id>", "GET volume <id>" and "GET backup <id>" are for one only.
	Match string `json:"match"`
	// P is the probability, 0 to 1. Of the rules that match a request at most one
	// happens.
	P float64 `json:"p"`
	Fault
}

// Faults is what goes wrong, and how often. The zero value: nothing. [ParseFaults]
// reads it from JSON.
type Faults struct {
	Rules []Rule `json:"rules,omitempty"`
	// NoLockWindow is the time between the checks of a restore and its first
	// status. Cinder takes no lock: POSTs inside the window are accepted, too.
	// Default 0: atomic.
	NoLockWindow time.Duration `json:"-"`
	// RatePerSecond is a rate limit of the gateway for everything but tokens, with
	// a burst of one second. Above it comes 429 APIG.0308. Default 0: none.
	RatePerSecond float64 `json:"rate_per_second,omitempty"`
	// MaxLate bounds the times that a Fault leaves open. Default 20s.
	MaxLate time.Duration `json:"-"`
}

// StandardFaults is an ordinary bad day: of the restore POSTs a quarter goes
// wrong, in ways that careful reading of the statuses can tell apart. Nothing is
// later than 20 s.
func StandardFaults() Faults {
	post := func(p float64, f Fault) Rule { return Rule{"POST restore", p, f} }
	get := func(p float64, f Fault) Rule { return Rule{"GET", p, f} }
	return Faults{MaxLate: 20 * time.Second, Rules: []Rule{
		post(0.05, Fault{Kind: AnswerAfter, Status: 504, Form: HTML}),
		post(0.015, Fault{Kind: Answer, Status: 504, Form: HTML}),
		post(0.015, Fault{Kind: Answer, Status: 502, Form: HTML}),
		post(0.03, Fault{Kind: Answer, Status: 500}),
		post(0.02, Fault{Kind: ResetAfter}),
		post(0.02, Fault{Kind: Answer, Status: 409, Form: VBS}),
		post(0.03, Fault{Kind: Answer, Status: 503, RetryAfter: "2"}),
		post(0.03, Fault{Kind: Answer, Status: 429, Form: Gateway}),
		post(0.01, Fault{Kind: Malformed}),
		post(0.01, Fault{Kind: Truncated}),
		post(0.01, Fault{Kind: Late}),
		post(0.01, Fault{Kind: Queue}),
		post(0.01, Fault{Kind: Pause}),
		post(0.01, Fault{Kind: EOF}),
		post(0.01, Fault{Kind: Answer, Status: 408, Form: HTML}),
		get(0.01, Fault{Kind: Answer, Status: 502, Form: HTML}),
		get(0.005, Fault{Kind: Answer, Status: 503}),
		get(0.005, Fault{Kind: Reset}),
		get(0.005, Fault{Kind: Answer, Status: 429, Form: Gateway, RetryAfter: "1"}),
		{"POST token", 0.01, Fault{Kind: Answer, Status: 503, Form: HTML}},
	}}
}

// HostileFaults is StandardFaults three times as often, and besides crashes of the
// backup service, expired tokens, huge and endless bodies, and POSTs that hang.
func HostileFaults() Faults {
	f := StandardFaults()
	for i := range f.Rules {
		f.Rules[i].P *= 3
	}
	post := func(p float64, x Fault) Rule { return Rule{"POST restore", p, x} }
	f.Rules = append(f.Rules,
		post(0.002, Fault{Kind: Crash}),
		post(0.01, Fault{Kind: TokenExpired}),
		post(0.01, Fault{Kind: TokenExpired, Shape: ShapeCommon}),
		post(0.01, Fault{Kind: TokenExpired, Shape: ShapeGateway}),
		post(0.01, Fault{Kind: Endless}),
		post(0.01, Fault{Kind: Huge}),
		post(0.01, Fault{Kind: Hang}),
		Rule{"GET", 0.002, Fault{Kind: Endless}},
		Rule{"GET", 0.01, Fault{Kind: TokenExpired}},
	)
	return f
}

// span is a time as it is written: "300ms".
type span time.Duration

func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

// faultsJSON is Faults as they are written.
type faultsJSON struct {
	Rules []struct {
		Rule
		After span `json:"after"`
	} `json:"rules"`
	NoLockWindow  span    `json:"no_lock_window"`
	RatePerSecond float64 `json:"rate_per_second"`
	MaxLate       span    `json:"max_late"`
}

// ParseFaults reads Faults from JSON: {"rules": [{"match": "POST restore",
// "p": 0.05, "kind": "answer-after", "status": 504, "form": "html"}], "max_late":
// "20s"}. Times are written like "300ms". Unknown keys, kinds and forms, wrong
// times and probabilities are errors.
func ParseFaults(data []byte) (Faults, error) {
	var in faultsJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return Faults{}, fmt.Errorf("parse faults: %w", err)
	}
	if d.More() {
		return Faults{}, fmt.Errorf("parse faults: more than one value")
	}
	f := Faults{NoLockWindow: time.Duration(in.NoLockWindow), RatePerSecond: in.RatePerSecond, MaxLate: time.Duration(in.MaxLate)}
	for _, r := range in.Rules {
		r.Rule.After = time.Duration(r.After)
		f.Rules = append(f.Rules, r.Rule)
	}
	if err := f.check(); err != nil {
		return Faults{}, fmt.Errorf("parse faults: %w", err)
	}
	return f, nil
}

var (
	allKinds = []Kind{Answer, AnswerAfter, Reset, ResetAfter, EOF, EOFAfter, Late, Malformed, Truncated, Empty, Huge,
		Endless, TokenExpired, AsyncFailure, Stuck, Crash, NoService, Hang, HangUnseen, Pause, Queue}
	allForms  = []Form{"", Cinder, HTML, Gateway, VBS}
	allShapes = []Shape{"", ShapeKeystone, ShapeCommon, ShapeGateway}
)

// check finds rules without sense.
func (f Faults) check() error {
	sum := map[string]float64{}
	for i, r := range f.Rules {
		if err := r.check(); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
		sum[r.Match] += r.P
		if sum[r.Match] > 1.0001 {
			return fmt.Errorf("rule %d: probabilities of %q add up to more than 1", i+1, r.Match)
		}
	}
	if f.RatePerSecond < 0 || f.NoLockWindow < 0 || f.MaxLate < 0 {
		return fmt.Errorf("rate_per_second, no_lock_window and max_late must not be negative")
	}
	return nil
}

func (r Rule) check() error {
	switch method, kind, _ := strings.Cut(r.Match, " "); {
	case method != "GET" && method != "POST" && method != "DELETE", kind == "" && method != "GET":
		return fmt.Errorf("match %q is not of the form \"METHOD kind\"", r.Match)
	case r.P < 0 || r.P > 1:
		return fmt.Errorf("p is %v, want 0 to 1", r.P)
	case r.After < 0:
		return fmt.Errorf("after is negative")
	}
	return r.Fault.check()
}

func (f Fault) check() error {
	switch {
	case !slices.Contains(allKinds, f.Kind):
		return fmt.Errorf("unknown kind %q", f.Kind)
	case !slices.Contains(allForms, f.Form):
		return fmt.Errorf("unknown form %q", f.Form)
	case !slices.Contains(allShapes, f.Shape):
		return fmt.Errorf("unknown shape %q", f.Shape)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("status %d is not between 200 and 599", f.Status)
	case f.Outcome != "" && f.Outcome != "error" && f.Outcome != "error_restoring":
		return fmt.Errorf("outcome %q is neither error nor error_restoring", f.Outcome)
	}
	return nil
}
