// Package simulator is a cloud in memory: the volumes and backups of one
// OpenStack project, behind the HTTP API of Cinder (and of VBS, which is Cinder
// with another path) and of Keystone.
//
// Start with [New]. A [Cloud] has two doors which behave alike: it is an
// [http.Handler] for programs that want a server, and an [http.RoundTripper]
// for tests that want no sockets:
//
//	cloud, err := simulator.New(simulator.Config{Volumes: 20, Seed: 7})
//	client := &http.Client{Transport: cloud}      // no sockets
//	http.ListenAndServe("127.0.0.1:8776", cloud)  // or a real server
//
// What it is for, and where to look:
//
//	what a restore does to the statuses, and when    Config, AddVolume, AddBackup
//	what other people do meanwhile                   ForeignRestore, Attach, ResetVolume, …
//	what goes wrong                                  Fault, Faults, StandardFaults, Script
//	what really happened                             Executions, Calls
//
// Executions is the truth a test compares with: every restore that the cloud
// carried out, whatever answer its caller got.
//
// Time is lazy. What is to happen later is kept in a heap, and every request or
// method first runs what is due, each with the time at which it was due. There is
// no background goroutine, so a Cloud behaves the same with the real clock and in
// a testing/synctest bubble. Late answers wait in the goroutine of their caller.
//
// Facts about the wire are those of a real Cinder 21.3 and Keystone 22.0, except
// for what only VBS and its gateway answer, which is taken from their published
// documentation. The package shares no code with the client that is tested
// against it.
//
// All methods are safe for concurrent use.
package simulator

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// A Config says what cloud to make. The zero value is an empty, fast, faultless
// cloud.
type Config struct {
	// Seed decides every random choice: sizes, ids, faults. Two clouds with the
	// same Config draw alike, request by request. Default 0, a seed like others.
	Seed uint64
	// ProjectID is the only project. Default "5eed0000c10d4000a000000000000001".
	ProjectID string
	// Volumes is how many volumes New makes: db-0001, db-0002 …, each with one
	// full, available backup db-0001-bak, 1 to 200 GiB, some days old. Default 0.
	// A journal that has anything in it wins.
	Volumes int
	// User and Password open a token, also as the id and the secret of an
	// application credential. Default "demo" and "demo".
	User, Password string
	// Capacity is how many restores work at once; the others wait in the same
	// visible state. Default 15, Cinder's backup_max_operations. Negative: no limit.
	Capacity int
	// GiBPerSecond is the speed of one restore. Default 1.
	GiBPerSecond float64
	// MinDuration is the shortest restore. Default 1s. Negative: none.
	MinDuration time.Duration
	// BackupLag is how long after the volume's the backup's status is written at
	// the end of a restore. Default 300ms. Negative: none.
	BackupLag time.Duration
	// TokenLife is how long a token is valid. Default 24h.
	TokenLife time.Duration
	// Faults is what goes wrong. The zero value: nothing.
	Faults Faults
	// Fractional gives created_at and updated_at microseconds, as PostgreSQL
	// does. Default: whole seconds, as MariaDB does.
	Fractional bool
	// NoDate leaves the Date header out, as the uwsgi of Debian does.
	NoDate bool
	// Skew is how far the cloud's clock is ahead of this machine's. Default 0.
	Skew time.Duration
	// Pike is an older Cinder: no src_backup_id, no /messages, microversions to
	// 3.45.
	Pike bool
	// BaseURL is the beginning of the URLs in the catalog and in links, without a
	// slash at the end. Default: from the request.
	BaseURL string
	// Journal is a folder that keeps volumes, backups, restores in progress and
	// executions over kill -9 and restart (not over a power cut). One process at
	// a time. Tokens and call counts are not kept. Default: memory only.
	Journal string
	// Log gets one line per executed restore and per injected fault. The zero
	// value discards.
	Log zerolog.Logger
}

// A Cloud is one simulated project. Make it with [New].
type Cloud struct {
	cfg  Config
	done chan struct{} // closed by Close: hanging answers end

	mu         sync.Mutex
	now        time.Time // of the event being run, or of the request
	rng        *rand.Rand
	volumes    shelf[*volume]
	backups    shelf[*backup]
	messages   []*message
	due        agenda
	open       []*job // not finished, by ID
	waiting    []*job // cast, but no slot
	working    int    // slots taken
	lastJob    int
	executions []*job
	downSince  time.Time // zero: the backup service runs
	tokens     map[string]*token
	calls      map[string]int
	faults     injector
	journal    *journal
	closed     bool
}

// New makes a cloud, or goes on with the one in Config.Journal. The error tells
// of a journal that cannot be read or written, or of a Faults rule without sense.
func New(cfg Config) (*Cloud, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Faults.check(); err != nil {
		return nil, fmt.Errorf("check faults: %w", err)
	}
	c := &Cloud{
		cfg:     cfg,
		done:    make(chan struct{}),
		volumes: newShelf[*volume](),
		backups: newShelf[*backup](),
		tokens:  map[string]*token{},
		calls:   map[string]int{},
		faults:  newInjector(cfg.Seed, cfg.Faults),
	}
	if err := c.restart(); err != nil {
		return nil, err
	}
	return c, nil
}

// restart reads the journal, and fills an empty cloud.
func (c *Cloud) restart() error {
	c.now = c.clock()
	generation := uint64(0)
	if c.cfg.Journal != "" {
		j, n, err := openJournal(c, c.cfg.Journal)
		if err != nil {
			return fmt.Errorf("open journal %s: %w", c.cfg.Journal, err)
		}
		c.journal, generation = j, n
	}
	c.rng = rand.New(rand.NewPCG(c.cfg.Seed, generation))
	if len(c.volumes.byID)+len(c.backups.byID)+len(c.executions) == 0 {
		c.populate(c.cfg.Volumes)
	}
	return c.flush()
}

// populate makes the volumes of Config.Volumes, each with a backup: made 30 to 90
// days ago in the order of their names, backed up in the last ten days.
func (c *Cloud) populate(n int) {
	const day = 24 * time.Hour
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("db-%04d", i)
		made := c.now.Add(-90*day + time.Duration(float64(60*day)*float64(i)/float64(n)))
		v := c.addVolume(Volume{Name: name, SizeGiB: 1 + c.rng.IntN(200), Created: made, Updated: made.Add(time.Minute)})
		taken := c.now.Add(-day - time.Duration(c.rng.Int64N(int64(9*day))))
		c.addBackup(Backup{Name: name + "-bak", VolumeID: v.ID, SizeGiB: v.SizeGiB,
			DataTime: taken, Created: taken, Updated: taken.Add(10 * time.Minute)})
	}
}

func (cfg Config) withDefaults() Config {
	setDefault(&cfg.ProjectID, "5eed0000c10d4000a000000000000001")
	setDefault(&cfg.User, "demo")
	setDefault(&cfg.Password, "demo")
	setDefault(&cfg.Capacity, 15)
	setDefault(&cfg.GiBPerSecond, 1)
	setDefault(&cfg.MinDuration, time.Second)
	setDefault(&cfg.BackupLag, 300*time.Millisecond)
	setDefault(&cfg.TokenLife, 24*time.Hour)
	cfg.MinDuration = max(cfg.MinDuration, 0)
	cfg.BackupLag = max(cfg.BackupLag, 0)
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	return cfg
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// clock is the wall time: what is read back from a journal has no monotonic part
// either.
// clock is the cloud's own clock.
func (c *Cloud) clock() time.Time { return time.Now().Round(0).UTC().Add(c.cfg.Skew) }

// enter locks the cloud and runs everything that is due. Every method and every
// request begins with it and ends with leave.
func (c *Cloud) enter() {
	c.mu.Lock()
	c.advance(c.clock())
}

// leave writes the journal and unlocks.
func (c *Cloud) leave() {
	if err := c.flush(); err != nil {
		c.cfg.Log.Error().Err(err).Msg("journal not written")
	}
	c.mu.Unlock()
}

// Close ends hanging answers and closes the journal. The cloud stays readable;
// requests after it are answered as by a server that went away. It returns the
// first error of writing the journal, if there was any.
func (c *Cloud) Close() error {
	c.enter()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	close(c.done)
	err := c.flush()
	c.closed = true
	if c.journal != nil {
		if cerr := c.journal.file.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close journal: %w", cerr)
		}
	}
	return err
}

// CloudsYAML gives a clouds.yaml with one entry, "simulator". authURL is where
// Keystone is to be found: the base of this cloud with /v3 at the end, for
// example "http://127.0.0.1:8776/v3".
func (c *Cloud) CloudsYAML(authURL string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `clouds:
  simulator:
    region_name: RegionOne
    auth:
      auth_url: %q
      username: %q
      password: %q
      project_id: %q
      user_domain_name: Default
`, authURL, c.cfg.User, c.cfg.Password, c.cfg.ProjectID)
	return b.Bytes()
}

var (
	_ http.Handler      = (*Cloud)(nil)
	_ http.RoundTripper = (*Cloud)(nil)
)
