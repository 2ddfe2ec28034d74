package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/vbs"
)

// cloudFiles are the credentials found, and where.
type cloudFiles struct {
	sources        vbs.Sources
	clouds, secure string // paths; "" if there is none
}

// findClouds looks for clouds.yaml and secure.yaml as openstacksdk does: the
// file that OS_CLIENT_CONFIG_FILE names, else in the current folder,
// ~/.config/openstack and /etc/openstack.
func findClouds(e env) (cloudFiles, error) {
	f := cloudFiles{sources: vbs.Sources{Getenv: e.Getenv, ReadFile: os.ReadFile}}
	var err error
	if f.clouds, f.sources.Clouds, err = firstFile(e.Getenv("OS_CLIENT_CONFIG_FILE"), configFolders(e), "clouds"); err != nil {
		return f, &usageError{err}
	}
	beside := configFolders(e)
	if f.clouds != "" {
		beside = slices.Insert(beside, 0, filepath.Dir(f.clouds))
	}
	if f.secure, f.sources.Secure, err = firstFile(e.Getenv("OS_CLIENT_SECURE_FILE"), beside, "secure"); err != nil {
		return f, &usageError{err}
	}
	return f, nil
}

func configFolders(e env) []string {
	folders := []string{"."}
	if home := e.Getenv("XDG_CONFIG_HOME"); home != "" {
		folders = append(folders, filepath.Join(home, "openstack"))
	} else if home := e.Getenv("HOME"); home != "" {
		folders = append(folders, filepath.Join(home, ".config", "openstack"))
	}
	return append(folders, "/etc/openstack")
}

// firstFile reads the named file, which must exist, or the first one found.
func firstFile(named string, folders []string, base string) (string, []byte, error) {
	if named != "" {
		content, err := os.ReadFile(named)
		if err != nil {
			return "", nil, fmt.Errorf("read %s.yaml: %w", base, err)
		}
		return named, content, nil
	}
	for _, folder := range folders {
		for _, ending := range []string{".yaml", ".yml", ".json"} {
			path := filepath.Join(folder, base+ending)
			content, err := os.ReadFile(path)
			if err == nil {
				return path, content, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", nil, fmt.Errorf("read %s.yaml: %w", base, err)
			}
		}
	}
	return "", nil, nil
}

// load finds one cloud's credentials.
func (f cloudFiles) load(name string) (vbs.Cloud, error) {
	c, err := vbs.LoadCloud(name, f.sources)
	if err == nil {
		return c, nil
	}
	if f.clouds == "" {
		return c, hint(&usageError{err}, "no clouds.yaml was found; put one here or name it in OS_CLIENT_CONFIG_FILE")
	}
	return c, hint(&usageError{err}, "credentials were read from %s; choose with --cloud or OS_CLOUD", f.clouds)
}

// served are the clouds a worker serves: those named, else OS_CLOUD, else those
// of the configuration file, else the only one of clouds.yaml.
func served(named []string, s settings, e env) []string {
	switch {
	case len(named) > 0:
		slices.Sort(named)
		return slices.Compact(named)
	case e.Getenv("OS_CLOUD") != "":
		return []string{e.Getenv("OS_CLOUD")}
	case len(s.Clouds) > 0:
		return slices.Sorted(maps.Keys(s.Clouds))
	}
	return []string{""}
}

// askedOf is the cloud a request is for. Producers need no clouds.yaml, so
// nothing is looked up.
func askedOf(flag string, s settings, e env) (string, error) {
	switch {
	case flag != "":
		return flag, nil
	case e.Getenv("OS_CLOUD") != "":
		return e.Getenv("OS_CLOUD"), nil
	case len(s.Clouds) == 1:
		return slices.Collect(maps.Keys(s.Clouds))[0], nil
	}
	text := "name it with --cloud or OS_CLOUD"
	if f, err := findClouds(e); err == nil {
		if names, err := vbs.CloudNames(f.sources); err == nil && len(names) > 0 {
			text += "; " + f.clouds + " has: " + strings.Join(names, ", ")
		}
	}
	return "", hint(usagef("which cloud?"), "%s", text)
}

// open logs in to a cloud.
func (s settings) open(ctx context.Context, c vbs.Cloud, log zerolog.Logger) (*vbs.Client, error) {
	own := s.Clouds[c.Name()]
	return vbs.Open(ctx, c, vbs.Options{Flavour: own.Flavour, BackupEndpoint: own.BackupEndpoint, VolumeEndpoint: own.VolumeEndpoint,
		BackupTypes: own.BackupTypes, VolumeTypes: own.VolumeTypes, Proxy: http.ProxyFromEnvironment, Log: log})
}
