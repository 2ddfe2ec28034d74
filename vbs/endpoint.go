package vbs

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// service is an entry of Keystone's catalog.
type service struct {
	Type      string `json:"type"`
	Endpoints []struct {
		Interface string `json:"interface"`
		Region    string `json:"region"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
	} `json:"endpoints"`
}

// parseURL accepts absolute http and https URLs only.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%s is not an http or https URL", u.Redacted())
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%s must have no user, query or fragment", u.Redacted())
	}
	return u, nil
}

// fromCatalog returns the URL of the first of the types that the catalog has in
// this region and interface.
func fromCatalog(catalog []service, types []string, region, availability string) (string, error) {
	for _, kind := range types {
		for _, s := range catalog {
			if s.Type != kind {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Interface == availability && (region == "" || region == e.Region || region == e.RegionID) {
					return e.URL, nil
				}
			}
		}
	}
	return "", fmt.Errorf("the catalog has no %s endpoint of type %s in region %q (it has: %s)",
		availability, strings.Join(types, ", "), region, catalogTypes(catalog))
}

func catalogTypes(catalog []service) string {
	var types []string
	for _, s := range catalog {
		types = append(types, s.Type)
	}
	slices.Sort(types)
	return first(strings.Join(slices.Compact(types), ", "), "nothing")
}

var (
	versionPart = regexp.MustCompile(`^v[0-9]+(\.[0-9]+)?$`)
	projectPart = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// baseURL completes an endpoint to "…/v3/{project_id}/". Catalogs and people
// write it with and without version and project; a v2 endpoint of the catalog
// is taken for its v3 sibling. The project must be the token's: for any other
// Cinder answers 400 "Malformed request url".
func baseURL(raw, project string) (string, error) {
	for _, hole := range []string{"%(project_id)s", "%(tenant_id)s", "$(project_id)s", "$(tenant_id)s", "{project_id}"} {
		raw = strings.ReplaceAll(raw, hole, project)
	}
	u, err := parseURL(raw)
	if err != nil {
		return "", err
	}
	parts := strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })
	if n := len(parts); n > 0 && parts[n-1] == project {
		parts = parts[:n-1]
	}
	if n := len(parts); n > 0 && projectPart.MatchString(parts[n-1]) {
		return "", fmt.Errorf("endpoint %s belongs to project %s, the token to %s", raw, parts[n-1], project)
	}
	if n := len(parts); n > 0 && versionPart.MatchString(parts[n-1]) {
		parts = parts[:n-1]
	}
	u.Path, u.RawPath = "/"+strings.Join(append(parts, "v3", project), "/")+"/", ""
	return u.String(), nil
}
