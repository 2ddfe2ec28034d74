package results_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vbsrestore/vbsrestore/results"
)

func TestMoveIsACompareAndSet(t *testing.T) {
	for name, spoil := range map[string]func(*results.Move){
		"state":   func(m *results.Move) { m.From = []results.State{results.Queued, results.Restoring} },
		"attempt": func(m *results.Move) { m.Attempt++ },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				row := recordIn(t, s, request(1), results.Posting)
				events := story(t, s, row.ID)
				m := step(row, results.Restoring)
				m.Effect = results.Effect{Pause: "must not happen"}
				spoil(&m)
				if _, err := s.Move(t.Context(), m); !errors.Is(err, results.ErrMoved) {
					t.Errorf("Move = %v; want ErrMoved", err)
				}
				diff(t, "the row", row, get(t, s, row.ID), sameRow)
				diff(t, "the story", events, story(t, s, row.ID))
				if getCloud(t, s).Paused() {
					t.Error("the effect of a refused move came through")
				}
			})
		})
	}
}

func TestMoveUnknownRow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		if _, err := s.Move(t.Context(), results.Move{ID: restoreID(1)}); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("Move = %v; want ErrNotFound", err)
		}
	})
}

func TestMoveAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		before := recordIn(t, s, request(1), results.Posting)
		time.Sleep(time.Second)
		m := step(before, results.Restoring)
		m.Kind, m.Reason, m.Outcome, m.Accepted, m.WatchDeadline = "accepted", "the cloud has it", "accepted", true, s.Now().Add(time.Hour)
		m.Answer = &results.Answer{Status: 202, RequestID: "req-cloud", Answerer: "cinder", Executed: "yes", RetryAfter: 3 * time.Second}
		m.Seen = &results.Sighting{VolumeName: "renamed", VolumeGiB: 40, VolumeUpdated: s.Now().Add(-time.Minute), BackupUpdated: s.Now().Add(-time.Hour), At: s.Now()}
		row := move(t, s, m)
		want := before
		want.State, want.StateSince, want.UpdatedAt, want.Reason = results.Restoring, s.Now(), s.Now(), m.Reason
		want.Accepted, want.AcceptedAt, want.SettledAt, want.WatchDeadline = true, s.Now(), s.Now(), m.WatchDeadline
		want.VolumeName, want.VolumeGiB = "renamed", 40
		want.SeenVolume, want.SeenBackup, want.SeenAt = m.Seen.VolumeUpdated, m.Seen.BackupUpdated, s.Now()
		diff(t, "the returned row", want, row, sameRow)
		diff(t, "the stored row", want, get(t, s, row.ID), sameRow)
		attempts, err := s.Attempts(t.Context(), row.ID)
		if err != nil || len(attempts) != 1 {
			t.Fatal(attempts, err)
		}
		diff(t, "the answer", *m.Answer, attempts[0].Answer)
		if attempts[0].Outcome != "accepted" || !attempts[0].AnsweredAt.Equal(s.Now()) {
			t.Errorf("the attempt: %+v", attempts[0])
		}
		diff(t, "events", []string{"recorded", "posting", "accepted"}, kinds(story(t, s, row.ID)))
	})
}

func TestMoveBackToWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		for n := 1; n <= 2; n++ {
			row = claim(t, s, row)
			m := step(row, results.Waiting)
			m.Wait, m.Reason, m.NotBefore, m.Costs, m.Unproven, m.Outcome = results.WaitBackoff, "not executed", s.Now().Add(time.Minute), n == 1, true, "not executed"
			row = move(t, s, m)
			if row.Wait != results.WaitBackoff || !row.NotBefore.Equal(m.NotBefore) || row.Spent != 1 || row.Waits != 1 || !row.Unproven {
				t.Errorf("after attempt %d: %+v", n, row)
			}
			time.Sleep(time.Minute)
		}
		row = move(t, s, step(row, ""))                                      // no new state: one more wait
		if row.Waits != 2 || row.State != results.Waiting || !row.Unproven { // once unproven, always looked at again
			t.Errorf("%+v", row)
		}
		row = move(t, s, step(row, results.Failed))
		if row.Wait != "" || !row.NotBefore.IsZero() || !row.FinishedAt.Equal(s.Now()) {
			t.Errorf("a failed row still waits: %+v", row)
		}
	})
}

func TestMoveToTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.Restoring)
		m := step(row, results.Succeeded)
		m.Proof, m.Running, m.Outcome = results.ProofWeak, true, "restored"
		row = move(t, s, m)
		if row.Proof != results.ProofWeak || !row.SeenRunning || !row.FinishedAt.Equal(s.Now()) {
			t.Errorf("%+v", row)
		}
		failing := step(recordIn(t, s, request(2), results.Restoring), results.Failed)
		failing.FailClass, failing.Advice, failing.Overdue = "cloud", "look at the volume", true
		if row := move(t, s, failing); row.FailClass != "cloud" || row.Advice == "" || !row.Overdue || row.Proof != "" {
			t.Errorf("%+v", row)
		}
	})
}

func TestQuietMoveLeavesNoEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		m := step(recordIn(t, s, request(1), results.Restoring), "")
		m.Quiet, m.Overdue = true, true
		events := story(t, s, m.ID)
		if row := move(t, s, m); !row.Overdue {
			t.Errorf("%+v", row)
		}
		diff(t, "the story", events, story(t, s, m.ID))
	})
}

func TestReleasesCountSinceTheLastOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := record(t, s, request(1))
		for range 3 {
			time.Sleep(time.Minute)
			must(t)(s.Release(t.Context(), cloud, 10))
		}
		if row = get(t, s, row.ID); row.Releases != 3 || row.Generation != 3 {
			t.Fatalf("%d releases, generation %d; want 3, 3", row.Releases, row.Generation)
		}
		if row = move(t, s, step(row, results.Waiting)); row.Releases != 0 || row.Generation != 3 {
			t.Errorf("%d releases, generation %d; want 0, 3", row.Releases, row.Generation)
		}
	})
}

func lateAnswer(row results.Restore, status int, accepted bool) results.Move {
	return results.Move{ID: row.ID, From: []results.State{results.Posting}, Attempt: 1, To: results.Restoring, Kind: "accepted", Actor: "w1",
		Outcome: "accepted", Accepted: accepted, Answer: &results.Answer{Status: status, Message: "hello"}}
}

// A 202 that comes after its attempt was taken for not executed is believed: the
// cloud has the restore, it is not sent again. What was concluded stays told.
func TestALate202IsNotSentAgain(t *testing.T) {
	for _, state := range []results.State{results.Waiting, results.Queued} {
		t.Run(string(state), func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				m := step(recordIn(t, s, request(1), results.Posting), results.Waiting)
				m.Outcome, m.Unproven = "not executed", true
				row := move(t, s, m)
				if state == results.Queued {
					time.Sleep(time.Minute)
					must(t)(s.Release(t.Context(), cloud, 10))
				}
				late := lateAnswer(row, 202, true)
				late.WatchDeadline = s.Now().Add(time.Hour)
				row, err := s.Move(t.Context(), late)
				if err != nil || row.State != results.Restoring || !row.Accepted || !row.WatchDeadline.Equal(late.WatchDeadline) {
					t.Errorf("Move = %+v, %v; want restoring, accepted", row, err)
				}
				attempts, err := s.Attempts(t.Context(), row.ID)
				if err != nil || attempts[0].Answer.Status != 202 || attempts[0].Outcome != "not executed; answered late: accepted" {
					t.Errorf("attempts %+v, %v", attempts, err)
				}
			})
		})
	}
}

// An answer that comes after the attempt was judged is kept, and changes nothing else.
func TestLateAnswerIsKept(t *testing.T) {
	for _, state := range []results.State{results.Waiting, results.Failed, results.Succeeded, results.Restoring} {
		t.Run(string(state), func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				row := move(t, s, step(recordIn(t, s, request(1), results.Posting), state))
				if _, err := s.Move(t.Context(), lateAnswer(row, 500, false)); !errors.Is(err, results.ErrMoved) {
					t.Errorf("Move = %v; want ErrMoved", err)
				}
				diff(t, "the row", row, get(t, s, row.ID), sameRow)
				attempts, err := s.Attempts(t.Context(), row.ID)
				if err != nil || attempts[0].Answer.Status != 500 || attempts[0].Outcome != "answered late: accepted" {
					t.Errorf("attempts %+v, %v", attempts, err)
				}
				events := story(t, s, row.ID)
				if last := events[len(events)-1]; last.Kind != "late answer" || !strings.Contains(last.Reason, "500 hello") {
					t.Errorf("the last event: %+v", last)
				}
			})
		})
	}
}

// A late 202 is the cloud's word that it runs the restore.
func TestLate202IsBelieved(t *testing.T) {
	for _, state := range []results.State{results.Restoring, results.InDoubt} {
		t.Run(string(state), func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *results.Store) {
				row := move(t, s, step(recordIn(t, s, request(1), results.Posting), state))
				time.Sleep(time.Minute)
				got := move(t, s, lateAnswer(row, 202, true))
				if got.State != state || !got.Accepted || !got.AcceptedAt.Equal(s.Now()) {
					t.Errorf("%+v", got)
				}
				diff(t, "the stored row", got, get(t, s, row.ID), sameRow)
			})
		})
	}
}

func TestLate202OfAnotherAttemptIsNot(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := move(t, s, step(recordIn(t, s, request(1), results.Posting), results.Waiting))
		row = claim(t, s, row)
		row = move(t, s, step(row, results.InDoubt))
		if _, err := s.Move(t.Context(), lateAnswer(row, 202, true)); !errors.Is(err, results.ErrMoved) {
			t.Errorf("Move = %v; want ErrMoved", err)
		}
		got := get(t, s, row.ID)
		if !strings.Contains(got.Advice, "accepted attempt 1 after all") {
			t.Errorf("a person is told %q", got.Advice)
		}
		got.Advice = row.Advice
		diff(t, "the row", row, got, sameRow)
		attempts, err := s.Attempts(t.Context(), row.ID)
		if err != nil || attempts[0].Answer.Status != 202 || attempts[1].Answer.Status != 0 {
			t.Errorf("attempts %+v, %v", attempts, err)
		}
	})
}

func TestSecondAnswerDoesNotReplaceTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		m := step(recordIn(t, s, request(1), results.Posting), results.Restoring)
		m.Answer, m.Accepted = &results.Answer{Status: 202}, true
		row := move(t, s, m)
		if _, err := s.Move(t.Context(), lateAnswer(row, 500, false)); !errors.Is(err, results.ErrMoved) {
			t.Errorf("Move = %v; want ErrMoved", err)
		}
		attempts, err := s.Attempts(t.Context(), row.ID)
		if err != nil || attempts[0].Answer.Status != 202 {
			t.Errorf("attempts %+v, %v", attempts, err)
		}
	})
}

// A restore in doubt cannot come back while another one reads its backup.
func TestInDoubtStaysWhileTheBackupIsHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.InDoubt)
		other := recordIn(t, s, requestOf(2, 1, 2, ""), results.Restoring)
		if _, err := s.Move(t.Context(), step(row, results.Restoring)); !errors.Is(err, results.ErrMoved) {
			t.Errorf("Move = %v; want ErrMoved", err)
		}
		diff(t, "the row", row, get(t, s, row.ID), sameRow)
		move(t, s, step(other, results.Succeeded))
		move(t, s, step(row, results.Restoring))
	})
}

func TestFiveDoubtsPauseTheCloud(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		for n := range 4 {
			recordIn(t, s, request(n), results.InDoubt)
		}
		time.Sleep(30*time.Minute + time.Second)
		recordIn(t, s, request(4), results.InDoubt)
		if getCloud(t, s).Paused() {
			t.Fatal("one doubt within 30 minutes paused the cloud")
		}
		for n := 5; n < 9; n++ {
			recordIn(t, s, request(n), results.InDoubt)
		}
		c := getCloud(t, s)
		if c.PausedBy != "person" || !strings.Contains(c.Reason, "5 restores fell in doubt") || !c.PausedAt.Equal(s.Now()) {
			t.Errorf("%+v", c)
		}
		events, err := s.CloudEvents(t.Context(), cloud, 1)
		if err != nil || len(events) != 1 || events[0].Kind != "cloud paused" {
			t.Errorf("events %+v, %v", events, err)
		}
	})
}

func TestDoubtsKeepThePauseOfAPerson(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		var rows []results.Restore
		for n := range 6 {
			rows = append(rows, recordIn(t, s, request(n), results.Posting))
		}
		must(t)(s.Pause(t.Context(), cloud, "anna", "hands off"))
		before := getCloud(t, s)
		for _, row := range rows {
			move(t, s, step(row, results.InDoubt))
		}
		diff(t, "the cloud", before, getCloud(t, s), cmp.AllowUnexported(results.Cloud{}))
	})
}

func TestSaw(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		row := recordIn(t, s, request(1), results.Restoring)
		events := story(t, s, row.ID)
		gone := results.Sighting{VolumeGoneAt: s.Now(), BackupGoneAt: s.Now(), At: s.Now()}
		if err := s.Saw(t.Context(), row, gone, true); err != nil {
			t.Fatal(err)
		}
		kept := results.Sighting{KeepVolume: true, BackupUpdated: s.Now(), At: s.Now()}
		if err := s.Saw(t.Context(), row, kept, false); err != nil {
			t.Fatal(err)
		}
		got := get(t, s, row.ID)
		if !got.SeenRunning || got.VolumeGoneAt.IsZero() || !got.BackupGoneAt.IsZero() || got.SeenBackup.IsZero() || got.VolumeName != row.VolumeName {
			t.Errorf("%+v", got)
		}
		diff(t, "the story", events, story(t, s, row.ID))
		move(t, s, step(got, results.Succeeded))
		if err := s.Saw(t.Context(), row, gone, true); !errors.Is(err, results.ErrMoved) {
			t.Errorf("Saw of a moved row = %v; want ErrMoved", err)
		}
		row.ID = restoreID(9)
		if err := s.Saw(t.Context(), row, gone, true); !errors.Is(err, results.ErrNotFound) {
			t.Errorf("Saw of no row = %v; want ErrNotFound", err)
		}
	})
}

func TestWatched(t *testing.T) {
	inBubble(t, func(t *testing.T, s *results.Store) {
		var want []string
		for i, state := range results.States {
			row := recordIn(t, s, request(i), state)
			if state == results.Posting || state == results.Restoring || state == results.InDoubt {
				want = append(want, row.ID)
			}
			time.Sleep(time.Second)
		}
		watched, read, err := s.Watched(t.Context(), cloud)
		if err != nil || !read.Equal(s.Now()) {
			t.Fatal(read, err)
		}
		var got []string
		for _, w := range watched {
			got = append(got, w.ID)
			diff(t, "the row", get(t, s, w.ID), w.Restore, sameRow)
			attempts, err := s.Attempts(t.Context(), w.ID)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "the last attempt", attempts[len(attempts)-1], w.Last)
		}
		diff(t, "watched", want, got)
	})
}
