package vbs

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that no goroutine is left when all clients are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
