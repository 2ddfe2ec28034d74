package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// mostProblems is how many wrong lines are shown.
const mostProblems = 10

// pairFields are the columns of a CSV and the keys of a JSONL file of requests.
var pairFields = []string{"backup_id", "volume_id", "volume_name", "cloud", "project_id", "class", "id", "not_before", "not_after", "again", "actor"}

// place is where in a file something stands.
type place struct{ line, column int }

// request is one line of the file, and where its fields are.
type request struct {
	tasks.Restore
	line int
	at   map[string]place
}

// pairs reads one file of requests.
type pairs struct {
	file     string
	digest   string
	base     tasks.Restore
	requests []request
	problems problems
}

// readPairs reads CSV with a header, or JSONL, told apart by the first
// character. It returns all requests, or all that is wrong with them.
func readPairs(file string, content []byte, digest string, base tasks.Restore) ([]tasks.Restore, error) {
	p := &pairs{file: file, digest: digest, base: base}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	switch text := bytes.TrimLeft(content, " \t\r\n"); {
	case !utf8.Valid(content):
		return nil, hint(fmt.Errorf("%s: it is not UTF-8", file), "save it as UTF-8")
	case len(text) == 0:
		return nil, fmt.Errorf("%s: it is empty", file)
	case text[0] == '{':
		p.readJSONL(content)
	default:
		p.readCSV(content)
	}
	p.check()
	if len(p.problems.lines) > 0 {
		return nil, hint(&p.problems, "nothing was enqueued; mend the lines and run it again")
	}
	out := make([]tasks.Restore, len(p.requests))
	for i, r := range p.requests {
		out[i] = r.Restore
	}
	return out, nil
}

func (p *pairs) wrong(at place, format string, args ...any) {
	if len(p.problems.lines) == mostProblems {
		p.problems.more++
		return
	}
	p.problems.lines = append(p.problems.lines, fmt.Sprintf("%s:%d:%d: ", p.file, at.line, at.column)+fmt.Sprintf(format, args...))
}

func (p *pairs) readCSV(content []byte) {
	in := csv.NewReader(bytes.NewReader(content))
	in.FieldsPerRecord, in.ReuseRecord = -1, true
	var header []string
	for {
		cells, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if bad := new(csv.ParseError); errors.As(err, &bad) {
			p.wrong(place{bad.Line, bad.Column}, "%v", bad.Err)
			return
		}
		if header == nil {
			header = slices.Clone(cells)
			if !p.goodHeader(header, in) {
				return
			}
			continue
		}
		p.addCells(header, cells, in)
	}
	if len(p.requests) == 0 && len(p.problems.lines) == 0 {
		p.wrong(place{1, 1}, "there is a header but no line below it")
	}
}

func (p *pairs) goodHeader(header []string, in *csv.Reader) bool {
	for i, name := range header {
		line, col := in.FieldPos(i)
		header[i] = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !slices.Contains(pairFields, header[i]):
			p.wrong(place{line, col}, "there is no column %q; the first line must name the columns, out of: %s", name, strings.Join(pairFields, ", "))
		case slices.Contains(header[:i], header[i]):
			p.wrong(place{line, col}, "the column %s is there twice", header[i])
		}
	}
	for _, needed := range []string{"backup_id", "volume_id"} {
		if len(p.problems.lines) == 0 && !slices.Contains(header, needed) {
			p.wrong(place{1, 1}, "the column %s is missing", needed)
		}
	}
	return len(p.problems.lines) == 0
}

func (p *pairs) addCells(header, cells []string, in *csv.Reader) {
	line, _ := in.FieldPos(0)
	r := request{Restore: p.base, line: line, at: map[string]place{}}
	if len(cells) != len(header) {
		p.wrong(place{line, 1}, "%s, but the header has %d", counts(len(cells), "field"), len(header))
		return
	}
	for i, cell := range cells {
		l, col := in.FieldPos(i)
		r.at[header[i]] = place{l, col}
		if cell = strings.TrimSpace(cell); cell != "" {
			p.set(&r, header[i], cell)
		}
	}
	p.requests = append(p.requests, r)
}

// set puts a value into a field.
func (p *pairs) set(r *request, name, value string) {
	var err error
	switch name {
	case "backup_id":
		r.BackupID = value
	case "volume_id":
		r.VolumeID = value
	case "cloud":
		r.Cloud = value
	case "project_id":
		r.ProjectID = value
	case "class":
		r.Class = tasks.Class(value)
	case "id":
		r.ID = value
	case "actor":
		r.Actor = value
	case "again":
		r.Again, err = strconv.ParseBool(value)
	case "not_before":
		r.NotBefore, err = time.Parse(time.RFC3339, value)
	case "not_after":
		r.NotAfter, err = time.Parse(time.RFC3339, value)
	}
	if err != nil {
		p.wrong(r.at[name], "%s: %q is no time such as 2026-01-02T15:04:05Z, and no true or false where that is wanted", name, value)
	}
}

func (p *pairs) readJSONL(content []byte) {
	n := 0
	for line := range bytes.Lines(content) {
		n++
		if text := bytes.TrimSpace(line); len(text) > 0 {
			p.addObject(n, bytes.TrimRight(line, "\r\n"))
		}
	}
}

// addObject reads one flat JSON object; a key it does not know, or one that is
// there twice, must not be guessed at.
func (p *pairs) addObject(n int, line []byte) {
	r := request{Restore: p.base, line: n, at: map[string]place{}}
	dec := json.NewDecoder(bytes.NewReader(line))
	here := func() place { return place{n, int(dec.InputOffset()) + 1} }
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		p.wrong(place{n, 1}, "a JSON object is wanted, such as {\"backup_id\": …, \"volume_id\": …}")
		return
	}
	for dec.More() {
		at := here()
		key, err := dec.Token()
		if err != nil {
			p.wrong(at, "this is not JSON: %v", err)
			return
		}
		if !p.addKey(&r, dec, fmt.Sprint(key), at) {
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		p.wrong(here(), "the object does not end")
		return
	}
	if rest := bytes.TrimSpace(line[dec.InputOffset():]); len(rest) > 0 {
		p.wrong(here(), "there is more after the object; one object a line is wanted")
		return
	}
	p.requests = append(p.requests, r)
}

func (p *pairs) addKey(r *request, dec *json.Decoder, key string, at place) bool {
	var value any
	if err := dec.Decode(&value); err != nil {
		p.wrong(at, "%s: its value is not JSON", key)
		return false
	}
	_, twice := r.at[key]
	switch {
	case twice:
		p.wrong(at, "the key %s is there twice", key)
		return false
	case key == "labels":
		r.at[key] = at
		return p.addLabels(r, value, at)
	case !slices.Contains(pairFields, key):
		p.wrong(at, "there is no key %q; keys are: %s, labels", key, strings.Join(pairFields, ", "))
		return false
	}
	r.at[key] = at
	switch v := value.(type) {
	case string:
		if v != "" {
			p.set(r, key, v)
		}
	case bool:
		p.set(r, key, strconv.FormatBool(v))
	case nil:
	default:
		p.wrong(at, "%s: a string is wanted", key)
		return false
	}
	return true
}

func (p *pairs) addLabels(r *request, value any, at place) bool {
	given, ok := value.(map[string]any)
	labels := map[string]string{}
	for k, v := range r.Labels {
		labels[k] = v
	}
	for k, v := range given {
		text, isText := v.(string)
		ok = ok && isText
		labels[k] = text
	}
	if !ok {
		p.wrong(at, "labels: an object of strings is wanted")
		return false
	}
	r.Labels = labels
	return true
}

// check fills the defaults and looks at every request, and at all of them together.
func (p *pairs) check() {
	volumes, ids := map[string]int{}, map[string]int{}
	for i := range p.requests {
		r := &p.requests[i]
		if r.ID == "" {
			r.ID = tasks.LineID(p.digest, r.line)
		}
		r.Normalize(p.base.AskedAt)
		p.explain(*r, r.Validate())
		if other, twice := volumes[r.VolumeID]; twice && r.VolumeID != "" {
			p.wrong(r.where("volume_id"), "volume_id: line %d restores this volume already; one backup for each volume", other)
		} else if other, twice := ids[r.ID]; twice {
			p.wrong(r.where("id"), "id: line %d has this id already", other)
		}
		volumes[r.VolumeID], ids[r.ID] = r.line, r.line
	}
}

// explain puts what Validate says into words with a place.
func (p *pairs) explain(r request, err error) {
	if err == nil {
		return
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		p.wrong(r.where(""), "%v", err)
		return
	}
	for _, one := range several.Unwrap() {
		var field *tasks.FieldError
		if !errors.As(one, &field) {
			p.wrong(r.where(""), "%v", one)
			continue
		}
		text := field.Error()
		if field.Hint != "" {
			text += "; " + field.Hint
		}
		p.wrong(r.where(field.Field), "%s", text)
	}
}

func (r request) where(field string) place {
	if at, ok := r.at[field]; ok {
		return at
	}
	return place{r.line, 1}
}
