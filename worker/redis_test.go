package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/vbsrestore/vbsrestore/results"
)

func startRedis(t *testing.T) (*miniredis.Miniredis, redis.UniversalClient) {
	t.Helper()
	m := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	return m, c
}

// levels is what a check says, without its prose.
func levels(checks []Check) map[string]string {
	out := map[string]string{}
	for _, c := range checks {
		out[c.What] = c.Level
	}
	return out
}

func TestCheckRedisEmbedded(t *testing.T) {
	_, c := startRedis(t)
	checks, err := CheckRedis(t.Context(), c, true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"clock": "ok", "scripts": "ok", "durability": "ok"}
	if diff := cmp.Diff(want, levels(checks)); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

// TestCheckRedisScriptsRefused: an ACL without EVAL, before the first task fails by it.
func TestCheckRedisScriptsRefused(t *testing.T) {
	_, c := startRedis(t)
	c.AddHook(refuse{"eval", errors.New("NOPERM this user has no permissions to run the 'eval' command")})
	checks, err := CheckRedis(t.Context(), c, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := levels(checks)["scripts"]; got != "fail" {
		t.Errorf("scripts: %s, want fail: %+v", got, checks)
	}
}

func TestCheckRedisThatIsAway(t *testing.T) {
	m, c := startRedis(t)
	m.Close()
	if checks, err := CheckRedis(t.Context(), c, false); err == nil {
		t.Errorf("no error, but %+v", checks)
	}
}

func TestCheckRedisWithoutInfo(t *testing.T) {
	_, c := startRedis(t)
	c.AddHook(refuse{"info", errors.New("NOPERM this user has no permissions to run the 'info' command")})
	if checks, err := CheckRedis(t.Context(), c, false); err == nil {
		t.Errorf("no error, but %+v", checks)
	}
}

// refuse answers one command with an error.
type refuse struct {
	command string
	err     error
}

func (refuse) DialHook(n redis.DialHook) redis.DialHook { return n }
func (r refuse) ProcessHook(n redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		if c.Name() == r.command {
			c.SetErr(r.err)
			return r.err
		}
		return n(ctx, c)
	}
}
func (refuse) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook { return n }

func TestCheckClockOfRedis(t *testing.T) {
	for name, row := range map[string]struct {
		off  time.Duration
		want string
	}{
		"same": {0, "ok"}, "4 s behind": {-4 * time.Second, "ok"}, "7 s behind": {-7 * time.Second, "warn"}, "7 s ahead": {7 * time.Second, "warn"},
		"half a minute behind": {-30 * time.Second, "fail"}, "half a minute ahead": {30 * time.Second, "fail"},
	} {
		t.Run(name, func(t *testing.T) {
			m, c := startRedis(t)
			m.SetTime(time.Now().Add(row.off))
			got, err := checkClock(t.Context(), c)
			if err != nil || got.Level != row.want {
				t.Errorf("%+v, %v, want %s", got, err, row.want)
			}
			if (got.Hint == "") != (row.want == "ok") {
				t.Errorf("level %s has the hint %q", got.Level, got.Hint)
			}
		})
	}
}

// TestChecksOfInfo: what INFO says, and what it means for a queue.
func TestChecksOfInfo(t *testing.T) {
	for _, row := range []struct {
		name  string
		check func(map[string]string) Check
		info  string // key=value, separated by blanks
		want  string
	}{
		{"6.2", checkVersion, "redis_version=6.2.0", "ok"},
		{"6.2 without a patch", checkVersion, "redis_version=6.2", "ok"},
		{"6.10 is newer than 6.2", checkVersion, "redis_version=6.10.1", "ok"},
		{"7", checkVersion, "redis_version=7.4.1", "ok"},
		{"10", checkVersion, "redis_version=10.0.0", "ok"},
		{"6.0", checkVersion, "redis_version=6.0.20", "fail"},
		{"5", checkVersion, "redis_version=5.0.14", "fail"},
		{"only 6", checkVersion, "redis_version=6", "fail"},
		{"unreadable, of a service that hides it", checkVersion, "redis_version=unstable", "ok"},
		{"noeviction", checkEviction, "maxmemory_policy=noeviction", "ok"},
		{"policy hidden", checkEviction, "", "ok"},
		{"allkeys-lru", checkEviction, "maxmemory_policy=allkeys-lru", "fail"},
		{"volatile-lru", checkEviction, "maxmemory_policy=volatile-lru", "fail"},
		{"volatile-ttl", checkEviction, "maxmemory_policy=volatile-ttl", "fail"},
		{"append only", checkPersistence, "aof_enabled=1 loading=0", "ok"},
		{"snapshots only", checkPersistence, "aof_enabled=0 loading=0", "warn"},
		{"nothing known", checkPersistence, "", "warn"},
		{"loading", checkPersistence, "aof_enabled=1 loading=1", "warn"},
		{"primary", checkRole, "role=master", "ok"},
		{"replica", checkRole, "role=slave", "fail"},
		{"sentinel", checkRole, "role=sentinel", "fail"},
	} {
		t.Run(row.name, func(t *testing.T) {
			info := map[string]string{}
			for pair := range strings.FieldsSeq(row.info) {
				k, v, _ := strings.Cut(pair, "=")
				info[k] = v
			}
			got := row.check(info)
			if got.Level != row.want {
				t.Errorf("%+v, want %s", got, row.want)
			}
			if got.What == "" || got.Says == "" || (got.Hint == "") != (row.want == "ok") {
				t.Errorf("%+v does not say what to do", got)
			}
		})
	}
}

// TestReadInfo: lines end in CRLF, and sections and blank lines are no keys.
func TestReadInfo(t *testing.T) {
	_, c := startRedis(t)
	c.AddHook(answer{"info", "# Server\r\nredis_version:7.2.4\r\nos:Linux 6.1:x\r\n\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n"})
	got, err := readInfo(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"redis_version": "7.2.4", "os": "Linux 6.1:x", "maxmemory_policy": "noeviction"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	checks, err := CheckRedis(t.Context(), c, false)
	wantLevels := map[string]string{"clock": "ok", "scripts": "ok", "version": "ok", "eviction": "ok", "persistence": "warn", "role": "fail"}
	if diff := cmp.Diff(wantLevels, levels(checks)); diff != "" || err != nil {
		t.Errorf("error %v, checks (-want +got):\n%s", err, diff)
	}
}

// answer gives one command this text.
type answer struct{ command, text string }

func (answer) DialHook(n redis.DialHook) redis.DialHook { return n }
func (a answer) ProcessHook(n redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, c redis.Cmder) error {
		if s, ok := c.(*redis.StringCmd); ok && c.Name() == a.command {
			s.SetVal(a.text)
			return nil
		}
		return n(ctx, c)
	}
}
func (answer) ProcessPipelineHook(n redis.ProcessPipelineHook) redis.ProcessPipelineHook { return n }

func bind(t *testing.T, c redis.UniversalClient, s *results.Store, wantBehind bool) {
	t.Helper()
	behind, err := Bind(t.Context(), c, s)
	if err != nil || behind != wantBehind {
		t.Errorf("Bind: behind %v, error %v, want %v", behind, err, wantBehind)
	}
}

// newTerm lets a new leader take a lease, and gives its term.
func newTerm(t *testing.T, s *results.Store, holder string) int64 {
	t.Helper()
	l, _, err := s.Lease(t.Context(), "cloud:c", holder, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	return l.Term
}

func show(t *testing.T, c redis.UniversalClient, s *results.Store, term int64) {
	t.Helper()
	if err := ShowTerm(t.Context(), c, s, term); err != nil {
		t.Fatal(err)
	}
}

// TestBindRefusesAnotherStore: two stores on one queue would restore twice.
func TestBindRefusesAnotherStore(t *testing.T) {
	m, c := startRedis(t)
	mine, other := newStore(t), newStore(t)
	bind(t, c, mine, false)
	bind(t, c, mine, false)
	if _, err := Bind(t.Context(), c, other); !errors.Is(err, ErrOtherStore) {
		t.Errorf("another store: %v, want ErrOtherStore", err)
	}
	m.FlushAll() // after a flush whoever comes first binds it, the other is refused
	show(t, c, mine, 0)
	if _, err := Bind(t.Context(), c, other); !errors.Is(err, ErrOtherStore) {
		t.Errorf("another store after a flush: %v, want ErrOtherStore", err)
	}
	bind(t, c, mine, false)
}

// TestBindSeesLostCommits: Redis has seen a term that the store never gave out.
func TestBindSeesLostCommits(t *testing.T) {
	m, c := startRedis(t)
	s := newStore(t)
	bind(t, c, s, false)
	term := newTerm(t, s, "a")
	show(t, c, s, term)
	bind(t, c, s, false)

	show(t, c, s, term+7) // as shown before an old copy of the store was put back
	bind(t, c, s, true)
	bind(t, c, s, false) // told once, and then caught up
	if next := newTerm(t, s, "b"); next <= term+7 {
		t.Errorf("the next term is %d, want one above %d", next, term+7)
	}

	m.FlushAll() // a flushed Redis has lost its memory, the store has not
	bind(t, c, s, false)
}

// TestShowTermNeverGoesBack: an old leader that wakes up late lowers nothing.
func TestShowTermNeverGoesBack(t *testing.T) {
	m, c := startRedis(t)
	s := newStore(t)
	for _, step := range []struct{ shown, want string }{{"3", "3"}, {"2", "3"}, {"10", "10"}, {"9", "10"}} {
		term := map[string]int64{"3": 3, "2": 2, "10": 10, "9": 9}[step.shown]
		show(t, c, s, term)
		if got, _ := m.Get(termKey); got != step.want {
			t.Errorf("after showing %s Redis says %s, want %s", step.shown, got, step.want)
		}
	}
}

// TestShowTermRefusesAnotherStore: its terms would make ours look lost.
func TestShowTermRefusesAnotherStore(t *testing.T) {
	_, c := startRedis(t)
	mine, other := newStore(t), newStore(t)
	bind(t, c, mine, false)
	if err := ShowTerm(t.Context(), c, other, 5); !errors.Is(err, ErrOtherStore) {
		t.Errorf("got %v, want ErrOtherStore", err)
	}
	bind(t, c, mine, false)
}

func TestBindWhenRedisIsAway(t *testing.T) {
	m, c := startRedis(t)
	s := newStore(t)
	m.Close()
	if _, err := Bind(t.Context(), c, s); err == nil || errors.Is(err, ErrOtherStore) {
		t.Errorf("Bind: %v, want an error that is not ErrOtherStore", err)
	}
	if err := ShowTerm(t.Context(), c, s, 1); err == nil {
		t.Error("ShowTerm: no error")
	}
}

// TestBindToATermThatIsNoNumber: somebody else's key is an error, not a zero.
func TestBindToATermThatIsNoNumber(t *testing.T) {
	m, c := startRedis(t)
	s := newStore(t)
	bind(t, c, s, false)
	if err := m.Set(termKey, "old"); err != nil {
		t.Fatal(err)
	}
	if behind, err := Bind(t.Context(), c, s); err == nil {
		t.Errorf("behind %v without error", behind)
	}
}
