package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"github.com/goccy/go-yaml"
)

// readFile lays a configuration file over the settings. Keys that it does not
// know are errors: a misspelt limit must not be silently none.
func (s *settings) readFile(path string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return hint(fmt.Errorf("configuration file %s does not exist", path), "it came from %s", s.from("config"))
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(content, s, yaml.Strict()); err != nil {
		return &drawing{path, err}
	}
	var keys map[string]any
	if err := yaml.Unmarshal(content, &keys); err != nil {
		return &drawing{path, err}
	}
	s.note("", keys)
	return nil
}

// note remembers that keys came from the file.
func (s *settings) note(prefix string, keys map[string]any) {
	for k, v := range keys {
		s.Origin[prefix+k] = s.File
		if below, ok := v.(map[string]any); ok {
			s.note(prefix+k+".", below)
		}
	}
}

// drawing is an error of a YAML file with a picture of the place.
type drawing struct {
	path string
	err  error
}

func (d *drawing) Error() string {
	text := yaml.FormatError(d.err, false, true)
	return d.path + ": " + regexp.MustCompile(`://[^@/\s]*@`).ReplaceAllString(text, "://[redacted]@")
}

func (d *drawing) Unwrap() error { return d.err }
