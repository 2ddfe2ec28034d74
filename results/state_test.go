package results_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vbsrestore/vbsrestore/results"
)

// allowed is the state table of the design, written down a second time. A
// person's arrows begin with "!".
const allowed = `
waiting:   queued posting preparing failed cancelled restoring in_doubt
queued:    posting preparing waiting failed cancelled restoring in_doubt
preparing: waiting failed in_doubt
posting:   restoring verifying succeeded waiting failed in_doubt
restoring: verifying succeeded failed in_doubt
verifying: succeeded failed
succeeded:
failed:    !waiting
cancelled: !waiting
in_doubt:  restoring verifying succeeded failed !waiting
`

type arrow struct{ from, to results.State }

// table returns the arrows of allowed: true for those that need a person.
func table() map[arrow]bool {
	out := map[arrow]bool{}
	for line := range strings.Lines(strings.TrimSpace(allowed)) {
		from, list, _ := strings.Cut(line, ":")
		for _, to := range strings.Fields(list) {
			state, person := strings.CutPrefix(to, "!")
			out[arrow{results.State(from), results.State(state)}] = person
		}
	}
	return out
}

func TestArrowsAreTheTable(t *testing.T) {
	got := map[arrow]bool{}
	for _, from := range results.States {
		always, person := results.Arrows(from)
		for _, to := range always {
			got[arrow{from, to}] = false
		}
		for _, to := range person {
			got[arrow{from, to}] = true
		}
	}
	diff(t, "arrows", table(), got)
}

func TestArrowsReturnsACopy(t *testing.T) {
	always, person := results.Arrows(results.InDoubt)
	always[0], person[0] = "spoiled", "spoiled"
	again, personAgain := results.Arrows(results.InDoubt)
	if again[0] == "spoiled" || personAgain[0] == "spoiled" {
		t.Error("a caller can change the state table")
	}
}

func TestFinalStatesHaveNoArrowWithoutAPerson(t *testing.T) {
	for _, st := range results.States {
		always, _ := results.Arrows(st)
		if st.Final() != (len(always) == 0) {
			t.Errorf("%s: final %t, but leads to %v", st, st.Final(), always)
		}
	}
}

func TestSchemaListsTheStates(t *testing.T) {
	found := regexp.MustCompile(`CHECK \(state IN \(([^)]*)\)`).FindStringSubmatch(results.Schema())
	if found == nil {
		t.Fatal("no CHECK of the state in the schema")
	}
	var inSQL []string
	for _, word := range strings.Split(found[1], ",") {
		inSQL = append(inSQL, strings.Trim(word, "' "))
	}
	var inGo []string
	for _, st := range results.States {
		inGo = append(inGo, string(st))
	}
	slices.Sort(inSQL)
	slices.Sort(inGo)
	diff(t, "states", inGo, inSQL)
}

// Every pair of states, by a worker and by a person, is moved along or refused
// as the table says.
func TestEveryArrow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		n := 0
		for _, from := range results.States {
			for _, to := range results.States {
				for _, person := range []bool{false, true} {
					if n++; from != to {
						tryArrow(t, s, n, arrow{from, to}, person)
					}
				}
			}
		}
	})
}

func tryArrow(t *testing.T, s *results.Store, n int, a arrow, person bool) {
	t.Helper()
	must(t)(s.Resume(t.Context(), cloud, "test", "so many doubts pause it"))
	before := recordIn(t, s, request(n), a.from)
	m := step(before, a.to)
	m.Person, m.Reason = person, "test"
	after, err := s.Move(t.Context(), m)
	needsPerson, known := table()[a]
	if known && (person || !needsPerson) {
		if err != nil || after.State != a.to || get(t, s, before.ID).State != a.to {
			t.Errorf("%s → %s, person %t: %v", a.from, a.to, person, err)
		}
		return
	}
	var refused *results.ArrowError
	if !errors.As(err, &refused) || refused.From != a.from || refused.To != a.to {
		t.Errorf("%s → %s, person %t: %v; want an ArrowError", a.from, a.to, person, err)
	}
	diff(t, "a refused row", before, get(t, s, before.ID), sameRow)
}
