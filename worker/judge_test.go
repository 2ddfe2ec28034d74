package worker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vbsrestore/vbsrestore/worker"
)

// A tableRow is one row of the two tables of the watcher's judgement, as they
// are written down: what volume and backup show, in words, and the verdict.
// The first row that fits decides.
type tableRow struct {
	volume, backup string
	when           string // more conditions; "" = none
	verdict        worker.Verdict
}

// acceptedTable is table A: our own 202, or once seen running.
var acceptedTable = []tableRow{
	{"restoring-backup", "any", "", worker.Running},
	{"not found once", "any", "", worker.KeepWatching}, // gone means twice
	{"unmoved", "any", "", worker.KeepWatching},
	{"error, error_restoring", "any", "", worker.Broken},
	{"deleting, gone", "any", "", worker.Vanished},
	{"other, moved", "not found once", "", worker.KeepWatching},
	{"other, moved", "unmoved", "", worker.KeepWatching},
	{"other, moved", "restoring", "at most 60 s after the volume's time", worker.KeepWatching},
	{"other, moved", "restoring", "", worker.Doubtful},
	{"other, moved", "any", "messages unread", worker.AskMessages},
	{"other, moved", "any", "our failure in messages", worker.Broken},
	{"other, moved", "available", "0 to 60 s after the volume", worker.Restored},
	{"other, moved", "any", "", worker.RestoredWeak},
}

// unknownTable is table B: no 202, never seen running.
var unknownTable = []tableRow{
	{"not found once", "any", "", worker.KeepWatching},
	{"restoring-backup, moved", "restoring, moved", "", worker.Adopt},
	{"restoring-backup, moved", "moved", "", worker.KeepWatching},
	{"restoring-backup, moved", "unmoved", "late enough", worker.NotExecuted},
	{"error*, moved", "unmoved", "late enough", worker.NotExecuted},
	{"restoring-backup, moved", "unmoved", "", worker.KeepWatching},
	{"error*, moved", "unmoved", "", worker.KeepWatching},
	{"unmoved", "restoring", "cinder answered and settle passed", worker.NotExecuted},
	{"unmoved", "restoring", "past watch deadline", worker.Doubtful},
	{"unmoved", "restoring", "", worker.KeepWatching},
	{"unmoved", "not found once", "", worker.KeepWatching},
	{"unmoved", "any", "late enough", worker.NotExecuted},
	{"unmoved", "any", "", worker.KeepWatching},
	{"other, moved", "unmoved", "late enough", worker.NotExecuted},
	{"other, moved", "unmoved", "", worker.KeepWatching},
	{"other, moved", "restoring", "at most 60 s after the volume's time", worker.KeepWatching},
	{"other, moved", "restoring", "", worker.Doubtful},
	{"other, moved", "available, moved", "siblings unread", worker.AskSiblings},
	{"other, moved", "available, moved", "another explanation", worker.Doubtful},
	{"other, moved", "available, moved", "0 to 60 s after the volume", worker.RestoredWeak},
	{"other, moved", "available, moved", "", worker.Doubtful}, // our difference: no restore ends like that
	{"other, moved", "not found once", "", worker.KeepWatching},
	{"other, moved", "gone, error, deleting", "", worker.Doubtful},
	{"other, moved", "any", "", worker.Doubtful}, // no backup becomes creating again; if one does, nobody knows
	{"error*, moved", "moved", "", worker.Broken},
	{"deleting, gone", "any", "", worker.Vanished},
}

// knownDifferences are where Judge is meant to be more careful than the tables,
// in the order in which they apply.
var knownDifferences = []struct {
	words   string
	when    func(worker.Evidence, worker.Verdict) bool
	verdict worker.Verdict
}{
	{"accepted, never seen running, settle not over, and the two ends more than 2 s apart: a front end may still hold the POST",
		func(e worker.Evidence, v worker.Verdict) bool {
			end := v == worker.AskMessages || v == worker.Restored || v == worker.RestoredWeak || v == worker.Broken && !failedWord(e.Volume.Status)
			return end && e.Accepted && !e.Seen && !e.Settled && (e.Lag < 0 || e.Lag > 2*time.Second)
		}, worker.KeepWatching},
	{"no 202, and the backup was not found, but only once: nothing final is said before the second look",
		func(e worker.Evidence, _ worker.Verdict) bool { return !e.Accepted && e.Backup.Gone == worker.GoneOnce },
		worker.KeepWatching},
	{"past twice the watch deadline nothing stays open",
		func(e worker.Evidence, v worker.Verdict) bool {
			return e.PastTwice && (v == worker.Running || v == worker.KeepWatching || v == worker.Adopt)
		}, worker.Doubtful},
}

func failedWord(status string) bool { return status == "error" || status == "error_restoring" }

// error* is read as the two errors that a restore leaves behind: error_extending
// tells of another operation and is judged like any other status.
var volumeWords = map[string]func(worker.Look) bool{
	"restoring-backup":        func(l worker.Look) bool { return l.Status == "restoring-backup" },
	"restoring-backup, moved": func(l worker.Look) bool { return l.Status == "restoring-backup" && l.Moved },
	"not found once":          func(l worker.Look) bool { return l.Gone == worker.GoneOnce },
	"unmoved":                 func(l worker.Look) bool { return !l.Moved && l.Gone == worker.Present },
	"error, error_restoring":  func(l worker.Look) bool { return failedWord(l.Status) },
	"error*, moved":           func(l worker.Look) bool { return failedWord(l.Status) && l.Moved },
	"deleting, gone":          func(l worker.Look) bool { return l.Status == "deleting" || l.Gone == worker.GoneSure },
	"other, moved": func(l worker.Look) bool {
		named := l.Status == "restoring-backup" || failedWord(l.Status) || l.Status == "deleting"
		return l.Moved && l.Gone == worker.Present && !named
	},
}

var backupWords = map[string]func(worker.Look) bool{
	"any":              func(worker.Look) bool { return true },
	"restoring":        func(l worker.Look) bool { return l.Status == "restoring" },
	"restoring, moved": func(l worker.Look) bool { return l.Status == "restoring" && l.Moved },
	"moved":            func(l worker.Look) bool { return l.Moved || l.Gone != worker.Present },
	"unmoved":          func(l worker.Look) bool { return !l.Moved && l.Gone == worker.Present },
	"not found once":   func(l worker.Look) bool { return l.Gone == worker.GoneOnce },
	"available":        func(l worker.Look) bool { return l.Status == "available" },
	"available, moved": func(l worker.Look) bool { return l.Status == "available" && l.Moved },
	"gone, error, deleting": func(l worker.Look) bool {
		return l.Gone == worker.GoneSure || l.Status == "error" || l.Status == "deleting"
	},
}

var conditions = map[string]func(*worker.Evidence) bool{
	"":                                     func(*worker.Evidence) bool { return true },
	"at most 60 s after the volume's time": func(e *worker.Evidence) bool { return e.VolumeAge <= time.Minute },
	"0 to 60 s after the volume":           func(e *worker.Evidence) bool { return e.Lag >= 0 && e.Lag <= time.Minute },
	"messages unread":                      func(e *worker.Evidence) bool { return e.Messages == worker.Unread },
	"our failure in messages":              func(e *worker.Evidence) bool { return e.Messages == worker.Found },
	"siblings unread":                      func(e *worker.Evidence) bool { return e.Siblings == worker.Unread },
	"another explanation":                  func(e *worker.Evidence) bool { return e.Siblings == worker.Found },
	"late enough":                          func(e *worker.Evidence) bool { return e.LateEnough },
	"past watch deadline":                  func(e *worker.Evidence) bool { return e.PastDeadline },
	"cinder answered and settle passed":    func(e *worker.Evidence) bool { return e.CinderEnded && e.Settled },
}

// looks gives every look of these words, moved and unmoved, and the two of
// something that is not there. What is not there has moved.
func looks(words ...string) []worker.Look {
	out := []worker.Look{{Moved: true, Gone: worker.GoneOnce}, {Moved: true, Gone: worker.GoneSure}}
	for _, word := range words {
		out = append(out, worker.Look{Status: word}, worker.Look{Status: word, Moved: true})
	}
	return out
}

var (
	allVolumes = looks("available", "restoring-backup", "error", "error_restoring", "deleting", "in-use", "error_extending", "no such word")
	allBackups = looks("available", "restoring", "error", "deleting", "creating")
	allLags    = []time.Duration{-time.Second, 0, 2 * time.Second, 3 * time.Second, time.Minute, time.Minute + 1}
	allAges    = []time.Duration{time.Minute, time.Minute + 1}
	findings   = []worker.Finding{worker.Unread, worker.Clean, worker.Found}
)

// eachEvidence calls f with the whole product of one volume and one backup.
func eachEvidence(v, b worker.Look, f func(worker.Evidence)) {
	for bits := range 1 << 7 {
		bit := func(n int) bool { return bits>>n&1 == 1 }
		e := worker.Evidence{Accepted: bit(0), Seen: bit(1), Volume: v, Backup: b, LateEnough: bit(2), CinderEnded: bit(3),
			Settled: bit(4), PastDeadline: bit(5), PastTwice: bit(6)}
		if e.Seen && !e.Accepted {
			continue // seen running is accepted, by definition
		}
		for _, e.Lag = range allLags {
			for _, e.VolumeAge = range allAges {
				for _, e.Messages = range findings {
					for _, e.Siblings = range findings {
						f(e)
					}
				}
			}
		}
	}
}

func eachLook(f func(v, b worker.Look)) {
	for _, v := range allVolumes {
		for _, b := range allBackups {
			f(v, b)
		}
	}
}

// A fitting row is one whose volume and backup fit; its condition is left.
type fitting struct {
	*tableRow
	when func(*worker.Evidence) bool
}

func fittingRows(t *testing.T, table []tableRow, v, b worker.Look) (out []fitting) {
	for i, row := range table {
		volume, backup, when := volumeWords[row.volume], backupWords[row.backup], conditions[row.when]
		if volume == nil || backup == nil || when == nil {
			t.Fatalf("row %+v has words without meaning", row)
		}
		if volume(v) && backup(b) {
			out = append(out, fitting{&table[i], when})
		}
	}
	return out
}

// TestJudgeAgreesWithTheTables holds Judge against both tables, over all inputs.
func TestJudgeAgreesWithTheTables(t *testing.T) {
	t.Parallel()
	used, differed, wrong := map[*tableRow]int{}, map[string]int{}, map[string]int{}
	eachLook(func(v, b worker.Look) {
		rowsA, rowsB := fittingRows(t, acceptedTable, v, b), fittingRows(t, unknownTable, v, b)
		eachEvidence(v, b, func(e worker.Evidence) {
			rows := rowsB
			if e.Accepted {
				rows = rowsA
			}
			i := slices.IndexFunc(rows, func(r fitting) bool { return r.when(&e) })
			if i < 0 {
				t.Fatalf("no row of the tables fits %+v", e)
			}
			used[rows[i].tableRow]++
			want := rows[i].verdict
			for _, d := range knownDifferences {
				if d.when(e, want) && d.verdict != want {
					want = d.verdict
					differed[d.words]++
				}
			}
			if got := worker.Judge(e); got != want {
				what := fmt.Sprintf("row %+v: got %q, want %q", *rows[i].tableRow, got, want)
				if wrong[what]++; wrong[what] == 1 && len(wrong) <= 20 {
					t.Errorf("%s; for example %+v", what, e)
				}
			}
		})
	})
	for what, n := range wrong {
		t.Logf("%d times %s", n, what)
	}
	for _, table := range [][]tableRow{acceptedTable, unknownTable} {
		for i := range table {
			if used[&table[i]] == 0 {
				t.Errorf("row %+v never decides", table[i])
			}
		}
	}
	for _, d := range knownDifferences {
		if differed[d.words] == 0 {
			t.Errorf("difference %q never matters", d.words)
		}
	}
}

// judgePromises must hold for every input, whatever the tables say: they are
// what keeps a restore from being done twice or reported wrongly.
var judgePromises = []struct {
	words  string
	broken func(e worker.Evidence, v worker.Verdict) bool
}{
	{"not executed: never after a 202 or once seen running", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.NotExecuted && e.Accepted
	}},
	{"not executed: only when late enough, or Cinder's thread has ended and settle passed", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.NotExecuted && !e.LateEnough && !(e.CinderEnded && e.Settled)
	}},
	{"not executed: never when volume and backup both moved", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.NotExecuted && e.Volume.Moved && e.Backup.Moved
	}},
	{"not executed: never when something was not found only once", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.NotExecuted && (e.Volume.Gone == worker.GoneOnce || e.Backup.Gone == worker.GoneOnce)
	}},
	{"restored: only when the volume moved and is at rest", func(e worker.Evidence, v worker.Verdict) bool {
		busy := e.Volume.Status == "restoring-backup" || failedWord(e.Volume.Status) || e.Volume.Status == "deleting"
		return isRestored(v) && (!e.Volume.Moved || e.Volume.Gone != worker.Present || busy)
	}},
	{"restored: only when the backup moved away from restoring, or is surely gone", func(e worker.Evidence, v worker.Verdict) bool {
		return isRestored(v) && (!e.Backup.Moved || e.Backup.Status == "restoring" || e.Backup.Gone == worker.GoneOnce)
	}},
	{"restored: never against the messages, never before they were read after a 202", func(e worker.Evidence, v worker.Verdict) bool {
		return isRestored(v) && e.Accepted && e.Messages != worker.Clean
	}},
	{"restored with full proof: only after a 202 or seen running, with an available backup", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.Restored && (!e.Accepted || e.Backup.Status != "available" || e.Lag < 0 || e.Lag > time.Minute)
	}},
	{"restored without a 202: only when nothing else explains it", func(e worker.Evidence, v worker.Verdict) bool {
		return isRestored(v) && !e.Accepted && e.Siblings != worker.Clean
	}},
	{"failed: only when the volume says so, or the messages do", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.Broken && !(failedWord(e.Volume.Status) && e.Volume.Moved) && e.Messages != worker.Found
	}},
	{"failed without a 202: only when the backup moved, too", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.Broken && !e.Accepted && !e.Backup.Moved
	}},
	{"deleted: only when it is, or surely gone", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.Vanished && e.Volume.Gone != worker.GoneSure && e.Volume.Status != "deleting"
	}},
	{"adopted: only when both of them show a restore that was not there before", func(e worker.Evidence, v worker.Verdict) bool {
		both := e.Volume.Status == "restoring-backup" && e.Volume.Moved && e.Backup.Status == "restoring" && e.Backup.Moved
		return v == worker.Adopt && !both
	}},
	{"a question is asked only while it is unanswered", func(e worker.Evidence, v worker.Verdict) bool {
		return v == worker.AskMessages && e.Messages != worker.Unread || v == worker.AskSiblings && e.Siblings != worker.Unread
	}},
	{"past twice the deadline nothing stays open", func(e worker.Evidence, v worker.Verdict) bool {
		return e.PastTwice && (v == worker.Running || v == worker.KeepWatching || v == worker.Adopt)
	}},
	{"a running restore is never taken for ended", func(e worker.Evidence, v worker.Verdict) bool {
		open := v == worker.Running || v == worker.Adopt || v == worker.KeepWatching || v == worker.Doubtful
		return e.Volume.Status == "restoring-backup" && e.Volume.Moved && e.Backup.Moved && !open
	}},
}

func isRestored(v worker.Verdict) bool { return v == worker.Restored || v == worker.RestoredWeak }

func TestJudgeKeepsItsPromises(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	eachLook(func(v, b worker.Look) {
		eachEvidence(v, b, func(e worker.Evidence) {
			got := worker.Judge(e)
			for _, p := range judgePromises {
				if p.broken(e, got) && !broken[p.words] {
					broken[p.words] = true
					t.Errorf("%s: broken by %q for %+v", p.words, got, e)
				}
			}
		})
	})
}

// TestMoreTimeOnlyEndsWaiting: passing time may turn an open verdict into a
// conclusion, but never one conclusion into another.
func TestMoreTimeOnlyEndsWaiting(t *testing.T) {
	t.Parallel()
	clocks := map[string]func(*worker.Evidence){
		"late enough":   func(e *worker.Evidence) { e.LateEnough = true },
		"settled":       func(e *worker.Evidence) { e.Settled = true },
		"past deadline": func(e *worker.Evidence) { e.PastDeadline = true },
		"past twice":    func(e *worker.Evidence) { e.PastTwice = true },
		"volume older":  func(e *worker.Evidence) { e.VolumeAge = 2 * time.Minute },
	}
	open := []worker.Verdict{worker.KeepWatching, worker.Running, worker.Adopt, worker.Doubtful}
	eachLook(func(v, b worker.Look) {
		eachEvidence(v, b, func(e worker.Evidence) {
			before := worker.Judge(e)
			if slices.Contains(open, before) {
				return
			}
			for clock, turn := range clocks {
				later := e
				if turn(&later); worker.Judge(later) != before {
					t.Fatalf("%s turned %q into %q for %+v", clock, before, worker.Judge(later), e)
				}
			}
		})
	})
}
