package vbs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	yamltoken "github.com/goccy/go-yaml/token"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// envCloud is the name under which OS_* variables are a cloud, as in openstacksdk.
const envCloud = "envvars"

// Sources are where credentials come from. The caller reads files and the
// environment and hands them in.
type Sources struct {
	Clouds []byte // content of clouds.yaml, may be empty
	Secure []byte // content of secure.yaml, laid over clouds.yaml, may be empty
	// Getenv reads an environment variable. The default, nil, is no environment.
	Getenv func(string) string
	// ReadFile reads the certificate files that an entry names (cacert, cert,
	// key). With the default, nil, naming one is an error.
	ReadFile func(path string) ([]byte, error)
}

func (s Sources) env(names ...string) string {
	if s.Getenv == nil {
		return ""
	}
	for _, name := range names {
		if v := s.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// CloudNames returns the names that [LoadCloud] knows, sorted: the entries of
// clouds.yaml, and "envvars" if OS_AUTH_URL is set.
func CloudNames(s Sources) ([]string, error) {
	entries, err := parseClouds(s)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(entries)), nil
}

// LoadCloud finds a cloud. An empty name means OS_CLOUD, else the only entry of
// clouds.yaml, else "envvars" if OS_AUTH_URL is set. When that leaves a choice
// the error lists the entries.
//
// secure.yaml overlays the entry and the entry overlays its profile; the
// profiles otc and otc-swiss are built in. OS_REGION_NAME and OS_INTERFACE
// override the entry as in openstackclient; OS_PASSWORD, OS_CACERT, OS_CERT and
// OS_KEY fill in what it leaves out.
func LoadCloud(name string, s Sources) (Cloud, error) {
	entries, err := parseClouds(s)
	if err != nil {
		return Cloud{}, err
	}
	if name, err = chooseCloud(first(name, s.env("OS_CLOUD")), entries); err != nil {
		return Cloud{}, err
	}
	entry := entries[name]
	if entry.AuthInfo == nil {
		entry.AuthInfo = &clouds.AuthInfo{}
	}
	fillFromEnv(&entry, s)
	if entry, err = withProfile(entry); err != nil {
		return Cloud{}, fmt.Errorf("cloud %q: %w", name, err)
	}
	cloud, err := newCloud(name, entry, s)
	if err != nil {
		return Cloud{}, fmt.Errorf("cloud %q: %w", name, err)
	}
	return cloud, nil
}

// chooseCloud returns the name to use, or an error that lists the names there are.
func chooseCloud(name string, entries map[string]clouds.Cloud) (string, error) {
	names := slices.Sorted(maps.Keys(entries))
	list := strings.Join(names, ", ")
	if name != "" {
		if _, ok := entries[name]; !ok {
			return "", fmt.Errorf("there is no cloud %q (found: %s)", name, first(list, "none"))
		}
		return name, nil
	}
	inFile := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == envCloud })
	switch {
	case len(inFile) == 1:
		return inFile[0], nil
	case len(names) == 0:
		return "", errors.New("no cloud: there are no entries in clouds.yaml and OS_AUTH_URL is not set")
	case slices.Contains(names, envCloud):
		return envCloud, nil
	}
	return "", fmt.Errorf("which cloud? name one of: %s", list)
}

// parseClouds returns all entries, secure.yaml laid over, with envvars.
func parseClouds(s Sources) (map[string]clouds.Cloud, error) {
	entries, err := parseYAML("clouds.yaml", s.Clouds)
	if err != nil {
		return nil, err
	}
	secure, err := parseYAML("secure.yaml", s.Secure)
	if err != nil {
		return nil, err
	}
	for name, entry := range entries {
		if over, ok := secure[name]; ok {
			if entries[name], err = overlay(entry, over); err != nil {
				return nil, fmt.Errorf("lay secure.yaml over cloud %q: %w", name, err)
			}
		}
	}
	if s.env("OS_AUTH_URL") != "" {
		if _, ok := entries[envCloud]; ok {
			return nil, fmt.Errorf("clouds.yaml has an entry %q and OS_AUTH_URL is set: rename the entry", envCloud)
		}
		entries[envCloud] = fromEnv(s)
	}
	return entries, nil
}

// parseYAML hides the YAML library's error text, as it quotes the lines.
func parseYAML(file string, content []byte) (map[string]clouds.Cloud, error) {
	var all clouds.Clouds
	if err := unmarshal(content, &all); err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
			return nil, fmt.Errorf("parse %s: line %d: %s", file, at.GetToken().Position.Line, at.GetMessage())
		}
		return nil, fmt.Errorf("parse %s: it is not YAML of the expected form", file)
	}
	if all.Clouds == nil {
		all.Clouds = map[string]clouds.Cloud{}
	}
	return all.Clouds, nil
}

// unmarshal takes numbers for the strings they are meant to be: a password of
// 007 or a project id of 12e45 must arrive as it was written.
func unmarshal(content []byte, out any) error {
	tokens := lexer.Tokenize(string(content))
	for _, t := range tokens {
		switch t.Type {
		case yamltoken.IntegerType, yamltoken.FloatType, yamltoken.BinaryIntegerType, yamltoken.OctetIntegerType,
			yamltoken.HexIntegerType, yamltoken.InfinityType, yamltoken.NanType:
			t.Type = yamltoken.StringType
		}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil || len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return err
	}
	return yaml.NodeToValue(file.Docs[0].Body, out)
}

// overlay returns base with everything that over sets.
func overlay(base, over clouds.Cloud) (clouds.Cloud, error) {
	var out clouds.Cloud
	for _, layer := range []clouds.Cloud{base, over} {
		if len(layer.Regions) > 0 {
			out.Regions = nil // decoding into old elements would mix them
		}
		raw, err := json.Marshal(layer)
		if err != nil {
			return out, errors.New("the entry cannot be copied")
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			return out, errors.New("the entry cannot be copied")
		}
	}
	return out, nil
}

// fromEnv makes a cloud of OS_* variables, in the newer and the older spelling.
func fromEnv(s Sources) clouds.Cloud {
	return clouds.Cloud{
		Profile: s.env("OS_PROFILE"),
		AuthInfo: &clouds.AuthInfo{
			AuthURL:  s.env("OS_AUTH_URL"),
			Token:    s.env("OS_TOKEN"),
			Username: s.env("OS_USERNAME"), UserID: s.env("OS_USER_ID", "OS_USERID"),
			Password:                    s.env("OS_PASSWORD"),
			ApplicationCredentialID:     s.env("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName:   s.env("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialSecret: s.env("OS_APPLICATION_CREDENTIAL_SECRET"),
			ProjectID:                   s.env("OS_PROJECT_ID", "OS_TENANT_ID"),
			ProjectName:                 s.env("OS_PROJECT_NAME", "OS_TENANT_NAME"),
			UserDomainID:                s.env("OS_USER_DOMAIN_ID"), UserDomainName: s.env("OS_USER_DOMAIN_NAME"),
			ProjectDomainID: s.env("OS_PROJECT_DOMAIN_ID"), ProjectDomainName: s.env("OS_PROJECT_DOMAIN_NAME"),
			DomainID: s.env("OS_DOMAIN_ID"), DomainName: s.env("OS_DOMAIN_NAME"),
			DefaultDomain: s.env("OS_DEFAULT_DOMAIN"),
		},
	}
}

func fillFromEnv(entry *clouds.Cloud, s Sources) {
	entry.RegionName = first(s.env("OS_REGION_NAME"), entry.RegionName)
	if v := s.env("OS_INTERFACE", "OS_ENDPOINT_TYPE"); v != "" {
		entry.EndpointType, entry.Interface = "", v
	}
	a := entry.AuthInfo
	if a.ApplicationCredentialID == "" && a.ApplicationCredentialName == "" && a.Token == "" {
		a.Password = first(a.Password, s.env("OS_PASSWORD"))
	}
	entry.CACertFile = first(entry.CACertFile, s.env("OS_CACERT"))
	if entry.ClientCertFile == "" && entry.ClientKeyFile == "" {
		entry.ClientCertFile, entry.ClientKeyFile = s.env("OS_CERT"), s.env("OS_KEY")
	}
}

// profile returns what openstacksdk ships for a vendor.
func profile(name string) (clouds.Cloud, bool) {
	switch name {
	case "otc":
		return clouds.Cloud{RegionName: "eu-de",
			AuthInfo: &clouds.AuthInfo{AuthURL: "https://iam.{region_name}.otc.t-systems.com/v3"}}, true
	case "otc-swiss":
		return clouds.Cloud{RegionName: "eu-ch2",
			AuthInfo: &clouds.AuthInfo{AuthURL: "https://iam-pub.{region_name}.sc.otc.t-systems.com/v3"}}, true
	}
	return clouds.Cloud{}, false
}

// withProfile lays the entry over its vendor profile, takes the values of its
// region from the list of regions, and puts the region into auth_url.
func withProfile(entry clouds.Cloud) (clouds.Cloud, error) {
	if entry.RegionName == "" && len(entry.Regions) > 0 {
		entry.RegionName = entry.Regions[0].Name
	}
	var err error
	if name := first(entry.Profile, entry.Cloud); name != "" {
		base, ok := profile(name)
		if !ok {
			return entry, fmt.Errorf("unknown profile %q (known: otc, otc-swiss); write auth_url instead", name)
		}
		if entry, err = overlay(base, entry); err != nil {
			return entry, err
		}
	}
	for _, r := range entry.Regions {
		if r.Name == entry.RegionName {
			if entry, err = overlay(entry, r.Values); err != nil {
				return entry, err
			}
			entry.RegionName = r.Name
			break
		}
	}
	r := strings.NewReplacer("{region_name}", entry.RegionName, "%(region_name)s", entry.RegionName)
	entry.AuthInfo.AuthURL = r.Replace(entry.AuthInfo.AuthURL)
	return entry, nil
}

// tlsConfig reads the certificates an entry names. Default: the system's roots.
func tlsConfig(entry clouds.Cloud, s Sources) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	config.InsecureSkipVerify = entry.Verify != nil && !*entry.Verify
	if entry.CACertFile != "" {
		pem, err := s.read("cacert", entry.CACertFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cacert %s holds no certificate", entry.CACertFile)
		}
	}
	if entry.ClientCertFile == "" && entry.ClientKeyFile == "" {
		return config, nil
	}
	if entry.ClientCertFile == "" || entry.ClientKeyFile == "" {
		return nil, errors.New("cert and key must be given together")
	}
	cert, err := s.read("cert", entry.ClientCertFile)
	if err != nil {
		return nil, err
	}
	key, err := s.read("key", entry.ClientKeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert %s and key %s: %w", entry.ClientCertFile, entry.ClientKeyFile, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func (s Sources) read(what, path string) ([]byte, error) {
	if s.ReadFile == nil {
		return nil, fmt.Errorf("%s %s: files are not read here", what, path)
	}
	content, err := s.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return content, nil
}
