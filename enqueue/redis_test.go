package enqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestConnectReadsTheURL(t *testing.T) {
	for url, want := range map[string]redis.Options{
		"":                               {Network: "tcp", Addr: "127.0.0.1:6379", ReadTimeout: ioTimeout},
		"redis://u:p@q.example:7000/3":   {Network: "tcp", Addr: "q.example:7000", DB: 3, Username: "u", Password: "p", ReadTimeout: ioTimeout},
		"unix:///run/redis.sock?db=2":    {Network: "unix", Addr: "/run/redis.sock", DB: 2, ReadTimeout: ioTimeout},
		"rediss://q?read_timeout=2s":     {Network: "tcp", Addr: "q:6379", ReadTimeout: 2 * time.Second, TLSConfig: &tls.Config{ServerName: "q"}},
		"redis://q/0?pool_size=7&db=4":   {Network: "tcp", Addr: "q:6379", DB: 4, PoolSize: 7, ReadTimeout: ioTimeout},
		"redis://:%2Fsl%40sh@10.0.0.1/1": {Network: "tcp", Addr: "10.0.0.1:6379", DB: 1, Password: "/sl@sh", ReadTimeout: ioTimeout},
	} {
		rdb, err := Connect(RedisOptions{URL: url})
		if err != nil {
			t.Errorf("%q: %v", url, err)
			continue
		}
		got := rdb.(*redis.Client).Options()
		if got.Network != want.Network || got.Addr != want.Addr || got.DB != want.DB || got.Username != want.Username ||
			got.Password != want.Password || got.ReadTimeout != want.ReadTimeout || (got.TLSConfig == nil) != (want.TLSConfig == nil) ||
			want.PoolSize != 0 && got.PoolSize != want.PoolSize || !got.ContextTimeoutEnabled || !got.DisableIdentity {
			t.Errorf("%q: %+v", url, got)
		}
		rdb.Close()
	}
}

func TestConnectKnowsSentinelAndCluster(t *testing.T) {
	sentinel, err := Connect(RedisOptions{URL: "redis://s1:26379/2?master_name=queue&addr=s2:26379", Password: "p", PoolSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer sentinel.Close()
	if o := sentinel.(*redis.Client).Options(); o.Addr != "FailoverClient" || o.DB != 2 || o.Password != "p" || o.PoolSize != 3 || !o.ContextTimeoutEnabled {
		t.Errorf("sentinel: %+v", o)
	}
	cluster, err := Connect(RedisOptions{URL: "redis://n1:6379?cluster=true&addr=n2:6379", TLS: &tls.Config{ServerName: "n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if o := cluster.(*redis.ClusterClient).Options(); len(o.Addrs) != 2 || o.TLSConfig.ServerName != "n" || !o.ContextTimeoutEnabled {
		t.Errorf("cluster: %+v", o)
	}
}

func TestConnectNeverShowsThePassword(t *testing.T) {
	for _, url := range []string{"redis://:s3cret/x@host:1", "s3cret:x", "http://u:s3cret@h", "redis://u:s3cret@h/x", "://s3cret",
		"redis://h/s3cret?master_name=m", "redis://h?s3cret=1&cluster=true", "redis://h:1/0?s3cret=1"} {
		_, err := Connect(RedisOptions{URL: url})
		if !errors.Is(err, ErrURL) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDeadlineEndsACallToASilentRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb, err := Connect(RedisOptions{Dialer: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { // takes everything, answers nothing
				for buf := make([]byte, 1<<10); ; {
					if _, err := theirs.Read(buf); err != nil {
						return
					}
				}
			}()
			return ours, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		receipt, err := New(rdb, Options{}).Restore(ctx, newRestores(1)[0])
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || receipt.Queue != "" || took != 3*time.Second {
			t.Errorf("got %+v, %v after %v", receipt, err, took)
		}
		rdb.Close()
		synctest.Wait()
	})
}
