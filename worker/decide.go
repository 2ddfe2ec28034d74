package worker

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vbsrestore/vbsrestore/vbs"
)

// An Act is what to do after an answer to a restore POST.
type Act string

const (
	Accept   Act = "accepted"     // the cloud has it: watch the volume
	Observe  Act = "ambiguous"    // it may have been executed: look before anything else
	Busy     Act = "busy"         // as Observe; if it was not executed it costs no POST
	Again    Act = "not executed" // proven: back off, then try again
	Throttle Act = "throttled"    // proven not executed, the cloud is overloaded: slow everything down
	Refuse   Act = "refused"      // this restore cannot work: failed, with advice
	PauseAll Act = "cloud"        // no restore can work: pause the cloud, rows keep waiting
)

// A Ruling is what Decide says about one answer.
type Ruling struct {
	Act    Act
	Costs  bool          // counts against the budget of POSTs
	Slow   bool          // halve the cloud's rate
	Hold   time.Duration // no POST to the cloud for so long
	Class  string        // of the failure, one word
	Advice string        // what a person can do
}

// Policy is what a person may change about the retry table. The zero value is
// the default.
type Policy struct {
	// Never lists statuses that are not retried though the default does, such as
	// 501. Such an answer is observed like any other; what proves not executed is
	// then failed instead of sent again.
	Never []int
}

// A Rule is one row of the retry table: the README prints it, Decide obeys it.
type Rule struct {
	Answer string // in words
	Act    Act
	Then   string // in words
	match  func(*vbs.Error) bool
	ruling func(*vbs.Error) Ruling
}

const (
	holdDefault = 5 * time.Second
	holdAtMost  = 10 * time.Minute
)

// Decide says what an answer to a restore POST means. A nil error is a 202, or
// a 200 with a restore body or a job id. It is pure; the first rule of Rules
// that matches decides.
func Decide(err error) Ruling {
	if err == nil {
		return Ruling{Act: Accept, Costs: true}
	}
	e := asError(err)
	for _, rule := range Rules() {
		if rule.match != nil && rule.match(e) {
			r := rule.ruling(e)
			r.Act = rule.Act
			return r
		}
	}
	return Ruling{Act: Observe, Costs: true}
}

// DecideRead says what a failed GET means: for the whole cloud, or for nothing
// but this moment. A GET changes nothing, so nothing is ambiguous.
func DecideRead(err error) Ruling {
	r := Decide(err)
	switch r.Act {
	case PauseAll, Throttle:
		return r
	}
	return Ruling{Act: Again, Slow: r.Slow}
}

func asError(err error) *vbs.Error {
	var e *vbs.Error
	if errors.As(err, &e) {
		return e
	}
	return &vbs.Error{Executed: vbs.ExecutedMaybe, Message: err.Error(), Err: err}
}

// Rules is the retry table, in the order in which it is read. Codes that leave
// open whether something ran go before statuses: no page says with which status
// the front end sends them.
func Rules() []Rule {
	return slices.Concat(transportRules, busyRules, paceRules, cloudRules, itemRules, serverRules)
}

var transportRules = []Rule{
	{"202 with any body, even a broken one; 200 with a `restore` body or a job id", Accept, "watched until volume and backup show the end", nil, nil},
	{"our own deadline passed before the request was written", Again, "backoff; costs no POST",
		func(e *vbs.Error) bool { return e.TooLate }, free},
	{"certificate not trusted", PauseAll, "cloud paused: mend the CA or the host name",
		func(e *vbs.Error) bool { return e.Cert }, advise("certificate", "the cloud's certificate is not trusted; check cacert in clouds.yaml and the host name")},
	{"Keystone cannot renew the token (5xx, 429)", Again, "nothing was sent: backoff, cloud slowed; costs no POST",
		func(e *vbs.Error) bool {
			return e.Answerer == vbs.Keystone && e.Executed == vbs.ExecutedNo && (e.Status >= 500 || e.Status == 429)
		}, slowFree},
	{"connection refused, DNS, TLS before anything was written", Again, "backoff, cloud slowed; costs no POST",
		func(e *vbs.Error) bool { return e.Status == 0 && e.Executed == vbs.ExecutedNo }, slowFree},
	{"no answer: time-out, reset or EOF after the write", Observe, "observed; only proven not executed → backoff",
		func(e *vbs.Error) bool { return e.Status == 0 }, costs},
}

var paceRules = []Rule{
	{"429, `APIG.0308`, 413 with Retry-After > 0", Throttle, "not executed: the whole cloud slows down and honours Retry-After; costs no POST",
		func(e *vbs.Error) bool {
			return e.Status == 429 || e.Status == 498 || e.Code == "APIG.0308" || e.Status == 413 && e.RetryAfter > 0
		}, throttled},
	{"404 `Service cinder-backup could not be found.`", Again, "the backup service is down: backoff, cloud slowed; costs no POST",
		func(e *vbs.Error) bool {
			return e.Status == 404 && strings.Contains(e.Message, "Service cinder-backup could not be found")
		}, slowFree},
}

var cloudRules = []Rule{
	{"401, 400 `Common.0013`/`AutoBackup.0003`, `APIG.0301`, again after the token was renewed once", PauseAll, "cloud paused: credentials refused",
		func(e *vbs.Error) bool { return vbs.IsAuth(e) }, advise("credentials", "the cloud refuses our credentials; check user, project and expiry, then: vbsrestore cloud resume")},
	{"403 and rights codes (`VolumeBackup.0042/0044`, `EVS.2144/2145`)", PauseAll, "cloud paused: rights missing or account frozen",
		func(e *vbs.Error) bool {
			return e.Status == 403 || isCode(e, "VolumeBackup.0042", "VolumeBackup.0044", "EVS.2144", "EVS.2145")
		}, advise("rights", "the user may not restore backups, or the account is suspended; it needs the member role and the right backup:restore")},
	{"400 `Malformed request url`, `Common.0018`", PauseAll, "cloud paused: the project in the URL is not the token's",
		func(e *vbs.Error) bool {
			return e.Status == 400 && strings.Contains(e.Message, "Malformed request url") || e.Code == "Common.0018"
		}, advise("project", "the project in the URL is not the token's; check the endpoint override and the project in clouds.yaml")},
	{"404 for the route (HTML, `APIG.0101`), 3xx, 405, 406, 407, 415", PauseAll, "cloud paused: endpoint or flavour is wrong",
		func(e *vbs.Error) bool { return wrongPlace(e) }, advise("endpoint", "the cloud does not know this path; try the other flavour (vbs or cinder), or set the endpoint")},
}

var busyRules = []Rule{
	{"409; 400 `must be available`; `VolumeBackup.0012/0013/0089/0205/0206`", Busy, "observed: it may be our own restore; not executed → backoff, costs no POST",
		func(e *vbs.Error) bool {
			return e.Status == 409 || e.Status == 400 && strings.Contains(e.Message, "must be available") ||
				isCode(e, "VolumeBackup.0012", "VolumeBackup.0013", "VolumeBackup.0089", "VolumeBackup.0205", "VolumeBackup.0206")
		}, free},
	{"`VolumeBackup.0014/0201` and other codes of a failed step or query", Observe, "observed; only proven not executed → backoff",
		func(e *vbs.Error) bool { return isCode(e, unsureCodes...) }, costs},
}

// unsureCodes are VBS codes that say a step failed, not that nothing ran.
var unsureCodes = []string{"VolumeBackup.0014", "VolumeBackup.0201", "VolumeBackup.0019", "VolumeBackup.0020", "VolumeBackup.0024", "VolumeBackup.0025",
	"VolumeBackup.0029", "VolumeBackup.0030", "VolumeBackup.0035", "VolumeBackup.0036", "VolumeBackup.0037", "VolumeBackup.0038", "VolumeBackup.0039",
	"VolumeBackup.0041", "VolumeBackup.0043", "VolumeBackup.0070", "VolumeBackup.0103", "VolumeBackup.0109", "VolumeBackup.0110", "VolumeBackup.0123",
	"VolumeBackup.0900", "Common.0011", "AutoBackup.9002"}

var itemRules = []Rule{
	{"404 for the backup or the volume; `VolumeBackup.0111/0207`", Refuse, "failed: it does not exist",
		func(e *vbs.Error) bool {
			return e.Status == 404 || isCode(e, "VolumeBackup.0111", "VolumeBackup.0207")
		}, advise("not_found", "check the ids and the project; a deleted volume can be restored to a new one")},
	{"400 `too small`, `VolumeBackup.0209`", Refuse, "failed: the volume is smaller than the backup",
		func(e *vbs.Error) bool {
			return e.Status == 400 && strings.Contains(e.Message, "too small") || isCode(e, "VolumeBackup.0209", "EVS.1022")
		}, advise("too_small", "extend the volume to at least the backup's size, then retry")},
	{"413 with Retry-After 0 or none", Refuse, "failed: quota",
		func(e *vbs.Error) bool { return e.Status == 413 }, advise("quota", "the quota is used up; raise it, then retry")},
	{"any other 400, and each 4xx that proves that nothing ran", Refuse, "failed, with advice",
		func(e *vbs.Error) bool {
			return e.Status >= 400 && e.Status < 500 && e.Executed == vbs.ExecutedNo
		}, advise("refused", "the cloud refuses this request; the message says why")},
}

var serverRules = []Rule{
	{"503", Observe, "observed; only proven not executed → backoff; cloud slowed",
		func(e *vbs.Error) bool { return e.Status == 503 },
		func(e *vbs.Error) Ruling {
			return Ruling{Costs: true, Slow: true, Hold: min(e.RetryAfter, holdAtMost)}
		}},
	{"408, 500, 501, 502, 504, other 5xx; an answer of no known meaning, such as 499 or half a 400", Observe, "observed; only proven not executed → backoff, or failed if the status is in `retry.never`",
		func(*vbs.Error) bool { return true }, costs},
}

func wrongPlace(e *vbs.Error) bool {
	switch e.Status {
	case 405, 406, 407, 415:
		return true
	case 404:
		return e.Answerer != vbs.Cinder && e.Fault != "itemNotFound" && !strings.HasPrefix(e.Code, "VolumeBackup.") && !strings.HasPrefix(e.Code, "EVS.")
	}
	return e.Status >= 300 && e.Status < 400
}

func isCode(e *vbs.Error, codes ...string) bool {
	return e.Code != "" && slices.ContainsFunc(codes, func(c string) bool { return strings.EqualFold(c, e.Code) })
}

func free(*vbs.Error) Ruling     { return Ruling{} }
func costs(*vbs.Error) Ruling    { return Ruling{Costs: true} }
func slowFree(*vbs.Error) Ruling { return Ruling{Slow: true} }

func throttled(e *vbs.Error) Ruling {
	hold := holdDefault
	if e.HasRetryAfter {
		hold = max(time.Second, min(e.RetryAfter, holdAtMost))
	}
	return Ruling{Slow: true, Hold: hold}
}

func advise(class, advice string) func(*vbs.Error) Ruling {
	return func(*vbs.Error) Ruling { return Ruling{Class: class, Advice: advice} }
}

// inWords describes an answer in one line for reasons and stories.
func inWords(err error) string {
	e := asError(err)
	if e.Status == 0 {
		return "no answer (" + firstOf(e.Message, errText(e.Err)) + ")"
	}
	words := strconv.Itoa(e.Status)
	if e.Code != "" {
		words += " " + e.Code
	}
	return words + " by " + e.Answerer.String() + ": " + firstOf(e.Message, "no message")
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return "no details"
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
