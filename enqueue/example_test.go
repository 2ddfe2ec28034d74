package enqueue_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/alicebob/miniredis/v2"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func ExampleClient_Restore() {
	server := miniredis.NewMiniRedis() // stands for your Redis
	defer server.Close()
	rdb, err := enqueue.Connect(enqueue.RedisOptions{
		URL:    "redis://127.0.0.1:6379/0",
		Dialer: func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()

	client := enqueue.New(rdb, enqueue.Options{})
	r := tasks.Restore{
		ID:       "0198c0de-7a11-7bcd-8ef0-123456789abc", // or leave it out
		Cloud:    "prod",
		BackupID: "2f1c8f9e-6a0a-4a52-9c43-0d0e5a1b7c11",
		VolumeID: "9a0d7c52-1f7e-4c0e-8a55-3f9a6f0b2d22",
	}
	for range 2 {
		receipt, err := client.Restore(context.Background(), r)
		fmt.Println(receipt.Queue, receipt.Existed, err)
	}

	r.VolumeID = "/dev/vdb"
	_, err = client.Restore(context.Background(), r)
	var problem *tasks.FieldError
	fmt.Println(errors.As(err, &problem), err)
	// Output:
	// prod:in false <nil>
	// prod:in true <nil>
	// true enqueue restore: volume_id: "/dev/vdb" is not a UUID
}
