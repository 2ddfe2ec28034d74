package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(e env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "say which version this is", Args: takes(),
		RunE: func(*cobra.Command, []string) error { return runVersion(e) },
	}
}

func runVersion(e env) error {
	version, revision, built := "unknown", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version, built = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value + revision
			case s.Key == "vcs.modified" && s.Value == "true":
				revision += "+changed"
			}
		}
	}
	_, err := fmt.Fprintf(e.Stdout, "vbsrestore %s%s (%s)\n", version, prefixed(" ", revision), built)
	return err
}
