package vbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// defaultPage is Cinder's own maximum (osapi_max_limit).
const defaultPage = 1000

// A VolumeQuery selects volumes; empty fields select all.
type VolumeQuery struct {
	Status, Name string
	Limit        int // page size; default 1000
}

// A BackupQuery selects backups; empty fields select all.
type BackupQuery struct {
	VolumeID, Status, Name string
	Limit                  int // page size; default 1000
}

// Volumes returns all volumes of the query, in the cloud's order.
func (c *Client) Volumes(ctx context.Context, q VolumeQuery) ([]Volume, error) {
	return collect(c.EachVolume(ctx, q), func(v Volume) string { return v.ID })
}

// Backups returns all backups of the query, in the cloud's order.
func (c *Client) Backups(ctx context.Context, q BackupQuery) ([]Backup, error) {
	return collect(c.EachBackup(ctx, q), func(b Backup) string { return b.ID })
}

// EachVolume yields the volumes page by page, for inventories too large for
// memory. An error is yielded last, with an empty volume: what came before it
// is true, but not everything. What changes meanwhile may be missed or seen twice.
func (c *Client) EachVolume(ctx context.Context, q VolumeQuery) iter.Seq2[Volume, error] {
	values := query("status", q.Status, "name", q.Name)
	keep := func(v Volume) bool {
		return (q.Status == "" || v.Status == q.Status) && (q.Name == "" || v.Name == q.Name)
	}
	l := listing[volumeJSON, Volume]{c, "volumes", c.volumes + "volumes/detail", values, q.Limit, volumeJSON.value, keep}
	return l.each(ctx)
}

// EachBackup is EachVolume for backups.
func (c *Client) EachBackup(ctx context.Context, q BackupQuery) iter.Seq2[Backup, error] {
	values := query("volume_id", q.VolumeID, "status", q.Status, "name", q.Name)
	keep := func(b Backup) bool {
		return (q.Status == "" || b.Status == q.Status) && (q.Name == "" || b.Name == q.Name) &&
			(q.VolumeID == "" || b.VolumeID == q.VolumeID)
	}
	l := listing[backupJSON, Backup]{c, "backups", c.backups + "backups/detail", values, q.Limit, backupJSON.value, keep}
	return l.each(ctx)
}

func query(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}

func collect[V any](all iter.Seq2[V, error], id func(V) string) ([]V, error) {
	var out []V
	seen := map[string]bool{}
	for v, err := range all {
		if err != nil {
			return nil, err
		}
		if !seen[id(v)] {
			seen[id(v)] = true
			out = append(out, v)
		}
	}
	return out, nil
}

// listing reads pages by marker. It never follows the cloud's links: those of
// VBS name an internal host and another API version.
type listing[J interface{ id() string }, V any] struct {
	c      *Client
	key    string // "volumes" or "backups": name of the list in the answer
	url    string
	query  url.Values
	limit  int
	value  func(J, time.Time) V
	wanted func(V) bool // the query again: some gateways ignore filters they do not know
}

func (l listing[J, V]) each(ctx context.Context) iter.Seq2[V, error] {
	if l.limit <= 0 {
		l.limit = defaultPage
	}
	return func(yield func(V, error) bool) {
		var none V
		marker, used := "", map[string]bool{}
		for range l.c.maxPages {
			items, at, more, e := l.page(ctx, marker)
			if e != nil {
				yield(none, e)
				return
			}
			for _, j := range items {
				if v := l.value(j, at); l.wanted(v) && !yield(v, nil) {
					return
				}
			}
			if !more {
				return
			}
			marker = items[len(items)-1].id()
			if used[marker] {
				yield(none, failed(l.op(), "the cloud sends the same page again after marker %s", oneLine(marker, maxID)))
				return
			}
			used[marker] = true
		}
		yield(none, failed(l.op(), "there is no end after %d pages", l.c.maxPages))
	}
}

func (l listing[J, V]) op() string { return "list " + l.key }

// page reads one page and tells whether another must be asked for: the cloud
// may say so with a link, or the page is as long as was asked for.
func (l listing[J, V]) page(ctx context.Context, marker string) ([]J, time.Time, bool, *Error) {
	l.query.Set("limit", strconv.Itoa(l.limit))
	l.query.Del("marker")
	if marker != "" {
		l.query.Set("marker", marker)
	}
	var body map[string]json.RawMessage
	a, e := l.c.get(ctx, call{op: l.op(), url: l.url + "?" + l.query.Encode(), limit: maxListing}, &body)
	if e != nil {
		return nil, time.Time{}, false, l.markerLost(e, marker)
	}
	var items []J
	if raw, ok := body[l.key]; !ok || json.Unmarshal(raw, &items) != nil {
		return nil, time.Time{}, false, unreadable(l.op(), a, errNoList(l.key))
	}
	for _, j := range items {
		if j.id() == "" {
			return nil, time.Time{}, false, unreadable(l.op(), a, errors.New("an entry has no id"))
		}
	}
	more := len(items) > 0 && (len(items) >= l.limit || hasNext(body[l.key+"_links"]))
	return items, dateOf(a.header), more, nil
}

// markerLost keeps a 404 about a marker, deleted between two pages, from
// looking like the statement that something asked for is gone.
func (l listing[J, V]) markerLost(e *Error, marker string) *Error {
	if marker == "" || e.Status != 404 {
		return e
	}
	return &Error{Op: l.op(), Status: e.Status, Answerer: e.Answerer, Executed: ExecutedNo,
		RequestID: e.RequestID, CloudTime: e.CloudTime, Message: "the list changed while it was read: " + e.Message}
}

func hasNext(raw json.RawMessage) bool {
	var links []struct {
		Rel string `json:"rel"`
	}
	if json.Unmarshal(raw, &links) != nil {
		return false
	}
	for _, link := range links {
		if link.Rel == "next" {
			return true
		}
	}
	return false
}

func errNoList(key string) error { return fmt.Errorf("the answer holds no list of %s", key) }

func errFlavour(f Flavour) error {
	return fmt.Errorf("flavour %q is unknown (known: %s, %s)", string(f), FlavourVBS, FlavourCinder)
}
