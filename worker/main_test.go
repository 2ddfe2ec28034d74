package worker_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	goleak.VerifyTestMain(m)
}

// silent drops what go-redis says of connections that the tests cut on purpose.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
