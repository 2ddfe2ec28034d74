package vbs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// expired are the shapes in which clouds say that a token has ended.
var expired = map[string]func(http.ResponseWriter){
	"the middleware's 401": func(w http.ResponseWriter) {
		w.Header().Set("WWW-Authenticate", `Keystone uri="http://127.0.0.1:5000"`)
		w.WriteHeader(401)
		io.WriteString(w, body401)
	},
	"400 Common.0013": func(w http.ResponseWriter) {
		w.WriteHeader(400)
		io.WriteString(w, `{"error": {"code": "Common.0013", "message": "Invalid token in the header."}}`)
	},
	"APIG.0301": func(w http.ResponseWriter) {
		w.WriteHeader(401)
		io.WriteString(w, `{"error_msg": "token expires", "error_code": "APIG.0301", "request_id": "r"}`)
	},
}

func TestAnExpiredTokenIsRenewedOnce(t *testing.T) {
	for name, refuse := range expired {
		t.Run(name, func(t *testing.T) {
			executed := 0
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Auth-Token") == "token-1" {
					refuse(w)
					return
				}
				executed++
				cinder(w, 202, restored)
			})
			if _, err := s.open(Options{}).Restore(context.Background(), aPost()); err != nil {
				t.Fatal(err)
			}
			if logins, calls := s.counts(); executed != 1 || logins != 2 || calls != 2 {
				t.Errorf("%d executed, %d logins, %d calls", executed, logins, calls)
			}
		})
	}
}

func TestATokenRefusedTwiceIsAnAuthError(t *testing.T) {
	for name, refuse := range expired {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w) })
			c := s.open(Options{})
			_, err := c.Restore(context.Background(), aPost())
			if e := asError(t, err); !IsAuth(err) || e.Executed != ExecutedNo {
				t.Errorf("got %+v", e)
			}
			if _, err = c.Volume(context.Background(), volumeID); !IsAuth(err) {
				t.Errorf("got %v", err)
			}
			if logins, calls := s.counts(); logins != 3 || calls != 4 {
				t.Errorf("%d logins, %d calls", logins, calls)
			}
		})
	}
}

func TestA401ThatSaysBusyIsNotSentAgain(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(401)
		io.WriteString(w, `{"error": {"code": "VolumeBackup.0206", "message": "x"}}`)
	})
	_, err := s.open(Options{}).Restore(context.Background(), aPost())
	if e := asError(t, err); e.Executed != ExecutedMaybe {
		t.Errorf("got %+v", e)
	}
	if logins, calls := s.counts(); logins != 1 || calls != 1 {
		t.Errorf("%d logins, %d calls", logins, calls)
	}
}

func TestConcurrent401sRenewOnce(t *testing.T) {
	const n = 20
	var mu sync.Mutex
	waiting, all := 0, make(chan struct{})
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != "token-1" {
			cinder(w, 202, restored)
			return
		}
		mu.Lock()
		if waiting++; waiting == n {
			close(all)
		}
		mu.Unlock()
		<-all // everybody is told at the same time
		w.WriteHeader(401)
	})
	c := s.open(Options{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := c.Restore(context.Background(), aPost()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if logins, calls := s.counts(); logins != 2 || calls != 2*n {
		t.Errorf("%d logins, %d calls", logins, calls)
	}
}

func TestATokenAboutToEndIsRenewedBeforehand(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { cinder(w, 202, restored) })
	c := s.open(Options{})
	c.keys.tok = &token{id: "old", project: projectID, until: time.Now().Add(9 * time.Minute), margin: renewBefore}
	if _, err := c.Restore(context.Background(), aPost()); err != nil {
		t.Fatal(err)
	}
	if logins, calls := s.counts(); logins != 2 || calls != 1 {
		t.Errorf("%d logins, %d calls", logins, calls)
	}
	if tok := c.keys.current(); tok.id != "token-2" || left(tok.until) < 50*time.Minute || tok.margin != 10*time.Minute {
		t.Errorf("token %s lives %v, margin %v", tok.id, left(tok.until), tok.margin)
	}
}

func TestWhileKeystoneIsAwayTheOldTokenServes(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != "old" {
			t.Errorf("token %q", r.Header.Get("X-Auth-Token"))
		}
		cinder(w, 202, restored)
	})
	c := s.open(Options{})
	s.login = func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(503) }
	c.keys.tok = &token{id: "old", project: projectID, until: time.Now().Add(time.Minute), margin: renewBefore}
	for range 3 {
		if _, err := c.Restore(context.Background(), aPost()); err != nil {
			t.Fatal(err)
		}
	}
	if logins, _ := s.counts(); logins != 2 {
		t.Errorf("%d logins: a failed one must not be repeated at once", logins)
	}
}

func TestARefusedRenewalIsKeystonesAnswer(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	c := s.open(Options{})
	s.login = func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.WriteHeader(401)
		fmt.Fprintf(w, `{"error": {"code": 401, "message": "no %s", "title": "Unauthorized"}}`, password)
	}
	for range 5 {
		_, err := c.Restore(context.Background(), aPost())
		e := asError(t, err)
		if e.Answerer != Keystone || e.Executed != ExecutedNo || !IsAuth(err) || e.Status != 401 {
			t.Errorf("got %+v", e)
		}
		mustContain(t, e.Error(), "restore backup "+backupID)
		mustContain(t, e.Error(), "no [redacted]")
	}
	if logins, _ := s.counts(); logins != 2 {
		t.Errorf("%d logins: refused ones lock accounts", logins)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		login func(w http.ResponseWriter, s *cloudServer)
		o     Options
		want  string
	}{
		{"a wrong password", func(w http.ResponseWriter, _ *cloudServer) { w.WriteHeader(401); io.WriteString(w, body401) },
			Options{}, "401 by keystone: The request you have made requires authentication."},
		{"no JSON", func(w http.ResponseWriter, _ *cloudServer) { w.WriteHeader(201) }, Options{}, "the answer holds no token"},
		{"no project", func(w http.ResponseWriter, _ *cloudServer) {
			w.Header().Set("X-Subject-Token", "t")
			w.WriteHeader(201)
			io.WriteString(w, `{"token": {}}`)
		}, Options{}, "the token is for no project"},
		{"no such type", func(w http.ResponseWriter, s *cloudServer) { s.token(w, nil, 1) },
			Options{VolumeTypes: []string{"disks"}}, "no public endpoint of type vbs, vbsv3, disks in region \"RegionOne\" (it has: identity, volumev3)"},
		{"an override of another project", func(w http.ResponseWriter, s *cloudServer) { s.token(w, nil, 1) },
			Options{BackupEndpoint: "https://vbs.invalid/v3/" + strings.Repeat("ab", 16)}, "belongs to project"},
		{"an unknown flavour", func(w http.ResponseWriter, s *cloudServer) { s.token(w, nil, 1) },
			Options{Flavour: "sweet"}, `flavour "sweet" is unknown (known: vbs, cinder)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, nil)
			s.login = func(w http.ResponseWriter, _ *http.Request, _ int) { tt.login(w, s) }
			cloud, err := LoadCloud("", s.sources())
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(context.Background(), cloud, tt.o)
			mustContain(t, asError(t, err).Error(), tt.want)
		})
	}
	_, err := Open(context.Background(), Cloud{}, Options{})
	if asError(t, err).Executed != ExecutedNo {
		t.Error(err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	var logged bytes.Buffer
	s := newServer(t, nil)
	cloud, err := LoadCloud("demo", s.sources())
	if err != nil {
		t.Fatal(err)
	}
	// No sockets: printing a live connection would race with its goroutines.
	o := overTransport(s, func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.WriteHeader(500)
		fmt.Fprintf(w, "you sent %s and %s", r.Header.Get("X-Auth-Token"), password)
		return w.Result(), nil
	})
	o.Log = zerolog.New(&logged)
	c := s.open(o)
	_, restoreErr := c.Restore(context.Background(), aPost())
	_, readErr := c.Volume(context.Background(), volumeID)
	asJSON, err := json.Marshal(map[string]any{"cloud": cloud, "in": struct{ C Cloud }{cloud}})
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct{ c Cloud }
	type holder struct{ c *Client }
	seen := string(asJSON) + logged.String() + restoreErr.Error() + readErr.Error()
	for _, v := range []any{cloud, &cloud, hidden{cloud}, &hidden{cloud}, c, *c, &holder{c}, restoreErr, []Cloud{cloud}} {
		seen += fmt.Sprintf("%s %v %+v %#v %q %d %x", v, v, v, v, v, v, v)
	}
	for _, secret := range []string{password, "token-1"} {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
			if i := strings.Index(seen, form); i >= 0 {
				t.Errorf("%q is shown in …%s…", form, seen[max(0, i-200):i+len(form)])
			}
		}
	}
	mustContain(t, seen, "[redacted]")
	mustContain(t, seen, "restorer")
	mustContain(t, logged.String(), `"status":500`)
}

func TestWaitingForSomeoneElsesLoginEndsWithTheContext(t *testing.T) {
	s := newServer(t, nil)
	c := s.open(Options{})
	c.keys.turn <- struct{}{} // somebody is at it
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, e := c.keys.renew(ctx, c.keys.current())
	if e == nil || !errors.Is(e, context.Canceled) {
		t.Errorf("got %v", e)
	}
}
