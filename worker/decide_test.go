package worker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/vbs"
)

// The bodies are those of real clouds, or of the published pages of VBS and its gateway.
const (
	htmlBody  = "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	apigBody  = `{"error_msg":"%s","error_code":"%s","request_id":"0a1b2c3d4e5f60718293a4b5c6d7e8f9"}`
	vbsBody   = `{"error":{"message":"%s","code":"%s"}}`
	faultBody = `{"%s": {"code": %d, "message": "%s"}}`
	cinderReq = "req-7c8b1f3a-2f0e-4f55-9a43-0f3f7c1f1d11"
)

// An answer is made of what came over the wire.
type wireAnswer struct {
	status int
	header http.Header
	body   string
}

func (a wireAnswer) parsed() *vbs.Error {
	return vbs.ParseAnswer("restore backup B onto volume V", a.status, a.header, []byte(a.body))
}

func (a wireAnswer) with(name, value string) wireAnswer {
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
	return a
}

func fromCinder(status int, fault, message string) wireAnswer {
	return wireAnswer{status, http.Header{"Content-Type": {"application/json"}, "X-Compute-Request-Id": {cinderReq}, "X-Openstack-Request-Id": {cinderReq}},
		fmt.Sprintf(faultBody, fault, status, message)}
}

func fromHTML(status int) wireAnswer {
	words := http.StatusText(status)
	return wireAnswer{status, http.Header{"Content-Type": {"text/html"}, "Server": {"nginx"}}, fmt.Sprintf(htmlBody, status, words, status, words)}
}

func fromAPIG(status int, code, message string) wireAnswer {
	return wireAnswer{status, http.Header{"Content-Type": {"application/json"}}, fmt.Sprintf(apigBody, message, code)}
}

func fromVBS(status int, code, message string) wireAnswer {
	return wireAnswer{status, http.Header{"Content-Type": {"application/json"}}, fmt.Sprintf(vbsBody, message, code)}
}

func fromKeystone(status int, title string) wireAnswer {
	return wireAnswer{status, http.Header{"Content-Type": {"application/json"}, "Www-Authenticate": {`Keystone uri="http://127.0.0.1:5000"`}},
		fmt.Sprintf(`{"error":{"code":%d,"title":"%s","message":"The request you have made requires authentication."}}`, status, title)}
}

// rulingOf leaves the advice out: it is prose.
func rulingOf(err error) Ruling {
	r := Decide(err)
	r.Advice = ""
	return r
}

var (
	looked      = Ruling{Act: Observe, Costs: true}
	lookedSlow  = Ruling{Act: Observe, Costs: true, Slow: true}
	busy        = Ruling{Act: Busy}
	credentials = Ruling{Act: PauseAll, Class: "credentials"}
	rights      = Ruling{Act: PauseAll, Class: "rights"}
	project     = Ruling{Act: PauseAll, Class: "project"}
	endpoint    = Ruling{Act: PauseAll, Class: "endpoint"}
	refused     = Ruling{Act: Refuse, Class: "refused"}
	notFound    = Ruling{Act: Refuse, Class: "not_found"}
	tooSmall    = Ruling{Act: Refuse, Class: "too_small"}
	quota       = Ruling{Act: Refuse, Class: "quota"}
	serviceDown = Ruling{Act: Again, Slow: true}
)

func throttledFor(d time.Duration) Ruling { return Ruling{Act: Throttle, Slow: true, Hold: d} }

// TestEveryStatusOfThePage has each code that the page of the restore API
// documents, as each of those who may give it does.
func TestEveryStatusOfThePage(t *testing.T) {
	type said struct {
		by   string
		got  wireAnswer
		want Ruling
	}
	page := map[int][]said{
		400: {
			{"cinder: busy backup", fromCinder(400, "badRequest", "Invalid backup: Backup status must be available"), busy},
			{"cinder: busy volume", fromCinder(400, "badRequest", "Invalid volume: Volume to be restored to must be available"), busy},
			{"cinder: too small", fromCinder(400, "badRequest", "Invalid volume: volume size 1 is too small to restore backup of size 2."), tooSmall},
			{"cinder: schema", fromCinder(400, "badRequest", "Invalid input for field/attribute volume_id. Value: nonsense. 'nonsense' is not valid under any of the given schemas"), refused},
			{"cinder: project", fromCinder(400, "badRequest", "Malformed request url"), project},
			{"html", fromHTML(400), refused},
			{"apig", fromAPIG(400, "APIG.0201", "Backend timeout"), refused},
			{"vbs", fromVBS(400, "VolumeBackup.0210", "The format of the disk restoration request is incorrect."), refused},
			{"vbs: token", fromVBS(400, "Common.0013", "Token invalid"), credentials},
		},
		401: {
			{"keystone", fromKeystone(401, "Unauthorized"), credentials},
			{"cinder", fromCinder(401, "unauthorized", "no"), credentials},
			{"html", fromHTML(401), credentials},
			{"apig", fromAPIG(401, "APIG.0301", "Incorrect IAM authentication information"), credentials},
			{"vbs", fromVBS(401, "VBS.0001", "no"), credentials},
		},
		403: {
			{"cinder", fromCinder(403, "forbidden", "Policy doesn't allow backup:restore to be performed."), rights},
			{"html", fromHTML(403), rights},
			{"apig", fromAPIG(403, "APIG.0302", "The IAM user is not allowed to access the API"), rights},
			{"vbs", fromVBS(403, "VolumeBackup.0042", "The user does not have the rights to perform operations."), rights},
			{"evs: frozen", fromVBS(403, "EVS.2144", "frozen"), rights},
		},
		404: {
			{"cinder: backup", fromCinder(404, "itemNotFound", "Backup 592a0c4d-65a3-4051-8d51-1e2b6401b2d8 could not be found."), notFound},
			{"cinder: volume", fromCinder(404, "itemNotFound", "Volume 592a0c4d-65a3-4051-8d51-1e2b6401b2d8 could not be found."), notFound},
			{"cinder: service", fromCinder(404, "itemNotFound", "Service cinder-backup could not be found."), serviceDown},
			{"html", fromHTML(404), endpoint},
			{"apig", fromAPIG(404, "APIG.0101", "The API does not exist or has not been published in the environment"), endpoint},
			{"vbs", fromVBS(404, "VBS.0111", "The disk to be restored or the backup used to restore the disk does not exist."), notFound},
		},
		405: {{"cinder", fromCinder(405, "badMethod", "no"), endpoint}, {"html", fromHTML(405), endpoint}, {"apig", fromAPIG(405, "APIG.0102", "no"), endpoint}, {"vbs", fromVBS(405, "VBS.9999", "no"), endpoint}},
		406: {{"cinder", fromCinder(406, "computeFault", "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70."), endpoint}, {"html", fromHTML(406), endpoint}, {"apig", fromAPIG(406, "APIG.0106", "no"), endpoint}, {"vbs", fromVBS(406, "VBS.9999", "no"), endpoint}},
		407: {{"cinder", fromCinder(407, "computeFault", "no"), endpoint}, {"html", fromHTML(407), endpoint}, {"apig", fromAPIG(407, "APIG.9999", "no"), endpoint}, {"vbs", fromVBS(407, "VBS.9999", "no"), endpoint}},
		408: {{"cinder", fromCinder(408, "computeFault", "late"), looked}, {"html", fromHTML(408), looked}, {"apig", fromAPIG(408, "APIG.9999", "late"), looked}, {"vbs", fromVBS(408, "VBS.9999", "late"), looked}},
		409: {
			{"cinder", fromCinder(409, "conflictingRequest", "conflict"), busy}, {"html", fromHTML(409), busy}, {"apig", fromAPIG(409, "APIG.9999", "conflict"), busy},
			{"vbs", fromVBS(409, "VolumeBackup.0206", "A backup is being created for the disk."), busy},
		},
		500: {
			{"cinder", fromCinder(500, "computeFault", "The server has either erred or is incapable of performing the requested operation."), looked},
			{"html", fromHTML(500), looked}, {"apig", fromAPIG(500, "APIG.0201", "Backend unavailable"), looked}, {"vbs", fromVBS(500, "VolumeBackup.0014", "Failed to submit the task."), looked},
		},
		501: {{"cinder", fromCinder(501, "notImplemented", "no"), looked}, {"html", fromHTML(501), looked}, {"apig", fromAPIG(501, "APIG.9999", "no"), looked}, {"vbs", fromVBS(501, "VBS.9999", "no"), looked}},
		502: {{"cinder", fromCinder(502, "computeFault", "no"), looked}, {"html", fromHTML(502), looked}, {"apig", fromAPIG(502, "APIG.0201", "no"), looked}, {"vbs", fromVBS(502, "VBS.9999", "no"), looked}},
		503: {
			{"cinder", fromCinder(503, "serviceUnavailable", "no"), lookedSlow}, {"html", fromHTML(503), lookedSlow}, {"apig", fromAPIG(503, "APIG.0201", "no"), lookedSlow},
			{"vbs", fromVBS(503, "VBS.9999", "no"), lookedSlow},
			{"keystone", wireAnswer{503, http.Header{"Content-Type": {"text/html"}}, "<html><body>The Keystone service is temporarily unavailable.</body></html>"}, lookedSlow},
			{"html, later", fromHTML(503).with("Retry-After", "30"), Ruling{Act: Observe, Costs: true, Slow: true, Hold: 30 * time.Second}},
		},
		504: {{"cinder", fromCinder(504, "computeFault", "no"), looked}, {"html", fromHTML(504), looked}, {"apig", fromAPIG(504, "APIG.0201", "Backend timeout"), looked}, {"vbs", fromVBS(504, "VBS.9999", "no"), looked}},
	}
	for _, status := range []int{400, 401, 403, 404, 405, 406, 407, 408, 409, 500, 501, 502, 503, 504} {
		if len(page[status]) < 4 {
			t.Errorf("status %d has %d rows, want one of each: cinder, html, apig, vbs", status, len(page[status]))
		}
		for _, row := range page[status] {
			t.Run(fmt.Sprintf("%d %s", status, row.by), func(t *testing.T) {
				if diff := cmp.Diff(row.want, rulingOf(row.got.parsed())); diff != "" {
					t.Errorf("ruling (-want +got):\n%s", diff)
				}
			})
		}
	}
	if diff := cmp.Diff(Ruling{Act: Accept, Costs: true}, rulingOf(nil)); diff != "" {
		t.Errorf("202 (-want +got):\n%s", diff)
	}
}

// TestDecideOtherAnswers: what the page does not document and clouds send all the same.
func TestDecideOtherAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		got  error
		want Ruling
	}{
		"429 apig":                   {fromAPIG(429, "APIG.0308", "The throttling threshold has been reached").parsed(), throttledFor(holdDefault)},
		"429 html with seconds":      {fromHTML(429).with("Retry-After", "7").parsed(), throttledFor(7 * time.Second)},
		"429 with zero":              {fromHTML(429).with("Retry-After", "0").parsed(), throttledFor(time.Second)},
		"429 with a day":             {fromHTML(429).with("Retry-After", "86400").parsed(), throttledFor(holdAtMost)},
		"429 with a date":            {fromHTML(429).with("Date", "Mon, 02 Jan 2006 15:04:05 GMT").with("Retry-After", "Mon, 02 Jan 2006 15:04:25 GMT").parsed(), throttledFor(20 * time.Second)},
		"498":                        {fromHTML(498).parsed(), throttledFor(holdDefault)},
		"APIG.0308 with 503":         {fromAPIG(503, "APIG.0308", "throttled").parsed(), throttledFor(holdDefault)},
		"413 rate":                   {fromCinder(413, "overLimit", "limited").with("Retry-After", "12").parsed(), throttledFor(12 * time.Second)},
		"413 quota":                  {fromCinder(413, "overLimit", "BackupLimitExceeded").with("Retry-After", "0").parsed(), quota},
		"413 without Retry-After":    {fromVBS(413, "EVS.5413", "Insufficient volume quota.").parsed(), quota},
		"415 cinder":                 {fromCinder(415, "badMediaType", "Unsupported Content-Type").parsed(), endpoint},
		"301":                        {fromHTML(301).with("Location", "https://elsewhere/").parsed(), endpoint},
		"302":                        {fromHTML(302).parsed(), endpoint},
		"307":                        {fromHTML(307).parsed(), endpoint},
		"308":                        {fromHTML(308).parsed(), endpoint},
		"404 empty":                  {wireAnswer{404, nil, ""}.parsed(), endpoint},
		"404 EVS":                    {fromVBS(404, "EVS.5404", "not found").parsed(), notFound},
		"404 item without header":    {wireAnswer{404, nil, `{"itemNotFound":{"message":"Backup 592a0c4d could not be found.","code":404}}`}.parsed(), notFound},
		"410":                        {fromHTML(410).parsed(), refused},
		"422":                        {fromHTML(422).parsed(), refused},
		"505":                        {fromHTML(505).parsed(), looked},
		"520":                        {fromHTML(520).parsed(), looked},
		"599":                        {fromHTML(599).parsed(), looked},
		"200 without a restore":      {fromHTML(200).parsed(), looked},
		"201":                        {fromHTML(201).parsed(), looked},
		"204":                        {wireAnswer{204, nil, ""}.parsed(), looked},
		"100":                        {wireAnswer{100, nil, ""}.parsed(), looked},
		"101":                        {wireAnswer{101, nil, ""}.parsed(), looked},
		"0":                          {wireAnswer{0, nil, ""}.parsed(), looked},
		"408 with 503's Retry-After": {fromHTML(408).with("Retry-After", "5").parsed(), looked},
		"503 with a day":             {fromHTML(503).with("Retry-After", "86400").parsed(), Ruling{Act: Observe, Costs: true, Slow: true, Hold: holdAtMost}},
		"500 with the word busy":     {fromCinder(500, "computeFault", "Volume must be available").parsed(), looked},
		"500 that quotes too small":  {fromCinder(500, "computeFault", "timeout too small").parsed(), looked},
		"499: the gateway's client":  {fromHTML(499).parsed(), looked},
		"444":                        {fromHTML(444).parsed(), looked},
		"425":                        {fromHTML(425).parsed(), looked},
		"400 of which half is lost":  {&vbs.Error{Status: 400, Answerer: vbs.Gateway, Executed: vbs.ExecutedMaybe}, looked},
		"refused connection":         {&vbs.Error{Executed: vbs.ExecutedNo, Err: errors.New("dial tcp: connection refused")}, serviceDown},
		"reset after the write":      {&vbs.Error{Err: errors.New("connection reset by peer")}, looked},
		"deadline before the write":  {&vbs.Error{Executed: vbs.ExecutedNo, TooLate: true}, Ruling{Act: Again}},
		"certificate":                {&vbs.Error{Executed: vbs.ExecutedNo, Cert: true, Err: x509.UnknownAuthorityError{}}, Ruling{Act: PauseAll, Class: "certificate"}},
		"error of an unknown kind":   {errors.New("strange"), looked},
		"wrapped":                    {fmt.Errorf("deliver: %w", fromHTML(504).parsed()), looked},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, rulingOf(row.got)); diff != "" {
				t.Errorf("ruling (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecideServiceCodes has every documented code that a restore can meet. The
// HTTP status of a VBS code is not documented, so each comes with 400 and 500.
func TestDecideServiceCodes(t *testing.T) {
	unsure := strings.Fields(`VolumeBackup.0014 VolumeBackup.0201 VolumeBackup.0019 VolumeBackup.0020 VolumeBackup.0024 VolumeBackup.0025
		VolumeBackup.0029 VolumeBackup.0030 VolumeBackup.0035 VolumeBackup.0036 VolumeBackup.0037 VolumeBackup.0038 VolumeBackup.0039 VolumeBackup.0041
		VolumeBackup.0043 VolumeBackup.0070 VolumeBackup.0103 VolumeBackup.0109 VolumeBackup.0110 VolumeBackup.0123 VolumeBackup.0900 common.0011 AutoBackup.9002`)
	byStatus := strings.Fields(`VolumeBackup.0200 VolumeBackup.0202 VolumeBackup.0203 VolumeBackup.0204 VolumeBackup.0208 VolumeBackup.0210 VolumeBackup.0211
		VolumeBackup.0040 VolumeBackup.0071 VolumeBackup.0072 VolumeBackup.0073 VolumeBackup.0074 VolumeBackup.0075 VolumeBackup.0076 VolumeBackup.0077
		VolumeBackup.0078 VolumeBackup.0079 VolumeBackup.0080 VolumeBackup.0081 VolumeBackup.0082 VolumeBackup.0083 VolumeBackup.0084
		EVS.1034 EVS.1042 EVS.2068 EVS.2089 EVS.2130 EVS.2001 EVS.2002 EVS.2005 EVS.2023 EVS.2025 EVS.2105 EVS.5500 EVS.5400 VolumeBackup.7777`)
	want := map[string][2]Ruling{ // with 400, with 500
		"VolumeBackup.0012": {busy, busy}, "VolumeBackup.0013": {busy, busy}, "VolumeBackup.0089": {busy, busy},
		"VolumeBackup.0205": {busy, busy}, "VolumeBackup.0206": {busy, busy}, "VBS.0206": {busy, busy}, "vbs.0012": {busy, busy},
		"VolumeBackup.0042": {rights, rights}, "VolumeBackup.0044": {rights, rights}, "EVS.2144": {rights, rights}, "EVS.2145": {rights, rights},
		"VolumeBackup.0111": {notFound, notFound}, "VolumeBackup.0207": {notFound, notFound},
		"VolumeBackup.0209": {tooSmall, tooSmall}, "EVS.1022": {tooSmall, tooSmall},
		"Common.0013": {credentials, credentials}, "AutoBackup.0003": {credentials, credentials}, "Common.0018": {project, project},
		"APIG.0301": {credentials, credentials}, "APIG.0308": {throttledFor(holdDefault), throttledFor(holdDefault)},
	}
	for _, code := range unsure {
		want[code] = [2]Ruling{looked, looked}
	}
	for _, code := range byStatus {
		want[code] = [2]Ruling{refused, looked}
	}
	for code, rulings := range want {
		for i, status := range []int{400, 500} {
			t.Run(fmt.Sprintf("%s with %d", code, status), func(t *testing.T) {
				for _, a := range []wireAnswer{fromVBS(status, code, "words"), fromAPIG(status, code, "words")} {
					if diff := cmp.Diff(rulings[i], rulingOf(a.parsed())); diff != "" {
						t.Errorf("ruling of %s (-want +got):\n%s", a.body, diff)
					}
				}
			})
		}
	}
}

// TestTheSameNumberOfAnotherService: the digits alone say nothing.
func TestTheSameNumberOfAnotherService(t *testing.T) {
	for _, code := range []string{"AutoBackup.0206", "AutoBackup.0209", "VolumeBackup.0003", "EVS.0042"} {
		if diff := cmp.Diff(refused, rulingOf(fromVBS(400, code, "words").parsed())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", code, diff)
		}
	}
}

// TestNoRuleIsUnreachable has an answer for each row of the table, decided by
// that row and by none before it.
func TestNoRuleIsUnreachable(t *testing.T) {
	answers := []*vbs.Error{
		{Executed: vbs.ExecutedNo, TooLate: true},
		{Executed: vbs.ExecutedNo, Cert: true},
		{Status: 503, Answerer: vbs.Keystone, Executed: vbs.ExecutedNo},
		{Executed: vbs.ExecutedNo},
		{Executed: vbs.ExecutedMaybe},
		fromHTML(429).parsed(),
		fromCinder(404, "itemNotFound", "Service cinder-backup could not be found.").parsed(),
		fromKeystone(401, "Unauthorized").parsed(),
		fromHTML(403).parsed(),
		fromCinder(400, "badRequest", "Malformed request url").parsed(),
		fromHTML(404).parsed(),
		fromHTML(409).parsed(),
		fromVBS(500, "VolumeBackup.0014", "Failed to submit the task.").parsed(),
		fromCinder(404, "itemNotFound", "Backup b could not be found.").parsed(),
		fromCinder(400, "badRequest", "Invalid volume: volume size 1 is too small to restore backup of size 2.").parsed(),
		fromHTML(413).parsed(),
		fromHTML(400).parsed(),
		fromHTML(503).parsed(),
		fromHTML(500).parsed(),
	}
	rules := Rules()
	if rules[0].match != nil || rules[0].Act != Accept {
		t.Errorf("the table begins with %q, want the 202", rules[0].Answer)
	}
	decided := map[int]bool{0: true}
	for _, e := range answers {
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.match != nil && r.match(e) })
		if decided[i] {
			t.Errorf("%v is decided by rule %d, as another answer is", e, i)
		}
		decided[i] = true
	}
	for i, r := range rules {
		if !decided[i] {
			t.Errorf("no answer is decided by rule %d: %s", i, r.Answer)
		}
		if r.Answer == "" || r.Then == "" || r.Act == "" {
			t.Errorf("rule %d cannot be printed: %+v", i, r)
		}
	}
}

// TestRulesThatPauseOrRefuseGiveAdvice: whoever reads it must know what to do.
func TestRulesThatPauseOrRefuseGiveAdvice(t *testing.T) {
	for _, r := range Rules() {
		if r.match == nil {
			continue
		}
		got := r.ruling(fromHTML(400).parsed())
		advised := got.Advice != "" && got.Class != ""
		if needed := r.Act == Refuse || r.Act == PauseAll; advised != needed {
			t.Errorf("%s: class %q, advice %q", r.Answer, got.Class, got.Advice)
		}
	}
}

// TestDecideRead: nothing about a GET is ambiguous, and no GET refuses a restore.
func TestDecideRead(t *testing.T) {
	for name, row := range map[string]struct {
		got  error
		want Ruling
	}{
		"401":         {fromKeystone(401, "Unauthorized").parsed(), credentials},
		"403":         {fromHTML(403).parsed(), rights},
		"404 route":   {fromHTML(404).parsed(), endpoint},
		"429":         {fromAPIG(429, "APIG.0308", "throttled").parsed(), throttledFor(holdDefault)},
		"400":         {fromHTML(400).parsed(), Ruling{Act: Again}},
		"409":         {fromHTML(409).parsed(), Ruling{Act: Again}},
		"500":         {fromHTML(500).parsed(), Ruling{Act: Again}},
		"503":         {fromHTML(503).parsed(), Ruling{Act: Again, Slow: true}},
		"no answer":   {&vbs.Error{Executed: vbs.ExecutedNo, Err: errors.New("EOF")}, Ruling{Act: Again, Slow: true}},
		"strange 200": {&vbs.Error{Status: 200, Executed: vbs.ExecutedNo}, Ruling{Act: Again}},
	} {
		t.Run(name, func(t *testing.T) {
			got := DecideRead(row.got)
			got.Advice = ""
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("ruling (-want +got):\n%s", diff)
			}
		})
	}
}

// surelyRefused are the codes by which the front end says what was wrong, so
// that nothing ran whatever the status.
var surelyRefused = []string{"VolumeBackup.0042", "VolumeBackup.0044", "EVS.2144", "EVS.2145", "Common.0018",
	"VolumeBackup.0111", "VolumeBackup.0207", "VolumeBackup.0209", "EVS.1022"}

// unprovenButDecided reports a ruling that sends the row away without a look,
// though nothing proves that the POST had no effect.
func unprovenButDecided(e *vbs.Error, r Ruling) bool {
	if r.Act == Observe || r.Act == Busy || e.Executed == vbs.ExecutedNo || slices.Contains(surelyRefused, e.Code) {
		return false
	}
	redirect := r.Act == PauseAll && e.Status >= 300 && e.Status < 400
	return !redirect
}

// FuzzDecide: no answer makes Decide panic, and what may have been executed is
// looked at before anything else.
func FuzzDecide(f *testing.F) {
	for _, a := range []wireAnswer{fromHTML(504), fromHTML(499), fromHTML(418), fromVBS(500, "VolumeBackup.0014", "x"), fromAPIG(429, "APIG.0308", "x"),
		fromCinder(400, "badRequest", "must be available"), fromKeystone(401, "Unauthorized"), fromVBS(403, "VolumeBackup.0206", "x"), fromHTML(0),
		fromCinder(500, "computeFault", "too small"), fromVBS(429, "VolumeBackup.0205", "x"), fromVBS(401, "VolumeBackup.0014", "x"), fromVBS(404, "VBS.0012", "x")} {
		f.Add(a.status, a.header.Get("Content-Type"), a.header.Get("X-Compute-Request-Id"), "3", []byte(a.body))
	}
	f.Fuzz(func(t *testing.T, status int, contentType, requestID, retryAfter string, body []byte) {
		h := http.Header{"Content-Type": {contentType}, "X-Compute-Request-Id": {requestID}, "Retry-After": {retryAfter}}
		e := vbs.ParseAnswer("restore", status, h, body)
		r := Decide(e)
		if unprovenButDecided(e, r) {
			t.Errorf("%q though it may have been executed: %+v", r.Act, e)
		}
		if r.Act == Accept || r.Hold < 0 || r.Hold > holdAtMost {
			t.Errorf("ruling %+v of an error", r)
		}
		if read := DecideRead(e); read.Act == Refuse || read.Act == Observe || read.Act == Busy || read.Act == Accept {
			t.Errorf("a failed GET became %q", read.Act)
		}
	})
}

// TestEveryCodeWithEveryStatus is the fuzz test's property over everything documented.
func TestEveryCodeWithEveryStatus(t *testing.T) {
	codes := slices.Concat(unsureCodes, surelyRefused, []string{"", "VolumeBackup.0012", "VolumeBackup.0013", "VolumeBackup.0089", "VolumeBackup.0205", "VolumeBackup.0206",
		"Common.0013", "AutoBackup.0003", "APIG.0301", "APIG.0308", "APIG.0101", "APIG.0201", "VolumeBackup.0200", "EVS.5404"})
	for _, code := range codes {
		for status := 200; status < 520; status++ {
			e := fromVBS(status, code, "words").with("Retry-After", "9").parsed()
			if r := Decide(e); unprovenButDecided(e, r) {
				t.Errorf("%d %s: %q though it may have been executed", status, code, r.Act)
			}
		}
	}
}
