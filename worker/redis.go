package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/results"
)

// A Check is one thing about Redis that was looked at when a worker starts.
type Check struct {
	What  string `json:"what"`
	Level string `json:"level"` // ok, warn or fail
	Says  string `json:"says"`
	Hint  string `json:"hint,omitempty"`
}

const (
	oldestRedis = "6.2"
	skewWarn    = 5 * time.Second
	skewFail    = 20 * time.Second
)

// CheckRedis looks whether a Redis is fit for the queue: version, eviction,
// persistence, role, clock, scripts. Embedded stands for an in-process Redis,
// which has no INFO worth reading. It returns an error only when Redis cannot be
// asked at all.
func CheckRedis(ctx context.Context, rdb redis.UniversalClient, embedded bool) ([]Check, error) {
	clock, err := checkClock(ctx, rdb)
	if err != nil {
		return nil, fmt.Errorf("ask redis: %w", err)
	}
	checks := []Check{clock, checkScripts(ctx, rdb)}
	if embedded {
		return append(checks, Check{"durability", "ok", "embedded queue of one process; its content is rebuilt from the store", ""}), nil
	}
	info, err := readInfo(ctx, rdb)
	if err != nil {
		return nil, fmt.Errorf("read redis INFO: %w", err)
	}
	return append(checks, checkVersion(info), checkEviction(info), checkPersistence(info), checkRole(info)), nil
}

func readInfo(ctx context.Context, rdb redis.UniversalClient) (map[string]string, error) {
	text, err := rdb.Info(ctx).Result()
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info, err
}

func checkClock(ctx context.Context, rdb redis.UniversalClient) (Check, error) {
	theirs, err := rdb.Time(ctx).Result()
	if err != nil {
		return Check{}, err
	}
	skew := time.Since(theirs).Abs()
	c := Check{"clock", "ok", fmt.Sprintf("differs from ours by %s", skew.Round(time.Millisecond)), ""}
	if skew > skewWarn {
		c.Level, c.Hint = "warn", "synchronise the clocks (NTP): leases of the queue are counted by ours"
	}
	if skew > skewFail {
		c.Level = "fail"
	}
	return c, nil
}

func checkScripts(ctx context.Context, rdb redis.UniversalClient) Check {
	if err := rdb.Eval(ctx, "return redis.call('EXISTS', KEYS[1])", []string{"asynq:{vbsrestore-check}"}).Err(); err != nil {
		return Check{"scripts", "fail", "EVAL is refused: " + err.Error(), "allow the user EVAL, EVALSHA and SCRIPT LOAD on asynq:* and vbsrestore:*"}
	}
	return Check{"scripts", "ok", "EVAL works", ""}
}

func checkVersion(info map[string]string) Check {
	v := info["redis_version"]
	if olderThan(v, oldestRedis) {
		return Check{"version", "fail", "redis " + v, "the queue needs redis " + oldestRedis + " or newer"}
	}
	return Check{"version", "ok", "redis " + v, ""}
}

func olderThan(v, oldest string) bool {
	have, want := strings.Split(v, "."), strings.Split(oldest, ".")
	for i := range want {
		if i >= len(have) {
			return true
		}
		h, errH := strconv.Atoi(have[i])
		w, _ := strconv.Atoi(want[i])
		if errH != nil || h != w {
			return errH == nil && h < w
		}
	}
	return false
}

func checkEviction(info map[string]string) Check {
	switch policy := info["maxmemory_policy"]; policy {
	case "noeviction", "":
		return Check{"eviction", "ok", "noeviction", ""}
	default:
		return Check{"eviction", "fail", "maxmemory-policy is " + policy, "set maxmemory-policy noeviction: evicted keys are lost wake-ups and stuck tasks"}
	}
}

func checkPersistence(info map[string]string) Check {
	switch {
	case info["loading"] == "1":
		return Check{"persistence", "warn", "redis is still loading its data", "wait until it has"}
	case info["aof_enabled"] != "1":
		return Check{"persistence", "warn", "appendonly is off: requests not recorded yet are lost when redis restarts", "set appendonly yes; what is recorded in the store is safe either way"}
	}
	return Check{"persistence", "ok", "appendonly is on", ""}
}

func checkRole(info map[string]string) Check {
	if role := info["role"]; role != "master" {
		return Check{"role", "fail", "this redis is a " + role, "use the primary's address"}
	}
	return Check{"role", "ok", "primary", ""}
}

// ErrOtherStore says that the Redis belongs to another result store. Two stores
// on one queue would restore twice.
var ErrOtherStore = errors.New("this redis is used with another result store")

const (
	storeKey = "vbsrestore:store"
	termKey  = "vbsrestore:term"
)

// Bind ties Redis and store together: the store's id and newest term are kept in
// Redis. ErrOtherStore if Redis names another store. behind reports that Redis
// has seen a newer term than the store gave out: the store lost commits, for
// example because an old copy of it was put back. Then every cloud of the store
// has been paused until a person resumes it.
func Bind(ctx context.Context, rdb redis.UniversalClient, store *results.Store) (behind bool, err error) {
	if err := tie(ctx, rdb, store); err != nil {
		return false, err
	}
	seen, err := rdb.Get(ctx, termKey).Int64()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the term that redis has seen: %w", err)
	}
	// Redis is read first: a leader that takes a new term in between raises the store's.
	term, err := store.Term(ctx)
	if err != nil || seen <= term {
		return false, err
	}
	// The term is raised last: whoever dies before is followed by one who finds
	// the same.
	if err := suspectAll(ctx, store); err != nil {
		return false, err
	}
	return true, store.RaiseTerm(ctx, seen)
}

// suspectAll pauses every cloud that the store knows.
func suspectAll(ctx context.Context, store *results.Store) error {
	clouds, err := store.Clouds(ctx)
	if err != nil {
		return err
	}
	for _, c := range clouds {
		if _, err := store.Suspect(ctx, c.Name, lostCommits); err != nil {
			return err
		}
	}
	return nil
}

const lostCommits = "the store is older than what Redis has seen of it: it lost commits, so restores may have run that it does not know of"

// tie writes the store's id into a Redis that has none.
func tie(ctx context.Context, rdb redis.UniversalClient, store *results.Store) error {
	if err := rdb.SetNX(ctx, storeKey, store.ID(), 0).Err(); err != nil {
		return fmt.Errorf("tie redis to the store: %w", err)
	}
	id, err := rdb.Get(ctx, storeKey).Result()
	if err != nil {
		return fmt.Errorf("tie redis to the store: %w", err)
	}
	if id != store.ID() {
		return fmt.Errorf("%w: redis says %s, the store is %s", ErrOtherStore, id, store.ID())
	}
	return nil
}

// raiseTerm sets the key to the greater of what it holds and the argument.
var raiseTerm = redis.NewScript(`local have = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > have then redis.call('SET', KEYS[1], ARGV[1]) end
return 0`)

// ShowTerm tells Redis the term of a new leader. ErrOtherStore if Redis names
// another store: its terms are counted apart.
func ShowTerm(ctx context.Context, rdb redis.UniversalClient, store *results.Store, term int64) error {
	if err := tie(ctx, rdb, store); err != nil {
		return fmt.Errorf("show the leader's term: %w", err)
	}
	if err := raiseTerm.Run(ctx, rdb, []string{termKey}, term).Err(); err != nil {
		return fmt.Errorf("show the leader's term: %w", err)
	}
	return nil
}
