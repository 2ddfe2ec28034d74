package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// output is how a result is printed: -f and -c, as in openstackclient.
type output struct {
	format  string
	columns []string
}

func (o *output) addFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.format, "format", "f", "table", "table, json, yaml, csv or value")
	f.StringArrayVarP(&o.columns, "column", "c", nil, "show only this column; repeatable")
}

// addShowFlags is for commands that print one thing.
func (o *output) addShowFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.format, "format", "f", "table", "table (for people), json or yaml")
}

// column is one column of a list. Its title is its name in capitals.
type column[T any] struct {
	name     string
	text     func(T) string
	colour   func(T) string // SGR numbers, "" for none; only in tables
	flexible bool           // is cut to the width of the terminal
	short    func(T) string // on narrow terminals
}

const narrow = 120 // terminals below show short ids

// printList prints items in the format asked for. Without -c, json and yaml
// print whole items.
func printList[T any](e env, o output, all []column[T], defaults []string, items []T) error {
	names := defaults
	if len(o.columns) > 0 {
		names = o.columns
	}
	cols, err := choose(all, names)
	if err != nil {
		return err
	}
	switch o.format {
	case "table":
		return printTable(e, cols, items)
	case "value":
		return printValues(e.Stdout, cols, items)
	case "csv":
		return printCSV(e.Stdout, cols, items)
	case "json", "yaml":
		if len(o.columns) > 0 {
			return printAs(e.Stdout, o.format, picked(cols, items))
		}
		return printAs(e.Stdout, o.format, append([]T{}, items...))
	}
	return usagef("format %q: use table, json, yaml, csv or value", o.format)
}

// choose finds columns by name; "VOLUME NAME" and "volume_name" are the same.
func choose[T any](all []column[T], names []string) ([]column[T], error) {
	var cols []column[T]
	for _, name := range names {
		plain := strings.ReplaceAll(strings.ToLower(name), " ", "_")
		i := slices.IndexFunc(all, func(c column[T]) bool { return c.name == plain })
		if i < 0 {
			var known []string
			for _, c := range all {
				known = append(known, c.name)
			}
			return nil, hint(usagef("there is no column %q", name), "columns: %s", strings.Join(known, ", "))
		}
		cols = append(cols, all[i])
	}
	return cols, nil
}

func title(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "_", " ")) }

func printTable[T any](e env, cols []column[T], items []T) error {
	cells := make([][]string, 0, len(items)+1)
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = title(c.name)
	}
	cells = append(cells, head)
	for _, item := range items {
		line := make([]string, len(cols))
		for i, c := range cols {
			line[i] = oneLine(c.text(item))
			if c.short != nil && e.Width > 0 && e.Width < narrow {
				line[i] = c.short(item)
			}
		}
		cells = append(cells, line)
	}
	widths := fit(cols, cells, e.Width)
	var b bytes.Buffer
	for n, line := range cells {
		for i, text := range line {
			sgr := ""
			if n > 0 && cols[i].colour != nil && e.colours(e.StdoutTTY) {
				sgr = cols[i].colour(items[n-1])
			}
			writeCell(&b, cut(text, widths[i]), widths[i], sgr, onlyEmpty(line[i+1:]))
		}
		b.WriteByte('\n')
	}
	_, err := e.Stdout.Write(b.Bytes())
	return err
}

func onlyEmpty(cells []string) bool {
	return !slices.ContainsFunc(cells, func(c string) bool { return c != "" })
}

func writeCell(b *bytes.Buffer, text string, width int, sgr string, last bool) {
	pad := width - utf8.RuneCountInString(text) + 2
	b.WriteString(painted(text, sgr))
	if !last {
		b.WriteString(strings.Repeat(" ", pad))
	}
}

func painted(text, sgr string) string {
	if sgr == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

const leastFlexible = 12

// fit gives every column its widest cell, and takes what is too much from the
// flexible one. total 0 is no limit.
func fit[T any](cols []column[T], cells [][]string, total int) []int {
	widths, sum, flexible := make([]int, len(cols)), 2*(len(cols)-1), -1
	for i := range cols {
		for _, line := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		sum += widths[i]
		if cols[i].flexible {
			flexible = i
		}
	}
	if total > 0 && sum > total && flexible >= 0 {
		widths[flexible] = max(leastFlexible, widths[flexible]-(sum-total))
	}
	return widths
}

func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// oneLine keeps what a cloud or a user named from moving the cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func printValues[T any](w io.Writer, cols []column[T], items []T) error {
	for _, item := range items {
		var line []string
		for _, c := range cols {
			line = append(line, oneLine(c.text(item)))
		}
		if _, err := fmt.Fprintln(w, strings.Join(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

func printCSV[T any](w io.Writer, cols []column[T], items []T) error {
	out := csv.NewWriter(w)
	line := make([]string, len(cols))
	for i, c := range cols {
		line[i] = c.name
	}
	_ = out.Write(line) // Error tells
	for _, item := range items {
		for i, c := range cols {
			line[i] = notFormula(c.text(item))
		}
		_ = out.Write(line)
	}
	out.Flush()
	return out.Error()
}

// notFormula keeps a spreadsheet from calculating what a user named.
func notFormula(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func picked[T any](cols []column[T], items []T) []yaml.MapSlice {
	out := make([]yaml.MapSlice, 0, len(items))
	for _, item := range items {
		var m yaml.MapSlice
		for _, c := range cols {
			m = append(m, yaml.MapItem{Key: c.name, Value: c.text(item)})
		}
		out = append(out, m)
	}
	return out
}

// printAs prints a value as json or yaml, with the keys of its JSON form.
func printAs(w io.Writer, format string, v any) error {
	text, err := asJSON(v)
	if err == nil && format == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return fmt.Errorf("print as %s: %w", format, err)
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(text), "\n"))
	return err
}

func asJSON(v any) ([]byte, error) {
	if rows, ok := v.([]yaml.MapSlice); ok {
		return ordered(rows)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// ordered writes objects with their keys in the order asked for.
func ordered(rows []yaml.MapSlice) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("[")
	for i, row := range rows {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("{")
		for j, item := range row {
			if j > 0 {
				b.WriteString(",")
			}
			key, _ := json.Marshal(item.Key)
			value, err := json.Marshal(item.Value)
			if err != nil {
				return nil, err
			}
			b.Write(append(append(key, ':'), value...))
		}
		b.WriteString("}")
	}
	b.WriteString("]")
	var pretty bytes.Buffer
	err := json.Indent(&pretty, b.Bytes(), "", "  ")
	return pretty.Bytes(), err
}

// onlyFor checks the format of a command that prints one thing.
func (o output) onlyFor(formats ...string) error {
	if slices.Contains(formats, o.format) {
		return nil
	}
	return usagef("format %q: use %s", o.format, strings.Join(formats, ", "))
}
