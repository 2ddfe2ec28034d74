package dispatch_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/vbsrestore/vbsrestore/dispatch"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestRequestsForACloudThatNobodyServesAreAlarmedOnce(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		ask := func(cloud string) {
			r := tasks.Restore{Cloud: cloud, BackupID: tasks.NewID(), VolumeID: tasks.NewID()}
			must(t)(s.queue.Restore(t.Context(), r))
		}
		ask("forgotten")
		ask(cloud)
		lease(t, s, cloud)
		ctx, stop := context.WithCancel(t.Context())
		var sweeper sync.WaitGroup
		sweep := dispatch.Sweeper{Store: s.store, Queue: s.queue, Log: zerolog.Nop()}
		sweeper.Go(func() { sweep.Run(ctx, func() {}) })
		time.Sleep(10 * time.Minute)
		events, err := s.store.CloudEvents(t.Context(), "forgotten", 10)
		if err != nil || len(events) != 1 || events[0].Kind != "nobody serves" {
			t.Errorf("alarms of the forgotten cloud: %+v, want one", events)
		}
		lease(t, s, "forgotten")
		time.Sleep(5 * time.Minute)
		if events, err := s.store.CloudEvents(t.Context(), cloud, 10); err != nil || len(events) != 1 { // the stage's own "cloud set"
			t.Errorf("alarms of the served cloud: %+v", events)
		}
		stop()
		sweeper.Wait()
	})
}

func lease(t *testing.T, s *stage, cloud string) {
	t.Helper()
	if _, _, err := s.store.Lease(t.Context(), "cloud:"+cloud, "worker", time.Hour); err != nil {
		t.Fatal(err)
	}
}
