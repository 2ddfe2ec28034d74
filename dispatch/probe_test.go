package dispatch_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestProbeHang(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"dial": func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
		"read": func(ctx context.Context, _, _ string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				buf := make([]byte, 1000)
				for {
					if _, err := b.Read(buf); err != nil {
						return
					}
				}
			}()
			return a, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := enqueue.Connect(enqueue.RedisOptions{Dialer: dial})
				must(t)(c, err)
				defer func() { c.Close(); time.Sleep(5 * time.Minute) }()
				q := enqueue.New(c, enqueue.Options{})
				for range 3 {
					start := time.Now()
					err = q.Wake(t.Context(), cloud, []tasks.Wake{{ID: "00000001-0000-7000-8000-000000000abc", Generation: 1}})
					t.Logf("wake took %s: %v", time.Since(start), err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				q.Wake(ctx, cloud, []tasks.Wake{{ID: "00000001-0000-7000-8000-000000000abc", Generation: 1}})
				t.Logf("cancelled at 1s, returned after %s", time.Since(start))
			})
		})
	}
}

func TestProbeLongOutage(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.link.cut()
		id := s.record(1)[0]
		d := s.dispatcher()
		d.Every = 2 * time.Second
		s.run(d)
		time.Sleep(6 * time.Minute)
		s.link.heal()
		healed := time.Now()
		for len(s.wakes()) == 0 {
			time.Sleep(time.Second)
		}
		row, _ := s.store.Get(t.Context(), id)
		t.Logf("woken %s after redis was back: %+v", time.Since(healed), row)
		_ = results.Queued
	})
}
