package vbs

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describe is everything of a Cloud that a test may compare: where it logs in,
// with what, and where it looks.
func describe(t *testing.T, c Cloud) string {
	t.Helper()
	k, err := newKeyring(c.load().auth, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c.name + " " + c.AuthURL() + " " + c.Region() + " " + c.load().availability + " " + string(k.login())
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestLoadCloud(t *testing.T) {
	const two = "clouds:\n  a: {auth: {auth_url: 'http://a/v3', username: u, password: p, project_id: x}}\n  b: {auth: {auth_url: 'http://b:5000', username: u, password: p, project_id: x}}\n"
	const asU = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"id":"default"},"name":"u","password":"p"}}},"scope":{"project":{"id":"x"}}}}`
	tests := []struct {
		name, cloud string
		s           Sources
		want        string
	}{
		{"by name", "b", Sources{Clouds: []byte(two)}, "b http://b:5000/v3  public " + asU},
		{"OS_CLOUD", "", Sources{Clouds: []byte(two), Getenv: env("OS_CLOUD", "a")}, "a http://a/v3  public " + asU},
		{"a name beats OS_CLOUD", "b", Sources{Clouds: []byte(two), Getenv: env("OS_CLOUD", "a")}, "b http://b:5000/v3  public " + asU},
		{"region and interface of the environment", "a", Sources{Clouds: []byte(two), Getenv: env("OS_REGION_NAME", "r", "OS_INTERFACE", "internal")}, "a http://a/v3 r internal " + asU},
		{"secure.yaml", "", Sources{
			Clouds: []byte("clouds: {c: {region_name: r, interface: admin, auth: {auth_url: 'https://c/identity/', username: u, password: wrong, project_id: x}}}"),
			Secure: []byte("clouds: {c: {auth: {password: p}}, other: {auth: {password: q}}}"),
		}, "c https://c/identity/v3 r admin " + asU},
		{"numbers where strings are meant", "", Sources{
			Clouds: []byte("clouds: {c: {auth: {auth_url: 'http://c', username: 007, password: 1e5, project_id: 12e45}}}"),
		}, `c http://c/v3  public {"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"id":"default"},"name":"007","password":"1e5"}}},"scope":{"project":{"id":"12e45"}}}}`},
		{"domains by name", "", Sources{
			Clouds: []byte("clouds: {c: {auth: {auth_url: 'http://c', username: u, password: p, project_name: n, user_domain_name: OTC-1}}}"),
		}, `c http://c/v3  public {"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"OTC-1"},"name":"u","password":"p"}}},"scope":{"project":{"domain":{"name":"OTC-1"},"name":"n"}}}}`},
		{"application credential", "", Sources{
			Clouds: []byte("clouds: {c: {auth_type: v3applicationcredential, auth: {auth_url: 'http://c', application_credential_id: i, application_credential_secret: s, project_id: x}}}"),
		}, `c http://c/v3  public {"auth":{"identity":{"application_credential":{"id":"i","secret":"s"},"methods":["application_credential"]}}}`},
		{"profile otc", "", Sources{
			Clouds: []byte("clouds: {c: {profile: otc, region_name: eu-nl, auth: {username: u, password: p, project_id: x}}}"),
		}, "c https://iam.eu-nl.otc.t-systems.com/v3 eu-nl public " + asU},
		{"profile otc without region", "", Sources{
			Clouds: []byte("clouds: {c: {cloud: otc, auth: {username: u, password: p, project_id: x}}}"),
		}, "c https://iam.eu-de.otc.t-systems.com/v3 eu-de public " + asU},
		{"profile otc-swiss", "", Sources{
			Clouds: []byte("clouds: {c: {profile: otc-swiss, auth: {username: u, password: p, project_id: x}}}"),
		}, "c https://iam-pub.eu-ch2.sc.otc.t-systems.com/v3 eu-ch2 public " + asU},
		{"a list of regions", "", Sources{
			Clouds: []byte("clouds: {c: {regions: [r1, {name: r2, values: {auth: {project_id: x}}}], auth: {auth_url: 'http://{region_name}.c', username: u, password: p, project_id: y}}}"),
			Getenv: env("OS_REGION_NAME", "r2"),
		}, "c http://r2.c/v3 r2 public " + asU},
		{"an openrc file", "", Sources{Getenv: env("OS_AUTH_URL", "http://e/v3", "OS_USERNAME", "u", "OS_PASSWORD", "p",
			"OS_USER_DOMAIN_NAME", "D", "OS_PROJECT_DOMAIN_NAME", "E", "OS_PROJECT_NAME", "n", "OS_REGION_NAME", "r")},
			`envvars http://e/v3 r public {"auth":{"identity":{"methods":["password"],"password":{"user":{"domain":{"name":"D"},"name":"u","password":"p"}}},"scope":{"project":{"domain":{"name":"E"},"name":"n"}}}}`},
		{"OS_USER_ID", "envvars", Sources{Clouds: []byte(two), Getenv: env("OS_AUTH_URL", "http://e", "OS_USER_ID", "i", "OS_PASSWORD", "p", "OS_PROJECT_ID", "x")},
			`envvars http://e/v3  public {"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"i","password":"p"}}},"scope":{"project":{"id":"x"}}}}`},
		{"several entries and OS_AUTH_URL", "", Sources{Clouds: []byte(two), Getenv: env("OS_AUTH_URL", "http://e", "OS_USERNAME", "u", "OS_PASSWORD", "p", "OS_PROJECT_ID", "x")},
			"envvars http://e/v3  public " + asU},
		{"OS_PASSWORD fills in", "", Sources{
			Clouds: []byte("clouds: {c: {auth: {auth_url: 'http://c', username: u, project_id: x}}}"), Getenv: env("OS_PASSWORD", "p"),
		}, "c http://c/v3  public " + asU},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := LoadCloud(tt.cloud, tt.s)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, describe(t, c)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadCloudSaysWhatIsMissing(t *testing.T) {
	entry := func(auth string) Sources { return Sources{Clouds: []byte("clouds: {c: {auth: {" + auth + "}}}")} }
	const two = "clouds:\n  prod: {}\n  dev: {}\n"
	tests := []struct {
		name, cloud string
		s           Sources
		want        string
	}{
		{"a choice", "", Sources{Clouds: []byte(two)}, "which cloud? name one of: dev, prod"},
		{"a wrong name", "test", Sources{Clouds: []byte(two)}, `there is no cloud "test" (found: dev, prod)`},
		{"nothing", "", Sources{}, "no cloud: there are no entries in clouds.yaml and OS_AUTH_URL is not set"},
		{"auth_url", "", entry("username: u, password: p"), "no auth_url"},
		{"an auth_url without scheme", "", entry("auth_url: 'iam.eu', username: u, password: p"), "not an http or https URL"},
		{"Keystone v2", "", entry("auth_url: 'http://c/v2.0', username: u, password: p"), "Keystone v2 is not supported"},
		{"password", "", entry("auth_url: 'http://c', username: u"), "no password"},
		{"user", "", entry("auth_url: 'http://c', password: p"), "no username"},
		{"secret of the credential", "", entry("auth_url: 'http://c', application_credential_id: i"), "no application_credential_secret"},
		{"id of the credential", "", entry("auth_url: 'http://c', application_credential_secret: s"), "no application_credential_id"},
		{"profile", "", Sources{Clouds: []byte("clouds: {c: {profile: vexxhost}}")}, `unknown profile "vexxhost"`},
		{"envvars twice", "", Sources{Clouds: []byte("clouds: {envvars: {}}"), Getenv: env("OS_AUTH_URL", "http://e")}, "rename the entry"},
		{"files", "", Sources{Clouds: []byte("clouds: {c: {cacert: /ca.pem, auth: {auth_url: 'http://c'}}}")}, "cacert /ca.pem: files are not read here"},
		{"a file that is no certificate", "", Sources{
			Clouds:   []byte("clouds: {c: {cacert: /ca.pem, auth: {auth_url: 'http://c'}}}"),
			ReadFile: func(string) ([]byte, error) { return []byte("x"), nil },
		}, "holds no certificate"},
		{"an unreadable file", "", Sources{
			Clouds:   []byte("clouds: {c: {cert: /c.pem, key: /k.pem, auth: {auth_url: 'http://c'}}}"),
			ReadFile: func(string) ([]byte, error) { return nil, errors.New("permission denied") },
		}, "cert: permission denied"},
		{"a key without cert", "", Sources{Clouds: []byte("clouds: {c: {key: /k.pem, auth: {auth_url: 'http://c'}}}")}, "cert and key must be given together"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadCloud(tt.cloud, tt.s)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestBrokenYAMLDoesNotShowItsLines(t *testing.T) {
	for _, text := range []string{
		"clouds: {c: {auth: {password: geheim-1, }}",
		"clouds:\n  c:\n    auth:\n      password: geheim-1\n     x: [",
		"clouds: geheim-1",
		"clouds: {c: {auth: geheim-1}}",
		"clouds: {c: {auth: {password: {geheim-1: geheim-1}}}}",
		"geheim-1",
	} {
		_, err := LoadCloud("c", Sources{Clouds: []byte(text)})
		if err == nil || strings.Contains(err.Error(), "geheim-1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCloudNames(t *testing.T) {
	s := Sources{Clouds: []byte("clouds: {b: {}, a: {}}"), Getenv: env("OS_AUTH_URL", "http://e")}
	got, err := CloudNames(s)
	if diff := cmp.Diff([]string{"a", "b", "envvars"}, got); err != nil || diff != "" {
		t.Error(diff, err)
	}
	if _, err := CloudNames(Sources{Clouds: []byte("[")}); err == nil {
		t.Error("broken YAML was read")
	}
}

func TestTheCloudThatWasNotLoadedPrintsItself(t *testing.T) {
	if b, err := json.Marshal(Cloud{}); err != nil || string(b) != `"no cloud"` {
		t.Errorf("got %s, %v", b, err)
	}
}

func TestBaseURL(t *testing.T) {
	other := strings.Repeat("ab", 16)
	for raw, want := range map[string]string{
		"https://vbs.eu-de.otc.t-systems.com/v3/%(project_id)s/": "https://vbs.eu-de.otc.t-systems.com/v3/" + projectID + "/",
		"https://vbs.eu-de.otc.t-systems.com/v2/" + projectID:    "https://vbs.eu-de.otc.t-systems.com/v3/" + projectID + "/",
		"https://vbs.eu-de.otc.t-systems.com":                    "https://vbs.eu-de.otc.t-systems.com/v3/" + projectID + "/",
		"http://c:8776/v3":                                       "http://c:8776/v3/" + projectID + "/",
		"http://c/volume/v3/$(tenant_id)s":                       "http://c/volume/v3/" + projectID + "/",
		"http://c/v3/" + other:                                   "",
		"ftp://c/v3":                                             "",
		"c/v3":                                                   "",
		"http://u:p@c/v3":                                        "",
		"http://c/v3?x=1":                                        "",
	} {
		got, err := baseURL(raw, projectID)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", raw, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "u:p@") {
			t.Errorf("a password is shown: %v", err)
		}
	}
}
