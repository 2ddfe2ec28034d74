package results_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vbsrestore/vbsrestore/results"
)

func TestOpenRefusesURLs(t *testing.T) {
	for _, u := range []string{"", "store.db", "sqlite://", "sqlite:store.db", "mysql://x", "postgres://db/x", "sqlite://x?mode=ro", "sqlite://x?",
		"sqlite:///tmp/a#b", "sqlite://me@x", "sqlite://%zz"} {
		if err := results.CheckURL(u); err == nil {
			t.Errorf("CheckURL(%q) = nil", u)
		}
		if s, err := results.Open(t.Context(), u, results.Options{MustExist: true}); err == nil {
			t.Errorf("Open(%q) succeeded", u)
			s.Close()
		}
	}
}

func TestOpenUnusualFileNames(t *testing.T) {
	for _, name := range []string{"50%.db", "what?.db", "no#1.db", "two words.db", "a%20b.db", "a&b=c.db", "ä.db"} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "new", name+" folder")
			path := filepath.Join(folder, name)
			s := open(t, urlOf(path), results.Options{})
			row := record(t, s, request(1))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(folder)
			if err != nil || len(files) != 1 || files[0].Name() != name {
				t.Errorf("files %v, %v; want %q alone", files, err, name)
			}
			again := open(t, urlOf(path), results.Options{MustExist: true})
			if again.ID() != s.ID() || s.ID() == "" {
				t.Errorf("the id changed from %q to %q", s.ID(), again.ID())
			}
			diff(t, "the stored row", row, get(t, again, row.ID), sameRow)
		})
	}
}

func TestMustExistMakesNothing(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "none")
	_, err := results.Open(t.Context(), urlOf(filepath.Join(folder, "store.db")), results.Options{MustExist: true})
	if !errors.Is(err, results.ErrNoStore) {
		t.Errorf("Open = %v; want ErrNoStore", err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v; want none", err)
	}
}

// Several processes may start on one new file at the same moment.
func TestOpenOneNewFileAtOnce(t *testing.T) {
	u := newURL(t)
	stores := make([]*results.Store, 8)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = results.Open(context.Background(), u, results.Options{Unsynced: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, s := range stores {
		if s == nil {
			continue
		}
		if s.ID() != stores[0].ID() {
			t.Errorf("store %d has id %q, store 0 has %q", i, s.ID(), stores[0].ID())
		}
		record(t, s, request(i+1))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStoresHaveTheirOwnIDs(t *testing.T) {
	a, b := open(t, newURL(t), results.Options{}), open(t, newURL(t), results.Options{})
	if a.ID() == b.ID() {
		t.Error("two stores with one id")
	}
}

// A request is on disk when Record returns: the child says so after each one
// and is killed, without a chance to clean up, in the middle of recording.
func TestKilledAfterRecord(t *testing.T) {
	u := newURL(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "RESULTS_TEST_RECORD_INTO="+u)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var recorded []string
	lines := bufio.NewScanner(out)
	for len(recorded) < 20 && lines.Scan() {
		recorded = append(recorded, lines.Text())
	}
	child.Process.Kill()
	for lines.Scan() { // what it still said before the kill counts too
		recorded = append(recorded, lines.Text())
	}
	child.Wait()
	if len(recorded) < 20 {
		t.Fatalf("the child recorded only %q", recorded)
	}
	s := open(t, u, results.Options{MustExist: true})
	for _, id := range recorded {
		if row := get(t, s, id); row.State != results.Waiting || len(story(t, s, id)) != 1 {
			t.Errorf("%+v", row)
		}
	}
}

// recordUntilKilled is the child's part of TestKilledAfterRecord.
func recordUntilKilled(storeURL string) {
	s, err := results.Open(context.Background(), storeURL, results.Options{})
	for n := 1; err == nil; n++ {
		if _, _, err = s.Record(context.Background(), request(n)); err == nil {
			fmt.Println(restoreID(n))
		}
	}
	fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error()))
	os.Exit(1)
}
