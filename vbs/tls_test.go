package vbs

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTLSWithTheCloudsOwnAuthority(t *testing.T) {
	s := &cloudServer{t: t, answer: func(w http.ResponseWriter, _ *http.Request) { cinder(w, 202, restored) }}
	s.login = s.token
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)

	cloud, err := LoadCloud("demo", s.sources())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), cloud, Options{})
	if e := asError(t, err); !e.Cert || e.Executed != ExecutedNo {
		t.Errorf("an unknown authority: %+v", e)
	}

	src := s.sources()
	src.Clouds = append(src.Clouds, "    cacert: /etc/ca.pem\n"...)
	src.ReadFile = func(path string) ([]byte, error) {
		if path != "/etc/ca.pem" {
			t.Errorf("read %s", path)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), nil
	}
	check := func(src Sources) {
		t.Helper()
		cloud, err := LoadCloud("", src)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Open(context.Background(), cloud, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !strings.HasPrefix(c.BackupURL(), "https://") {
			t.Errorf("backups at %s", c.BackupURL())
		}
		if _, err := c.Restore(context.Background(), aPost()); err != nil {
			t.Error(err)
		}
	}
	check(src)
	src = s.sources()
	src.Clouds = append(src.Clouds, "    verify: false\n"...)
	check(src)
}
