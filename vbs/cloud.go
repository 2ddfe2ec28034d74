package vbs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// A Cloud is one entry of clouds.yaml, ready for [Open]: where the cloud is and
// how to log in. It keeps its secrets to itself: printing it in any way, also as
// JSON or with %#v, shows none of them.
type Cloud struct {
	name string
	load func() *settings // behind a function, where no verb of fmt can reach
}

type settings struct {
	auth         gophercloud.AuthOptions
	region       string
	availability string // "public", "internal" or "admin"
	tls          *tls.Config
}

// Name returns the entry's name: "otc", or "envvars" for OS_* variables.
func (c Cloud) Name() string { return c.name }

// AuthURL returns Keystone's URL, ending in /v3.
func (c Cloud) AuthURL() string {
	if c.load == nil {
		return ""
	}
	return c.load().auth.IdentityEndpoint
}

// Region returns the region in which endpoints are looked for; "" takes the
// first endpoint of the catalog.
func (c Cloud) Region() string {
	if c.load == nil {
		return ""
	}
	return c.load().region
}

// String names the cloud, its address, region and user, but no secret.
func (c Cloud) String() string {
	if c.load == nil {
		return "no cloud"
	}
	auth := c.load().auth
	who := "user " + auth.Username + auth.UserID
	if id := auth.ApplicationCredentialID + auth.ApplicationCredentialName; id != "" {
		who = "application credential " + id
	} else if auth.TokenID != "" {
		who = "token"
	}
	return fmt.Sprintf("%s (%s, region %q, %s, secrets [redacted])", c.name, c.AuthURL(), c.Region(), who)
}

// GoString is String: %#v must not show secrets either.
func (c Cloud) GoString() string { return "vbs.Cloud(" + c.String() + ")" }

// MarshalText is String, for JSON and YAML.
func (c Cloud) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// secrets lists what must never be seen, for scrubbing texts of strangers.
func (s *settings) secrets() []string {
	return []string{s.auth.Password, s.auth.ApplicationCredentialSecret, s.auth.TokenID}
}

// newCloud checks an entry and turns it into a Cloud.
func newCloud(name string, entry clouds.Cloud, s Sources) (Cloud, error) {
	config, err := tlsConfig(entry, s)
	if err != nil {
		return Cloud{}, err
	}
	auth, err := authOptions(entry)
	if err != nil {
		return Cloud{}, err
	}
	set := &settings{auth: auth, region: entry.RegionName, tls: config}
	switch first(entry.EndpointType, entry.Interface) {
	case "internal", "internalURL":
		set.availability = "internal"
	case "admin", "adminURL":
		set.availability = "admin"
	default:
		set.availability = "public"
	}
	return Cloud{name: name, load: func() *settings { return set }}, nil
}

func authOptions(entry clouds.Cloud) (gophercloud.AuthOptions, error) {
	a := entry.AuthInfo
	url, err := identityURL(a.AuthURL)
	if err != nil {
		return gophercloud.AuthOptions{}, err
	}
	o := gophercloud.AuthOptions{IdentityEndpoint: url}
	switch {
	case a.ApplicationCredentialSecret != "":
		o.ApplicationCredentialID = a.ApplicationCredentialID
		o.ApplicationCredentialSecret = a.ApplicationCredentialSecret
		if o.ApplicationCredentialID == "" {
			o.ApplicationCredentialName = a.ApplicationCredentialName
			userOptions(&o, a)
		}
		return o, checkCredential(&o)
	case a.ApplicationCredentialID != "" || a.ApplicationCredentialName != "":
		return o, errors.New("no application_credential_secret")
	case a.Token != "" && a.Password == "":
		o.TokenID = a.Token
	case a.Password == "":
		return o, errors.New("no password: put it into secure.yaml or OS_PASSWORD")
	default:
		o.Password = a.Password
		userOptions(&o, a)
		if o.Username == "" && o.UserID == "" {
			return o, errors.New("no username")
		}
	}
	o.Scope = projectScope(a)
	return o, nil
}

func checkCredential(o *gophercloud.AuthOptions) error {
	if o.ApplicationCredentialID != "" || (o.ApplicationCredentialName != "" && o.Username+o.UserID != "") {
		return nil
	}
	return errors.New("no application_credential_id (or application_credential_name with a user)")
}

// userOptions fills in the user and its domain. As with openstackclient the
// domain is "default" when nothing names one.
func userOptions(o *gophercloud.AuthOptions, a *clouds.AuthInfo) {
	if o.UserID = a.UserID; o.UserID != "" {
		return
	}
	o.Username = a.Username
	o.DomainID, o.DomainName = domain(a.UserDomainID, a.UserDomainName, a.DomainID, a.DomainName, a.DefaultDomain, "default")
}

// projectScope scopes to the project; its domain is the user's if not named.
func projectScope(a *clouds.AuthInfo) *gophercloud.AuthScope {
	if a.ProjectID != "" {
		return &gophercloud.AuthScope{ProjectID: a.ProjectID}
	}
	if a.ProjectName == "" {
		return nil
	}
	id, name := domain(a.ProjectDomainID, a.ProjectDomainName, a.DomainID, a.DomainName,
		"", "", a.UserDomainID, a.UserDomainName, a.DefaultDomain, "", "default")
	return &gophercloud.AuthScope{ProjectName: a.ProjectName, DomainID: id, DomainName: name}
}

// domain takes pairs of an id and a name; the first that is not empty wins, its
// id before its name. The last lone values are ids.
func domain(pairs ...string) (id, name string) {
	for i, s := range pairs {
		if s == "" {
			continue
		}
		if i%2 == 0 || s == "default" {
			return s, ""
		}
		return "", s
	}
	return "", ""
}

// identityURL makes Keystone's v3 URL of an auth_url with or without version.
func identityURL(raw string) (string, error) {
	if raw == "" {
		return "", errors.New("no auth_url")
	}
	u, err := parseURL(raw)
	if err != nil {
		return "", fmt.Errorf("auth_url: %w", err)
	}
	path := strings.TrimRight(u.Path, "/")
	switch last := path[strings.LastIndex(path, "/")+1:]; last {
	case "v3":
	case "v2.0", "v2":
		return "", fmt.Errorf("auth_url %s: Keystone v2 is not supported, use /v3", u.Redacted())
	default:
		path += "/v3"
	}
	u.Path, u.RawPath = path, ""
	return u.String(), nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
