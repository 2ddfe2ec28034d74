package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/enqueue/enqueuetest"
	"github.com/vbsrestore/vbsrestore/results"
)

const root = "../.." // the folder of the README

func readReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is what stands in the README right after a comment, up to an empty line.
func block(t *testing.T, comment string) string {
	t.Helper()
	_, after, ok := strings.Cut(readReadme(t), "<!-- "+comment+": ")
	_, after, closed := strings.Cut(after, "-->\n")
	text, _, ended := strings.Cut(after, "\n\n")
	if !ok || !closed || !ended {
		t.Fatalf("the README has no block after the comment %q", comment)
	}
	return text + "\n"
}

func TestREADMETablesAreTheProgramsOwn(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"readme-tables"}, env{Stdout: &out, Stderr: io.Discard, Getenv: func(string) string { return "" }}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if diff := cmp.Diff(out.String(), block(t, "retry table")+"\n"+block(t, "states")); diff != "" {
		t.Errorf("mend README.md with the output of: vbsrestore readme-tables (-program +README)\n%s", diff)
	}
}

// TestREADMEQuickstart does what the README tells a newcomer to do.
func TestREADMEQuickstart(t *testing.T) {
	t.Parallel()
	p := &person{T: t, dir: t.TempDir(), redis: enqueuetest.StartServer(t).URL()}
	script, fenced := strings.CutPrefix(block(t, "quickstart"), "```sh\n")
	script, closed := strings.CutSuffix(script, "```\n")
	if !fenced || !closed {
		t.Fatal("the quickstart is not one block of sh")
	}
	for line := range strings.Lines(script) {
		p.types(strings.TrimSpace(line))
	}
	p.sees("all 6 are restored", func(rows []results.Restore) bool {
		done := 0
		for _, r := range rows {
			if r.State == results.Succeeded {
				done++
			}
		}
		return done == 6 && len(rows) == 6
	})
	p.leaves()
}

// person types commands into a shell, and waits between them as people do.
type person struct {
	*testing.T
	dir, redis string
	background []*exec.Cmd
}

func (p *person) types(line string) {
	p.Helper()
	command, background := strings.CutSuffix(line, " &")
	cmd := exec.Command("sh", "-c", "exec "+command)
	cmd.Dir, cmd.Env = p.dir, append(withoutOurs(os.Environ()), "VBSRESTORE_REDIS="+p.redis)
	if background {
		p.leavesRunning(cmd, command)
		return
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("%s: %v\n%s", command, err, out)
	}
	if strings.HasPrefix(command, "vbsrestore enqueue ") {
		p.sees("all have a name", func(rows []results.Restore) bool {
			for _, r := range rows {
				if r.VolumeName == "" {
					return false
				}
			}
			return len(rows) == 6
		})
	}
}

// withoutOurs is an environment without settings of this program or of OpenStack.
func withoutOurs(vars []string) (out []string) {
	for _, v := range vars {
		if !strings.HasPrefix(v, "VBSRESTORE_") && !strings.HasPrefix(v, "OS_") {
			out = append(out, v)
		}
	}
	return out
}

func (p *person) leavesRunning(cmd *exec.Cmd, command string) {
	p.Helper()
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	p.background = append(p.background, cmd)
	p.Cleanup(func() { _ = cmd.Process.Kill() })
	if strings.HasPrefix(command, "vbsrestore simulate ") {
		p.waits("pairs.csv", func() bool { // the last file it writes, at its end complete
			text, err := os.ReadFile(filepath.Join(p.dir, "pairs.csv"))
			return err == nil && bytes.Count(text, []byte("\n")) == 1+6
		})
	}
}

// leaves ends what is in the background, the last first.
func (p *person) leaves() {
	p.Helper()
	for i := len(p.background) - 1; i >= 0; i-- {
		cmd := p.background[i]
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			p.Fatal(err)
		}
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 143 {
			p.Errorf("%s: %v", cmd.Args[2], err)
		}
	}
	if len(p.background) != 2 {
		p.Errorf("%d commands in the background, want the cloud and a worker", len(p.background))
	}
}

func (p *person) waits(what string, there func() bool) {
	p.Helper()
	for end := time.Now().Add(2 * patience); !there(); {
		if time.Now().After(end) {
			p.Fatalf("waited in vain: %s", what)
		}
		<-time.After(lookEvery)
	}
}

// sees looks at the default store until its rows are so.
func (p *person) sees(what string, so func([]results.Restore) bool) {
	p.Helper()
	p.waits(what, func() bool {
		store, err := results.Open(p.Context(), "sqlite://"+filepath.Join(p.dir, "vbsrestore.db"), results.Options{MustExist: true})
		if err != nil {
			return false
		}
		defer store.Close()
		rows, err := store.List(p.Context(), results.Filter{}, results.Page{}, 100)
		return err == nil && so(rows)
	})
}

// TestREADMEPromisesAreWhereItSays holds the names in the table of promises
// against the tree.
func TestREADMEPromisesAreWhereItSays(t *testing.T) {
	_, table, _ := strings.Cut(readReadme(t), "\n## Where each promise lives\n")
	table, _, _ = strings.Cut(table, "\n## ")
	tests, files := testsOfTheTree(t), 0
	named := 0
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(table, -1) {
		switch name := m[1]; {
		case strings.HasPrefix(name, "Test"):
			named++
			if !tests[name] {
				t.Errorf("there is no test %s", name)
			}
		case strings.Contains(name, "/"):
			files++
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Error(err)
			}
		}
	}
	if files < 10 || named < 5 {
		t.Errorf("the table names %d files and %d tests: is it still read rightly?", files, named)
	}
}

// testsOfTheTree finds the names of all tests.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	test, out := regexp.MustCompile(`(?m)^func (Test\w+)\(`), map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range test.FindAllSubmatch(text, -1) {
			out[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
