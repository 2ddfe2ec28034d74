package enqueuetest_test

import (
	"context"
	"fmt"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/enqueue/enqueuetest"
	"github.com/vbsrestore/vbsrestore/tasks"
)

// rollback is the code under test.
func rollback(ctx context.Context, client *enqueue.Client, volume string) error {
	_, err := client.Restore(ctx, tasks.Restore{Cloud: "prod", Actor: "rollback", VolumeID: volume,
		BackupID: "2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11"})
	return err
}

func ExampleNew() {
	t := new(fakeT) // in a test, its *testing.T
	defer t.end()

	queue := enqueuetest.New(t)
	err := rollback(context.Background(), queue.Client(), "9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22")
	for _, r := range queue.Restores(t) {
		fmt.Println(r.Cloud, r.VolumeID, r.Actor, err)
	}
	// Output:
	// prod 9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22 rollback <nil>
}
