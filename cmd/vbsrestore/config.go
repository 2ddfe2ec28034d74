package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/vbs"
)

type configOptions struct {
	settings settings
	output   output
	origin   bool
}

func newConfig(g *globals, e env) *cobra.Command {
	return newGroup("config", "show and check the settings", newConfigShow(g, e), newConfigCheck(g, e))
}

func newConfigShow(g *globals, e env) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use: "show", Short: "show every setting; secrets are hidden", Args: takes(), Example: "  vbsrestore config show --origin",
		Long: "Show prints every setting as it is after flags, environment, file and defaults, in\nthis order of weight.",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runConfigShow(o, e)
		},
	}
	o.output.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.origin, "origin", false, "say where each comes from")
	return cmd
}

type shownSetting struct {
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
}

func runConfigShow(o configOptions, e env) error {
	rows, err := shownSettings(o.settings, e)
	if err != nil {
		return err
	}
	cols := []column[shownSetting]{
		{name: "setting", text: func(s shownSetting) string { return s.Setting }},
		{name: "value", text: func(s shownSetting) string { return s.Value }},
		{name: "origin", text: func(s shownSetting) string { return s.Origin }},
	}
	defaults := []string{"setting", "value"}
	if o.origin {
		defaults = append(defaults, "origin")
	}
	return printList(e, o.output, cols, defaults, rows)
}

func shownSettings(s settings, e env) ([]shownSetting, error) {
	var rows []shownSetting
	show := func(name, value, origin string) { rows = append(rows, shownSetting{name, value, origin}) }
	if s.File != "" {
		show("config", s.File, s.Origin["config"])
	}
	for _, k := range settingKeys() {
		origin := s.Origin[k.name]
		if origin == "" {
			origin = "default"
		}
		show(k.name, k.show(&s), origin)
	}
	if name := e.Getenv("OS_CLOUD"); name != "" {
		show("cloud", name, "OS_CLOUD")
	}
	files, err := findClouds(e)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct{ name, path, env string }{{"clouds.yaml", files.clouds, "OS_CLIENT_CONFIG_FILE"}, {"secure.yaml", files.secure, "OS_CLIENT_SECURE_FILE"}} {
		if f.path != "" {
			show(f.name, f.path, foundBy(e, f.env))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Clouds)) {
		for _, kv := range s.Clouds[name].shown() {
			show("clouds."+name+"."+kv[0], kv[1], s.File)
		}
	}
	return rows, nil
}

func foundBy(e env, variable string) string {
	if e.Getenv(variable) != "" {
		return variable
	}
	return "found"
}

// shown are the keys that the file has for a cloud.
func (c cloudSettings) shown() (out [][2]string) {
	add := func(key, value string) {
		if value != "" {
			out = append(out, [2]string{key, value})
		}
	}
	add("flavour", string(c.Flavour))
	add("backup_endpoint", redacted(c.BackupEndpoint))
	add("volume_endpoint", redacted(c.VolumeEndpoint))
	add("backup_types", strings.Join(c.BackupTypes, " "))
	add("volume_types", strings.Join(c.VolumeTypes, " "))
	add("cap", given(c.Cap))
	add("rate", given(c.Rate))
	add("read_rate", given(c.ReadRate))
	add("settle", given(c.Settle))
	add("ambiguous", given(c.Ambiguous))
	return out
}

func given[T any](v *T) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}

func newConfigCheck(g *globals, e env) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use: "check", Short: "check settings and clouds.yaml, without the network", Args: takes(), Example: "  vbsrestore config check --config vbsrestore.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runConfigCheck(o, e)
		},
	}
	return cmd
}

func runConfigCheck(o configOptions, e env) error {
	files, err := findClouds(e)
	if err != nil {
		return err
	}
	names, err := vbs.CloudNames(files.sources)
	if err != nil {
		return &usageError{err}
	}
	var all []error
	for _, name := range names {
		if _, err := vbs.LoadCloud(name, files.sources); err != nil {
			all = append(all, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.settings.Clouds)) {
		if !slices.Contains(names, name) {
			all = append(all, fmt.Errorf("%s: clouds.%s: there is no such cloud in clouds.yaml (found: %s)", o.settings.File, name, strings.Join(names, ", ")))
		}
	}
	if len(all) > 0 {
		var p problems
		for _, err := range all {
			p.lines = append(p.lines, describe(err))
		}
		return &usageError{errors.Join(&p)}
	}
	clouds := "no clouds"
	if len(names) > 0 {
		clouds = "clouds " + strings.Join(names, ", ")
	}
	_, err = fmt.Fprintf(e.Stdout, "ok: %s; nothing was asked over the network\n", clouds)
	return err
}
