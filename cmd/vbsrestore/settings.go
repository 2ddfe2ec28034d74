package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	envvar "github.com/caarlos0/env/v11"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/vbs"
)

// settings are what flags, environment and file can change, in this order of weight.
type settings struct {
	Redis  string                   `yaml:"redis" env:"VBSRESTORE_REDIS"`
	Store  string                   `yaml:"store" env:"VBSRESTORE_STORE"`
	Log    string                   `yaml:"log" env:"VBSRESTORE_LOG"`
	Level  string                   `yaml:"level" env:"VBSRESTORE_LEVEL"`
	Worker workerSettings           `yaml:"worker" envPrefix:"VBSRESTORE_WORKER_"`
	Retry  retrySettings            `yaml:"retry" envPrefix:"VBSRESTORE_RETRY_"`
	Clouds map[string]cloudSettings `yaml:"clouds"`

	File   string            `yaml:"-"` // the configuration file; "" for none
	Origin map[string]string `yaml:"-"` // where each came from, by key
}

type workerSettings struct {
	Name        string        `yaml:"name" env:"NAME"`
	Servers     int           `yaml:"servers" env:"SERVERS"`
	Concurrency int           `yaml:"concurrency" env:"CONCURRENCY"`
	PostTimeout time.Duration `yaml:"post_timeout" env:"POST_TIMEOUT"`
}

// A POST has so long from before its claim. A shorter time finds the POSTs of
// crashed workers sooner. Settle is reckoned from a POST of at most a minute.
const (
	shortestPost = 5 * time.Second
	longestPost  = time.Minute
)

type retrySettings struct {
	Never  []int `yaml:"never" env:"NEVER"`
	Budget int   `yaml:"budget" env:"BUDGET"`
}

// cloudSettings are what clouds.yaml has no place for. The last five go to the
// store when a worker starts, if they are here and differ, until a person sets
// others with "cloud set".
type cloudSettings struct {
	Flavour        vbs.Flavour `yaml:"flavour"`
	BackupEndpoint string      `yaml:"backup_endpoint"`
	VolumeEndpoint string      `yaml:"volume_endpoint"`
	BackupTypes    []string    `yaml:"backup_types"`
	VolumeTypes    []string    `yaml:"volume_types"`

	Cap       *int           `yaml:"cap"`
	Rate      *float64       `yaml:"rate"`
	ReadRate  *float64       `yaml:"read_rate"`
	Settle    *time.Duration `yaml:"settle"`
	Ambiguous *string        `yaml:"ambiguous"`
}

func (c cloudSettings) limits() results.CloudSettings {
	return results.CloudSettings{Cap: c.Cap, Rate: c.Rate, ReadRate: c.ReadRate, Settle: c.Settle, Ambiguous: c.Ambiguous}
}

func defaultSettings() settings {
	return settings{Redis: "redis://127.0.0.1:6379/0", Store: "sqlite://vbsrestore.db", Log: "auto", Level: "info",
		Worker: workerSettings{Servers: 2, Concurrency: 32, PostTimeout: longestPost}, Retry: retrySettings{Budget: 8}, Origin: map[string]string{}}
}

// globals are the flags that every command has.
type globals struct {
	file  string
	given settings
}

func (g *globals) addFlags(f *pflag.FlagSet) {
	d := defaultSettings()
	f.StringVar(&g.file, "config", "", "configuration file (VBSRESTORE_CONFIG)")
	f.StringVar(&g.given.Redis, "redis", d.Redis, "where requests go through (VBSRESTORE_REDIS)")
	f.StringVar(&g.given.Store, "store", d.Store, "where results are kept (VBSRESTORE_STORE)")
	f.StringVar(&g.given.Log, "log", d.Log, "log as auto, json or console (VBSRESTORE_LOG)")
	f.StringVar(&g.given.Level, "level", d.Level, "log from debug, info, warn or error on (VBSRESTORE_LEVEL)")
}

// load reads all settings and checks their form.
func (g *globals) load(f *pflag.FlagSet, e env) (settings, error) {
	s := defaultSettings()
	s.File, s.Origin["config"] = e.Getenv("VBSRESTORE_CONFIG"), "VBSRESTORE_CONFIG"
	if f.Changed("config") {
		s.File, s.Origin["config"] = g.file, "--config"
	}
	if s.File != "" {
		if err := s.readFile(s.File); err != nil {
			return s, &usageError{err}
		}
	}
	if err := s.readEnv(e); err != nil {
		return s, &usageError{err}
	}
	for _, k := range settingKeys() {
		if k.flag != "" && f.Lookup(k.flag) != nil && f.Changed(k.flag) {
			k.copy(&s, &g.given)
			s.Origin[k.name] = "--" + k.flag
		}
	}
	return s, s.check()
}

// settingKey is one setting with a value of its own in flag, environment and file.
type settingKey struct {
	name, env, flag string
	show            func(*settings) string
	copy            func(to, from *settings)
}

func settingKeys() []settingKey {
	return []settingKey{
		{"redis", "VBSRESTORE_REDIS", "redis", func(s *settings) string { return redacted(s.Redis) }, func(to, from *settings) { to.Redis = from.Redis }},
		{"store", "VBSRESTORE_STORE", "store", func(s *settings) string { return redacted(s.Store) }, func(to, from *settings) { to.Store = from.Store }},
		{"log", "VBSRESTORE_LOG", "log", func(s *settings) string { return s.Log }, func(to, from *settings) { to.Log = from.Log }},
		{"level", "VBSRESTORE_LEVEL", "level", func(s *settings) string { return s.Level }, func(to, from *settings) { to.Level = from.Level }},
		{"worker.name", "VBSRESTORE_WORKER_NAME", "name", func(s *settings) string { return s.Worker.Name }, func(to, from *settings) { to.Worker.Name = from.Worker.Name }},
		{"worker.servers", "VBSRESTORE_WORKER_SERVERS", "servers", func(s *settings) string { return fmt.Sprint(s.Worker.Servers) },
			func(to, from *settings) { to.Worker.Servers = from.Worker.Servers }},
		{"worker.concurrency", "VBSRESTORE_WORKER_CONCURRENCY", "concurrency", func(s *settings) string { return fmt.Sprint(s.Worker.Concurrency) },
			func(to, from *settings) { to.Worker.Concurrency = from.Worker.Concurrency }},
		{"worker.post_timeout", "VBSRESTORE_WORKER_POST_TIMEOUT", "post-timeout", func(s *settings) string { return s.Worker.PostTimeout.String() },
			func(to, from *settings) { to.Worker.PostTimeout = from.Worker.PostTimeout }},
		{"retry.never", "VBSRESTORE_RETRY_NEVER", "", func(s *settings) string { return strings.Trim(fmt.Sprint(s.Retry.Never), "[]") }, nil},
		{"retry.budget", "VBSRESTORE_RETRY_BUDGET", "", func(s *settings) string { return fmt.Sprint(s.Retry.Budget) }, nil},
	}
}

// readEnv takes what the environment has. An empty variable counts as unset.
func (s *settings) readEnv(e env) error {
	vars := map[string]string{}
	for _, k := range settingKeys() {
		value, from, err := variable(e, k.env)
		if err != nil {
			return err
		}
		if value != "" {
			vars[k.env] = value
			s.Origin[k.name] = from
		}
	}
	for name := range vars {
		one := map[string]string{name: vars[name]}
		if err := envvar.ParseWithOptions(s, envvar.Options{Environment: one}); err != nil {
			return fmt.Errorf("%s: %q is not what it should be: a whole number, whole numbers with commas between them, or a time such as 30s", name, vars[name])
		}
	}
	return nil
}

// variable reads NAME, or the file that NAME_FILE names, which is for secrets.
func variable(e env, name string) (value, from string, err error) {
	value, file := e.Getenv(name), e.Getenv(name+"_FILE")
	switch {
	case value != "" && file != "":
		return "", "", fmt.Errorf("%s and %s_FILE are both set; keep one", name, name)
	case file == "":
		return value, name, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	return strings.TrimSpace(string(content)), name + "_FILE", nil
}

// check looks at the forms; it opens nothing and asks nobody.
func (s *settings) check() error {
	if _, err := enqueue.Connect(enqueue.RedisOptions{URL: s.Redis}); err != nil {
		return hint(&usageError{err}, "it came from %s", s.from("redis"))
	}
	if err := results.CheckURL(s.Store); err != nil {
		return hint(&usageError{err}, "it came from %s", s.from("store"))
	}
	if !slices.Contains([]string{"auto", "json", "console"}, s.Log) {
		return usagef("log %q: use auto, json or console", s.Log)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.Level) {
		return usagef("level %q: use debug, info, warn or error", s.Level)
	}
	if s.Worker.Servers < 1 || s.Worker.Servers > 32 || s.Worker.Concurrency < 1 || s.Worker.Concurrency > 1024 {
		return usagef("worker.servers must be 1 to 32 and worker.concurrency 1 to 1024, not %d and %d", s.Worker.Servers, s.Worker.Concurrency)
	}
	if s.Worker.PostTimeout < shortestPost || s.Worker.PostTimeout > longestPost {
		return usagef("worker.post_timeout %s: must be %s to %s; settle is reckoned from POSTs no longer than that", s.Worker.PostTimeout, shortestPost, longestPost)
	}
	if s.Retry.Budget < 1 {
		return usagef("retry.budget %d: a restore needs at least 1 POST", s.Retry.Budget)
	}
	for _, status := range s.Retry.Never {
		if status != 501 && status != 505 {
			return usagef("retry.never %d: only 501 and 505 can be there; after any other status the cloud may be restoring all the same", status)
		}
	}
	return s.checkClouds()
}

func (s *settings) checkClouds() error {
	for name, c := range s.Clouds {
		if c.Flavour != "" && c.Flavour != vbs.FlavourVBS && c.Flavour != vbs.FlavourCinder {
			return usagef("clouds.%s.flavour %q: use vbs or cinder", name, c.Flavour)
		}
		if err := c.limits().Check(); err != nil {
			return usagef("clouds.%s: %w", name, err)
		}
	}
	return nil
}

func (s *settings) from(key string) string {
	if o := s.Origin[key]; o != "" {
		return o
	}
	return "the default"
}

// logger writes to stderr: lines for people on a terminal, JSON for machines.
func (s *settings) logger(e env) zerolog.Logger {
	level, _ := zerolog.ParseLevel(s.Level) // checked by check
	if s.Log == "json" || s.Log == "auto" && !e.StderrTTY {
		return zerolog.New(e.Stderr).Level(level).With().Timestamp().Logger()
	}
	console := zerolog.ConsoleWriter{Out: e.Stderr, NoColor: !e.colours(e.StderrTTY), TimeFormat: "15:04:05",
		FieldsOrder: []string{"restore", "volume_name", "state", "attempt", "reason"}, FieldsExclude: []string{"backup", "volume"},
		FormatPrepare: withoutEmpty}
	return zerolog.New(console).Level(level).With().Timestamp().Logger()
}

// withoutEmpty leaves out what is not known yet, such as the name of a volume
// nobody looked at.
func withoutEmpty(fields map[string]any) error {
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == "" })
	return nil
}

// redacted hides the password of a URL.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "[not a URL]"
	}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), "redacted")
		}
	}
	return u.String()
}
