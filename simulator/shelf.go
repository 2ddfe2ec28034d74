package simulator

import (
	"slices"
	"strings"
	"time"
)

// A key is the place of a row in listings: by created_at, then by id.
type key struct {
	created time.Time
	id      string
}

func (k key) compare(other key) int {
	if n := k.created.Compare(other.created); n != 0 {
		return n
	}
	return strings.Compare(k.id, other.id)
}

// A group is a filter value with an index of its own.
type group struct {
	by    byte
	value string
}

const (
	byStatus byte = iota + 1
	byName
	byVolume
)

// statusGroup leaves out "available": nearly all rows are, so a filter for it
// reads the whole listing and stops at its limit.
func statusGroup(status string) group {
	if status == "available" {
		return group{}
	}
	return group{byStatus, status}
}

// row is what a shelf holds.
type row interface {
	key() key
	groups() [3]group
}

// rows are sorted, oldest first.
type rows[R row] []R

func (l rows[R]) find(k key) (int, bool) {
	if n := len(l); n == 0 || l[n-1].key().compare(k) < 0 {
		return n, false // nearly every insertion is of the newest
	}
	return slices.BinarySearchFunc(l, k, func(r R, k key) int { return r.key().compare(k) })
}

func (l rows[R]) with(r R) rows[R] {
	i, _ := l.find(r.key())
	return slices.Insert(l, i, r)
}

func (l rows[R]) without(r R) rows[R] {
	i, found := l.find(r.key())
	if !found {
		return l
	}
	return slices.Delete(l, i, i+1)
}

// A shelf holds the rows of one kind with their indexes.
type shelf[R row] struct {
	byID   map[string]R
	all    rows[R]
	groups map[group]rows[R]
}

func newShelf[R row]() shelf[R] {
	return shelf[R]{byID: map[string]R{}, groups: map[group]rows[R]{}}
}

// put adds a row, in place of one with the same id.
func (s *shelf[R]) put(r R) {
	if old, ok := s.byID[r.key().id]; ok {
		s.drop(old)
	}
	s.byID[r.key().id] = r
	s.all = s.all.with(r)
	s.index(r)
}

func (s *shelf[R]) drop(r R) {
	delete(s.byID, r.key().id)
	s.all = s.all.without(r)
	s.unindex(r)
}

// change runs a mutation that may move the row between groups. Its key stays.
func (s *shelf[R]) change(r R, mutate func()) {
	before := r.groups()
	mutate()
	after := r.groups()
	for i := range before {
		if before[i] != after[i] {
			s.leave(before[i], r)
			s.join(after[i], r)
		}
	}
}

func (s *shelf[R]) index(r R) {
	for _, g := range r.groups() {
		s.join(g, r)
	}
}

func (s *shelf[R]) unindex(r R) {
	for _, g := range r.groups() {
		s.leave(g, r)
	}
}

func (s *shelf[R]) join(g group, r R) {
	if g.by != 0 {
		s.groups[g] = s.groups[g].with(r)
	}
}

func (s *shelf[R]) leave(g group, r R) {
	if g.by == 0 {
		return
	}
	if left := s.groups[g].without(r); len(left) > 0 {
		s.groups[g] = left
	} else {
		delete(s.groups, g)
	}
}

// candidates is the shortest list that holds every row of the given groups.
func (s *shelf[R]) candidates(groups ...group) rows[R] {
	best := s.all
	for _, g := range groups {
		if g.by != 0 && len(s.groups[g]) < len(best) {
			best = s.groups[g]
		}
	}
	return best
}
