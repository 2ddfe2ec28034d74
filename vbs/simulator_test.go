package vbs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vbsrestore/vbsrestore/simulator"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// TestARestoreInTheSimulator runs a restore from the listing to its end, with a
// token that expires in between.
func TestARestoreInTheSimulator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := simulator.New(simulator.Config{Seed: 1, Volumes: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		access, err := vbs.LoadCloud("", vbs.Sources{Clouds: sim.CloudsYAML("http://cloud.test/v3")})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		c, err := vbs.Open(ctx, access, vbs.Options{Transport: sim})
		if err != nil {
			t.Fatal(err)
		}
		backups, err := c.Backups(ctx, vbs.BackupQuery{Limit: 2})
		if err != nil || len(backups) != 3 {
			t.Fatalf("%d backups, %v", len(backups), err)
		}
		b := backups[0]
		sim.ExpireTokens()
		accepted, err := c.Restore(context.WithoutCancel(ctx), vbs.Post{
			BackupID: b.ID, VolumeID: b.VolumeID, NotAfter: time.Now().Add(time.Minute),
		})
		if err != nil || accepted.VolumeID != b.VolumeID {
			t.Fatalf("%+v, %v", accepted, err)
		}
		v, err := c.Volume(ctx, b.VolumeID)
		if err != nil || v.Status != "restoring-backup" {
			t.Fatalf("%+v, %v", v, err)
		}
		running, err := c.Volumes(ctx, vbs.VolumeQuery{Status: "restoring-backup"})
		if err != nil || len(running) != 1 || running[0].ID != b.VolumeID {
			t.Errorf("%+v, %v", running, err)
		}
		time.Sleep(24 * time.Hour) // of the bubble
		if v, err = c.Volume(ctx, b.VolumeID); err != nil || v.Status != "available" {
			t.Errorf("%+v, %v", v, err)
		}
		if n := len(sim.Executions()); n != 1 {
			t.Errorf("%d executions", n)
		}
		if _, err := c.Messages(ctx, vbs.MessageQuery{RequestID: accepted.RequestID}); err != nil {
			t.Error(err)
		}
	})
}
