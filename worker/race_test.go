//go:build race

package worker_test

// stride is how many steps are left out between two that a process is killed or
// frozen at: the race detector makes them slow, and the whole check runs all of
// them without it.
const stride = 6
