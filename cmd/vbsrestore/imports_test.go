package main_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vbsrestore/vbsrestore/"

// mayImport lists, for each package, the packages of this module it may import;
// "*" is all. A package that is not listed fails the test, and so does a line
// without a package.
var mayImport = map[string]string{
	"tasks":               "",
	"vbs":                 "",
	"simulator":           "",
	"enqueue":             "tasks",
	"enqueue/enqueuetest": "tasks enqueue",
	"results":             "tasks",
	"worker":              "tasks results vbs",
	"dispatch":            "tasks enqueue results",
	"cmd/vbsrestore":      "*",
}

// onlyIn lists the packages that may import something of others.
var onlyIn = map[string]string{
	"github.com/hibiken/asynq":           "enqueue enqueue/enqueuetest worker dispatch cmd/vbsrestore",
	"github.com/gophercloud/gophercloud": "vbs",
	"github.com/jackc/pgx":               "results",
	"github.com/pressly/goose":           "results",
	"modernc.org":                        "results",
	"testing":                            "enqueue/enqueuetest",
}

// light lists what programs that only ask for restores must not be made to build.
// database/sql/driver, a few interfaces, comes with google/uuid and is no harm.
var light = map[string][]string{
	"enqueue": {"database/sql", "github.com/danielgtaylor/huma", "github.com/gophercloud/gophercloud",
		"github.com/jackc/pgx", "github.com/pressly/goose", "modernc.org"},
}

// The tests of this file ask the go command, whose answers the test cache does not
// know: run them with -count=1 or -shuffle=on.

func TestImportsFollowTheTable(t *testing.T) {
	unseen := maps.Clone(mayImport)
	for line := range strings.Lines(goCommand(t, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...")) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		allowed, listed := mayImport[pkg]
		if !listed {
			t.Errorf("%s is not in the table", pkg)
		}
		delete(unseen, pkg)
		for _, imported := range f[1:] {
			if ours, ok := strings.CutPrefix(imported, module); ok && allowed != "*" && !isOneOf(ours, allowed) {
				t.Errorf("%s imports %s", pkg, ours)
			}
			for theirs, where := range onlyIn {
				if isUnder(imported, theirs) && !isOneOf(pkg, where) {
					t.Errorf("%s imports %s", pkg, imported)
				}
			}
		}
	}
	for pkg := range unseen {
		t.Errorf("%s is in the table, but there is no such package", pkg)
	}
}

func TestProducersBuildNoneOfTheRest(t *testing.T) {
	for pkg, banned := range light {
		for _, dep := range strings.Fields(goCommand(t, "list", "-deps", module+pkg)) {
			if slices.ContainsFunc(banned, func(b string) bool { return isUnder(dep, b) && dep != "database/sql/driver" }) {
				t.Errorf("%s makes its users build %s", pkg, dep)
			}
		}
	}
}

// modernc.org/sqlite is translated for one version of modernc.org/libc and
// breaks in subtle ways with another.
func TestLibcIsTheOneSQLiteWasMadeFor(t *testing.T) {
	goMod := strings.TrimSpace(goCommand(t, "list", "-m", "-f", "{{.GoMod}}", "modernc.org/sqlite"))
	var pins struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal([]byte(goCommand(t, "mod", "edit", "-json", goMod)), &pins); err != nil {
		t.Fatal(err)
	}
	got := strings.TrimSpace(goCommand(t, "list", "-m", "-f", "{{.Version}}", "modernc.org/libc"))
	want := ""
	for _, r := range pins.Require {
		if r.Path == "modernc.org/libc" {
			want = r.Version
		}
	}
	if got != want || got == "" {
		t.Errorf("modernc.org/libc is %q, sqlite pins %q: go get modernc.org/libc@%s", got, want, want)
	}
}

func TestOnlyTheCommandEndsTheProcess(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "cmd" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".g")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files++
			checkExits(t, path)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("read %d files: %v", files, err)
	}
}

func checkExits(t *testing.T, path string) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && endsProcess(call) {
			t.Errorf("%s ends the process", set.Position(call.Pos()))
		}
		return true
	})
}

// endsProcess recognises os.Exit, the Fatal and Panic functions of package log,
// and zerolog's Fatal() and Panic(), which take nothing and are followed by Msg.
func endsProcess(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	fatal := strings.HasPrefix(sel.Sel.Name, "Fatal") || strings.HasPrefix(sel.Sel.Name, "Panic")
	if pkg, ok := sel.X.(*ast.Ident); ok && (pkg.Name == "log" && fatal || pkg.Name == "os" && sel.Sel.Name == "Exit") {
		return true
	}
	return len(call.Args) == 0 && (sel.Sel.Name == "Fatal" || sel.Sel.Name == "Panic")
}

func TestEndsProcessKnowsTheWaysOut(t *testing.T) {
	for code, want := range map[string]bool{
		"os.Exit(1)": true, "log.Fatalf(x)": true, "log.Panicln()": true, "w.log.Fatal().Msg(x)": true, "log.Panic().Err(err)": true,
		"os.Open(x)": false, "log.Print(x)": false, "t.Fatal(x)": false, "t.Fatalf(x, y)": false, "exit()": false,
	} {
		expr, err := parser.ParseExpr(code)
		if err != nil {
			t.Fatal(err)
		}
		got := false
		ast.Inspect(expr, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			got = got || ok && endsProcess(call)
			return true
		})
		if got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func isOneOf(word, words string) bool { return slices.Contains(strings.Fields(words), word) }

// isUnder reports whether an import path is prefix or lies below it; a major
// version after the prefix counts as below.
func isUnder(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
