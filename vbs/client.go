package vbs

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"
)

// A Flavour is the family of paths under which a cloud keeps its backups.
type Flavour string

// The two flavours. The empty Flavour is FlavourVBS.
const (
	FlavourVBS    Flavour = "vbs"    // /v3/{project_id}/native/backups/…, as the VBS API page documents
	FlavourCinder Flavour = "cinder" // /v3/{project_id}/backups/…, as Cinder and newer VBS pages have it
)

// Options adjust a [Client]. The zero value works.
type Options struct {
	// Flavour is the family of paths. Default: FlavourVBS.
	Flavour Flavour
	// BackupEndpoint and VolumeEndpoint override the catalog, for example
	// "https://vbs.eu-de.otc.t-systems.com/v3/%(project_id)s/". Version and
	// project are added if missing. Default: the catalog.
	BackupEndpoint, VolumeEndpoint string
	// BackupTypes are the catalog types tried in order for backups. Default:
	// vbs, vbsv3, then VolumeTypes for FlavourVBS; VolumeTypes for FlavourCinder.
	BackupTypes []string
	// VolumeTypes are the catalog types tried in order for volumes. Default:
	// block-storage, volumev3, volume, volumev2.
	VolumeTypes []string
	// Transport sends every request, for tests with a simulator. The deadline of
	// a POST is then checked right before RoundTrip. Default: own transports.
	Transport http.RoundTripper
	// Proxy chooses a proxy, as in [http.Transport]; callers that want the
	// environment's pass [http.ProxyFromEnvironment]. Default: none.
	Proxy func(*http.Request) (*url.URL, error)
	// Timeout bounds one read or login, body included. Default: 20 s.
	Timeout time.Duration
	// Log receives one debug line per call, without tokens. The zero value discards.
	Log zerolog.Logger
}

// A Client talks to one project of one cloud. It is safe for concurrent use.
type Client struct {
	name, project string
	flavour       Flavour
	backups       string // base URLs, ending in "/"
	volumes       string
	keys          *keyring
	transport     http.RoundTripper // from Options, may be nil
	reads         http.RoundTripper
	tls           func() *tls.Config // a function, as it may hold a private key
	proxy         func(*http.Request) (*url.URL, error)
	timeout       time.Duration
	maxPages      int
	log           zerolog.Logger
}

// Open logs in and finds the endpoints. The error is an [Error]: of Keystone,
// or about a catalog that lacks what we need.
func Open(ctx context.Context, cloud Cloud, o Options) (*Client, error) {
	op := "open cloud " + cloud.name
	if cloud.load == nil {
		return nil, failed(op, "it was not loaded")
	}
	c, err := newClient(cloud, o)
	if err != nil {
		return nil, failed(op, "%w", err)
	}
	tok, e := c.keys.get(ctx)
	if e != nil {
		c.Close()
		under := *e
		under.Op = op + ": " + e.Op
		return nil, &under
	}
	c.project = tok.project
	if err := c.locate(tok, cloud, o); err != nil {
		c.Close()
		return nil, failed(op, "%w", err)
	}
	return c, nil
}

func newClient(cloud Cloud, o Options) (*Client, error) {
	set := cloud.load()
	c := &Client{
		name: cloud.name, flavour: o.Flavour, transport: o.Transport, reads: o.Transport,
		tls: func() *tls.Config { return set.tls }, proxy: o.Proxy, timeout: o.Timeout, maxPages: 5000, log: o.Log,
	}
	if c.flavour == "" {
		c.flavour = FlavourVBS
	}
	if c.flavour != FlavourVBS && c.flavour != FlavourCinder {
		return nil, errFlavour(c.flavour)
	}
	if c.timeout <= 0 {
		c.timeout = 20 * time.Second
	}
	if c.reads == nil {
		c.reads = forReads(set.tls, o.Proxy)
	}
	keys, err := newKeyring(set.auth, c.reads, c.timeout)
	if err != nil {
		return nil, err
	}
	keys.hidden = set.secrets
	c.keys = keys
	return c, nil
}

// locate fills in the base URLs.
func (c *Client) locate(tok *token, cloud Cloud, o Options) error {
	set, volumeTypes := cloud.load(), o.VolumeTypes
	if len(volumeTypes) == 0 {
		volumeTypes = []string{"block-storage", "volumev3", "volume", "volumev2"}
	}
	backupTypes := o.BackupTypes
	if len(backupTypes) == 0 && c.flavour == FlavourVBS {
		backupTypes = []string{"vbs", "vbsv3"}
	}
	if len(o.BackupTypes) == 0 {
		backupTypes = append(backupTypes, volumeTypes...)
	}
	find := func(override string, types []string) (string, error) {
		raw, err := override, error(nil)
		if raw == "" {
			raw, err = fromCatalog(tok.catalog, types, set.region, set.availability)
		}
		if err != nil {
			return "", err
		}
		return baseURL(raw, tok.project)
	}
	var err error
	if c.backups, err = find(o.BackupEndpoint, backupTypes); err != nil {
		return err
	}
	if c.volumes, err = find(o.VolumeEndpoint, volumeTypes); err != nil {
		return err
	}
	if c.flavour == FlavourVBS {
		c.backups += "native/"
	}
	return nil
}

// Name returns the cloud's name in clouds.yaml.
func (c *Client) Name() string { return c.name }

// ProjectID returns the project of the token; every URL is of this project.
func (c *Client) ProjectID() string { return c.project }

// Flavour returns the family of paths in use.
func (c *Client) Flavour() Flavour { return c.flavour }

// BackupURL returns the URL below which backups are, ending in "/", with
// "native/" for FlavourVBS.
func (c *Client) BackupURL() string { return c.backups }

// VolumeURL returns the URL below which volumes and messages are, ending in "/".
func (c *Client) VolumeURL() string { return c.volumes }

// String names the cloud and the project.
func (c *Client) String() string { return "cloud " + c.name + ", project " + c.project }

// Close gives idle connections back. The client remains usable.
func (c *Client) Close() {
	if t, ok := c.reads.(*http.Transport); ok && c.transport == nil {
		t.CloseIdleConnections()
	}
}

// Ping asks for one backup, to see whether endpoint and credentials work.
func (c *Client) Ping(ctx context.Context) error {
	var page struct {
		Backups *[]struct{} `json:"backups"`
	}
	what := call{op: "ping cloud " + c.name, url: c.backups + "backups?limit=1", limit: maxSingle}
	a, e := c.get(ctx, what, &page)
	if e != nil {
		return e
	}
	if page.Backups == nil {
		return unreadable(what.op, a, errNoList("backups"))
	}
	return nil
}
