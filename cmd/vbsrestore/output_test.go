package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
	"github.com/vbsrestore/vbsrestore/vbs"
	"github.com/vbsrestore/vbsrestore/worker"
)

// testEnv is a world with nothing in it but these variables.
func testEnv(out io.Writer, vars map[string]string) env {
	return env{Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard, Getenv: func(k string) string { return vars[k] }}
}

func someRows(now time.Time) []results.Restore {
	return []results.Restore{
		{ID: "01900000-0000-7000-8000-0123456789ab", VolumeName: "db-1", State: results.InDoubt, Reason: "a long reason that goes on and on\nand on", Attempt: 2, CreatedAt: now.Add(-90 * time.Second)},
		{ID: "01900000-0000-7000-8000-0123456789ac", VolumeName: "=1+1", State: results.Waiting, CreatedAt: now},
	}
}

func TestListInEveryFormat(t *testing.T) {
	cols := []string{"volume_name", "state", "reason"}
	for name, c := range map[string]struct {
		o     output
		width int
		vars  map[string]string
		want  string
	}{
		"table":        {output{format: "table"}, 0, nil, "VOLUME NAME  STATE     REASON\ndb-1         in_doubt  a long reason that goes on and on and on\n=1+1         waiting\n"},
		"narrow table": {output{format: "table"}, 40, nil, "VOLUME NAME  STATE     REASON\ndb-1         in_doubt  a long reason th…\n=1+1         waiting\n"},
		"coloured": {output{format: "table", columns: []string{"STATE", "age"}}, 0, map[string]string{"CLICOLOR_FORCE": "1"},
			"STATE     AGE\n\x1b[31min_doubt\x1b[0m  1m30s\nwaiting   0s\n"},
		"short ids": {output{format: "table", columns: []string{"id"}}, 80, nil, "ID\n0123456789ab\n0123456789ac\n"},
		"value":     {output{format: "value", columns: []string{"attempts", "Volume Name"}}, 0, nil, "2 db-1\n0 =1+1\n"},
		"csv":       {output{format: "csv", columns: []string{"volume_name", "attempts"}}, 0, nil, "volume_name,attempts\ndb-1,2\n'=1+1,0\n"},
		"json":      {output{format: "json", columns: []string{"state", "attempts"}}, 0, nil, "[\n  {\n    \"state\": \"in_doubt\",\n    \"attempts\": \"2\"\n  },\n  {\n    \"state\": \"waiting\",\n    \"attempts\": \"0\"\n  }\n]\n"},
		"yaml":      {output{format: "yaml", columns: []string{"state", "attempts"}}, 0, nil, "- state: in_doubt\n  attempts: \"2\"\n- state: waiting\n  attempts: \"0\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			e := testEnv(&b, c.vars)
			e.Width = c.width
			now := time.Now()
			if err := printList(e, c.o, restoreColumns(now), cols, someRows(now)); err != nil {
				t.Fatal(err)
			}
			if b.String() != c.want {
				t.Errorf("got\n%q\nwant\n%q", b.String(), c.want)
			}
		})
	}
}

func TestColoursFollowTheConventions(t *testing.T) {
	for _, c := range []struct {
		vars map[string]string
		tty  bool
		want bool
	}{
		{nil, true, true}, {nil, false, false},
		{map[string]string{"NO_COLOR": "1"}, true, false}, {map[string]string{"TERM": "dumb"}, true, false},
		{map[string]string{"CLICOLOR_FORCE": "1"}, false, true}, {map[string]string{"CLICOLOR_FORCE": "0"}, false, false},
	} {
		if got := testEnv(io.Discard, c.vars).colours(c.tty); got != c.want {
			t.Errorf("%v on a terminal %v: %v", c.vars, c.tty, got)
		}
	}
}

func TestAgeHasTheUnitsThatMatter(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m01s", 11 * time.Minute: "11m",
		90 * time.Minute: "1h30m", 47 * time.Hour: "47h00m", 49 * time.Hour: "2d"} {
		if got := age(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	deep := func(err error) error { return fmt.Errorf("doing: %w", hint(err, "try")) }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{deep(errors.New("x")), exitFailed},
		{deep(usagef("x")), exitUsage},
		{deep(&partial{1, 2}), exitPartial},
		{deep(results.ErrNotFound), exitNotFound},
		{deep(results.ErrNoStore), exitNotFound},
		{deep(context.DeadlineExceeded), exitUnavailable},
		{deep(&away{errors.New("x")}), exitUnavailable},
		{deep(&vbs.Error{Status: 503}), exitUnavailable},
		{deep(&vbs.Error{Status: 403}), exitFailed},
		{deep(&results.ActError{}), exitConflict},
		{deep(results.ErrMoved), exitConflict},
		{deep(worker.ErrOtherStore), exitConflict},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestAnErrorIsOneLineAndAHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.Join(errors.New("a"), errors.New("b")), "vbsrestore: a; b\n"},
		{hint(fmt.Errorf("ask: %w", context.DeadlineExceeded), "wait"), "vbsrestore: ask: no answer in time\nhint: wait\n"},
		{&tasks.FieldError{Field: "f", Problem: "is bad", Hint: "mend it"}, "vbsrestore: f: is bad\nhint: mend it\n"},
		{&problems{lines: []string{"x:1:2: a", "x:2:2: b"}, more: 3}, "vbsrestore: x:1:2: a\nvbsrestore: x:2:2: b\nvbsrestore: and 3 more\n"},
		{nil, ""},
	} {
		var b bytes.Buffer
		report(&b, c.err)
		if b.String() != c.want {
			t.Errorf("got %q, want %q", b.String(), c.want)
		}
	}
}

func TestCloudsAreServedAsNamed(t *testing.T) {
	s := settings{Clouds: map[string]cloudSettings{"b": {}, "a": {}}}
	none, named := testEnv(io.Discard, nil), testEnv(io.Discard, map[string]string{"OS_CLOUD": "env"})
	for _, c := range []struct {
		flags []string
		s     settings
		e     env
		want  string
	}{
		{[]string{"y", "x", "y"}, s, named, "x y"}, {nil, s, named, "env"}, {nil, s, none, "a b"}, {nil, settings{}, none, ""},
	} {
		if got := strings.Join(served(c.flags, c.s, c.e), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestCloudsYAMLIsFoundAsOpenstacksdkFindsIt(t *testing.T) {
	t.Chdir(t.TempDir())
	home := t.TempDir()
	e := testEnv(io.Discard, map[string]string{"HOME": home})
	write := func(path, content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(path[:strings.LastIndex(path, "/")+1], 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	find := func() string {
		t.Helper()
		f, err := findClouds(e)
		if err != nil {
			t.Fatal(err)
		}
		return f.clouds + "|" + f.secure
	}
	write(home+"/.config/openstack/clouds.yaml", "clouds: {}")
	write(home+"/.config/openstack/secure.yaml", "clouds: {}")
	if got, want := find(), home+"/.config/openstack/clouds.yaml|"+home+"/.config/openstack/secure.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write("./clouds.yml", "clouds: {}")
	if got, want := find(), "clouds.yml|"+home+"/.config/openstack/secure.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(home+"/own/c.yaml", "clouds: {}")
	write(home+"/own/secure.yaml", "clouds: {}")
	e = testEnv(io.Discard, map[string]string{"HOME": home, "OS_CLIENT_CONFIG_FILE": home + "/own/c.yaml"})
	if got, want := find(), home+"/own/c.yaml|"+home+"/own/secure.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for in, want := range map[string]string{
		"redis://u:p@h:1/0": "redis://u:redacted@h:1/0", "redis://h:1/0": "redis://h:1/0", "redis://u@h": "redis://u@h", "re\x7f:p@": "[not a URL]",
	} {
		if got := redacted(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
