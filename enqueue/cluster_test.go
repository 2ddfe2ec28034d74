package enqueue

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"github.com/vbsrestore/vbsrestore/tasks"
)

// newCluster is a cluster of one node, which owns all slots.
func newCluster(t *testing.T) server {
	t.Helper()
	bus, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := bus.Addr().(*net.TCPAddr).Port
	bus.Close()
	node := startRedis(t, "--cluster-enabled", "yes", "--bind", "127.0.0.1", "--cluster-port", strconv.Itoa(port))
	rdb, err := Connect(RedisOptions{
		URL:    "redis://127.0.0.1:6379?cluster=true",
		Dialer: func(context.Context, string, string) (net.Conn, error) { return node.dial() },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Close() })
	if err := newServer(t, node.dial).rdb.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	node.waitFor(t, "Cluster state changed: ok")
	return server{rdb: rdb}
}

func TestClusterTakesManyCloudsInOneCall(t *testing.T) {
	s := newCluster(t)
	rs := newRestores(60)
	for i := range rs {
		rs[i].Cloud = "cloud-" + strconv.Itoa(i%3)
	}
	receipts, err := New(s.rdb, Options{Batch: 25}).Restores(t.Context(), rs)
	if err != nil || slices.ContainsFunc(receipts, func(r Receipt) bool { return r.Queue == "" || r.Existed }) {
		t.Fatalf("got %+v, %v", receipts, err)
	}
	for _, queue := range []string{"cloud-0:in", "cloud-1:in", "cloud-2:in"} {
		if n := len(s.pending(t, queue)); n != 20 {
			t.Errorf("%s has %d tasks, want 20", queue, n)
		}
	}
	if queues, err := asynq.NewInspectorFromRedisClient(s.rdb).Queues(); len(queues) != 3 {
		t.Errorf("queues %v, %v", queues, err)
	}
}

func TestOneClientServesManyGoroutines(t *testing.T) {
	m := miniredis.RunT(t)
	s := newServer(t, func() (net.Conn, error) { return net.Dial("tcp", m.Addr()) })
	client := New(s.rdb, Options{Batch: 10})
	all := newRestores(8 * 50)
	var work sync.WaitGroup
	for part := range slices.Chunk(all, 50) {
		work.Go(func() {
			if _, err := client.Restores(t.Context(), part); err != nil {
				t.Error(err)
			}
			if err := client.Wake(t.Context(), "prod", []tasks.Wake{{ID: firstID, Generation: 1}}); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if in, wakes := len(s.pending(t, "prod:in")), len(s.pending(t, "prod")); in != 400 || wakes != 1 {
		t.Errorf("%d restores and %d wake-ups, want 400 and 1", in, wakes)
	}
}
