package simulator

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// page is which part of a listing is wanted.
type page struct {
	limit, offset int
	marker        string
	by            string
	ascending     bool
}

// maxLimit is Cinder's osapi_max_limit.
const maxLimit = 1000

// parsePage reads limit, offset, marker and sort.
func parsePage(q url.Values) (page, *refusal) {
	p := page{limit: maxLimit, marker: q.Get("marker"), by: "created_at"}
	if s := q.Get("limit"); s != "" {
		n, bad := parseCount("limit", s)
		if bad != nil {
			return p, bad
		}
		p.limit = min(n, maxLimit)
	}
	if s := q.Get("offset"); s != "" {
		n, bad := parseCount("offset", s)
		if bad != nil {
			return p, bad
		}
		p.offset = n
	}
	by, dir, _ := strings.Cut(q.Get("sort"), ":")
	if by != "" && (q.Has("sort_key") || q.Has("sort_dir")) {
		return p, refuse(400, "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	setDefault(&by, q.Get("sort_key"))
	setDefault(&dir, q.Get("sort_dir"))
	setDefault(&by, "created_at")
	p.by, p.ascending = by, dir == "asc"
	return p, nil
}

func parseCount(name, text string) (int, *refusal) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, refuse(400, "%s param must be an integer", name)
	case n < 0:
		return 0, refuse(400, "%s param must be positive", name)
	}
	return n, nil
}

func filter(by byte, value string) group {
	if value == "" {
		return group{}
	}
	if by == byStatus {
		return statusGroup(value)
	}
	return group{by, value}
}

// pick takes one page out of rows sorted by age. The common order, newest first,
// needs no sorting and stops at the limit.
func pick[R interface {
	row
	comparable
}](from rows[R], marker R, p page, wanted func(R) bool, compare func(R, R) int) ([]R, *refusal) {
	var none R
	if p.by == "created_at" && !p.ascending {
		end := len(from)
		if marker != none {
			end, _ = from.find(marker.key())
		}
		return take(newestFirst(from[:end]), p, wanted), nil
	}
	if compare == nil {
		return nil, refuse(400, "Invalid input received: Invalid sort key")
	}
	sorted := slices.Clone(from)
	slices.SortFunc(sorted, func(a, b R) int {
		n := cmp.Or(compare(a, b), a.key().compare(b.key()))
		if !p.ascending {
			n = -n
		}
		return n
	})
	if marker != none {
		sorted = sorted[slices.Index(sorted, marker)+1:]
	}
	return take(slices.Values(sorted), p, wanted), nil
}

func newestFirst[R row](l rows[R]) func(yield func(R) bool) {
	return func(yield func(R) bool) {
		for i := len(l) - 1; i >= 0 && yield(l[i]); i-- {
		}
	}
}

func take[R any](from func(yield func(R) bool), p page, wanted func(R) bool) []R {
	var out []R
	skip := p.offset
	if p.limit == 0 {
		return nil
	}
	for r := range from {
		if !wanted(r) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if out = append(out, r); len(out) == p.limit {
			break
		}
	}
	return out
}

// afterMarker cuts a list behind the element with that id.
func afterMarker[T any](l []T, marker string, id func(T) string) []T {
	i := slices.IndexFunc(l, func(t T) bool { return id(t) == marker })
	return l[i+1:]
}

// page answers a listing. The link to the next page is there whenever the page is
// full, also when nothing follows.
func (q *request) page(collection string, items []any, p page, last func() string) answer {
	out := map[string]any{collection: items}
	if len(items) > 0 && len(items) == p.limit {
		next := url.Values{}
		for k, v := range q.query {
			next[k] = v
		}
		next.Set("marker", last())
		tail := ""
		if q.detail() {
			tail = "/detail"
		}
		out[collection+"_links"] = []link{{"next", q.base + "/v3/" + q.cloud.cfg.ProjectID + "/" + collection + tail + "?" + next.Encode()}}
	}
	return q.ok(200, out)
}
