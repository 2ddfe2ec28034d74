package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/worker"
)

// Redis was flushed and another store's worker came first.
func TestALeaderNoticesThatRedisIsAnotherStores(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: "redis://" + miniredis.RunT(t).Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	ours, theirs := openTestStore(t), openTestStore(t)
	if _, err := worker.Bind(ctx, rdb, theirs); err != nil {
		t.Fatal(err)
	}
	var got error
	term := &shownTerm{rdb: rdb, store: ours, lost: func(err error) {
		got = err
		cancel()
	}}
	term.elected(results.Lease{Term: 3})
	if err := term.run(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(got, worker.ErrOtherStore) {
		t.Errorf("got %v", got)
	}
}

func openTestStore(t *testing.T) *results.Store {
	t.Helper()
	s, err := results.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "r.db"), results.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
