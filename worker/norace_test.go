//go:build !race

package worker_test

// stride: see race_test.go.
const stride = 1
