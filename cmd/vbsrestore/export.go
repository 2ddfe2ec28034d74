package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/results"
)

type exportOptions struct {
	settings settings
	filter   filterOptions
	format   string
	out      string
}

func newExport(g *globals, e env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use: "export", Short: "write all restores as CSV or JSONL", Args: takes(),
		Example: "  vbsrestore restore export -f csv --out restores.csv",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			return runExport(cmd.Context(), o, e)
		},
	}
	o.filter.addFlags(cmd)
	cmd.Flags().StringVarP(&o.format, "format", "f", "csv", "csv or jsonl")
	cmd.Flags().StringVar(&o.out, "out", "", "file to write; it appears when it is complete (default stdout)")
	return cmd
}

func runExport(ctx context.Context, o exportOptions, e env) error {
	filter, err := o.filter.filter()
	if err != nil {
		return err
	}
	if o.format != "csv" && o.format != "jsonl" {
		return usagef("format %q: use csv or jsonl", o.format)
	}
	return withStore(ctx, o.settings, func(store *results.Store) error {
		write := store.ExportCSV
		if o.format == "jsonl" {
			write = store.ExportJSONL
		}
		if o.out == "" {
			return write(ctx, e.Stdout, filter)
		}
		return replaceFile(o.out, func(w io.Writer) error { return write(ctx, w, filter) })
	})
}

// replaceFile writes a file beside its place and moves it there when it is complete.
func replaceFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
