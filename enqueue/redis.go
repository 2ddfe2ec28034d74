package enqueue

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrURL is returned by [Connect] for a URL it does not understand. It does not
// quote the URL, which may hold a password.
var ErrURL = errors.New("redis URL is not understood: want redis://[user:password@]host:port/db, rediss://… or unix:///path?db=0")

// ioTimeout bounds dialling and each read and write.
const ioTimeout = 5 * time.Second

// RedisOptions say where Redis is.
type RedisOptions struct {
	// URL is redis://, rediss:// (TLS) or unix://. The settings of a go-redis URL
	// may follow as a query, for example ?read_timeout=2s. Default
	// redis://127.0.0.1:6379/0.
	//
	// With master_name in the query the hosts are Sentinels:
	// redis://s1:26379/0?master_name=queue&addr=s2:26379. With cluster=true they
	// are nodes of a Redis Cluster: redis://n1:6379?cluster=true&addr=n2:6379.
	URL string
	// Password, when set, replaces the URL's, so that the URL can be shown. With
	// Sentinels it is that of the Redis behind them; the URL's is the Sentinels'.
	Password string
	// TLS, when set, replaces the TLS settings that rediss:// implies.
	TLS *tls.Config
	// PoolSize is the number of connections per server. Default 10 per CPU.
	PoolSize int
	// Dialer, when set, makes the connections: an embedded Redis, a tunnel. It may
	// return one end of a net.Pipe, as miniredis' Dial does.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Connect returns a Redis client with the settings vbsrestore relies on: a
// context's deadline ends a call; dialling, reading and writing take at most 5 s
// each unless the URL says otherwise; and no commands that an older Redis
// answers with an error.
//
// It does no I/O: an unreachable Redis is noticed at the first call. The error is
// [ErrURL].
func Connect(o RedisOptions) (redis.UniversalClient, error) {
	if o.URL == "" {
		o.URL = "redis://127.0.0.1:6379/0"
	}
	if o.Dialer != nil {
		o.Dialer = dialer(o.Dialer).buffered
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, ErrURL
	}
	query := u.Query()
	switch {
	case query.Has("master_name"):
		return o.connectSentinel()
	case query.Get("cluster") == "true":
		query.Del("cluster")
		u.RawQuery = query.Encode()
		return o.connectCluster(u.String())
	}
	return o.connectServer()
}

func (o RedisOptions) connectServer() (redis.UniversalClient, error) {
	s, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, ErrURL
	}
	o.override(&s.Password, &s.TLSConfig, &s.PoolSize)
	setTimeouts(&s.DialTimeout, &s.ReadTimeout, &s.WriteTimeout)
	s.Dialer, s.ContextTimeoutEnabled, s.DisableIdentity = o.Dialer, true, true
	s.MaintNotificationsConfig = noNotifications()
	return redis.NewClient(s), nil
}

func (o RedisOptions) connectSentinel() (redis.UniversalClient, error) {
	s, err := redis.ParseFailoverURL(o.URL)
	if err != nil {
		return nil, ErrURL
	}
	o.override(&s.Password, &s.TLSConfig, &s.PoolSize)
	setTimeouts(&s.DialTimeout, &s.ReadTimeout, &s.WriteTimeout)
	s.Dialer, s.ContextTimeoutEnabled, s.DisableIdentity = o.Dialer, true, true
	return redis.NewFailoverClient(s), nil
}

func (o RedisOptions) connectCluster(clusterURL string) (redis.UniversalClient, error) {
	s, err := redis.ParseClusterURL(clusterURL)
	if err != nil {
		return nil, ErrURL
	}
	o.override(&s.Password, &s.TLSConfig, &s.PoolSize)
	setTimeouts(&s.DialTimeout, &s.ReadTimeout, &s.WriteTimeout)
	s.Dialer, s.ContextTimeoutEnabled, s.DisableIdentity = o.Dialer, true, true
	s.MaintNotificationsConfig = noNotifications()
	return redis.NewClusterClient(s), nil
}

func (o RedisOptions) override(password *string, tlsConfig **tls.Config, poolSize *int) {
	if o.Password != "" {
		*password = o.Password
	}
	if o.TLS != nil {
		*tlsConfig = o.TLS
	}
	if o.PoolSize > 0 {
		*poolSize = o.PoolSize
	}
}

func setTimeouts(timeouts ...*time.Duration) {
	for _, t := range timeouts {
		if *t == 0 {
			*t = ioTimeout
		}
	}
}

// noNotifications turns off go-redis' maintenance handshake, which Redis before
// 7.2 answers with an error and which looks up the server's name.
func noNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
