package enqueue

import (
	"errors"
	"fmt"
	"time"

	"github.com/vbsrestore/vbsrestore/tasks"
)

const (
	// maxProblems bounds the error about an invalid list.
	maxProblems = 20
	// maxHeader is the longest trace header we pass on; W3C asks for 512 bytes.
	maxHeader = 512
)

type outcome int8

const (
	unknown outcome = iota // Redis has not answered, or with an error
	added
	existed
)

// item is one message on its way, and what became of it.
type item struct {
	taskID, queue string
	payload       []byte
	headers       map[string]string
	outcome       outcome
}

func (it item) receipt(id string) Receipt {
	if it.outcome == unknown {
		return Receipt{ID: id}
	}
	return Receipt{ID: id, Queue: it.queue, Existed: it.outcome == existed}
}

// intake is a producer's message.
func intake(r tasks.Restore, payload []byte) item {
	return item{taskID: r.ID, queue: tasks.IntakeQueue(r.Cloud), payload: payload, headers: traceHeaders(r.Trace)}
}

func traceHeaders(trace map[string]string) map[string]string {
	var headers map[string]string
	for _, k := range []string{"traceparent", "tracestate"} {
		v := trace[k]
		if v == "" || len(v) > maxHeader {
			continue // a trace is a help, never a reason to refuse a restore
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[k] = v
	}
	return headers
}

func normalize(rs []tasks.Restore) {
	now := time.Now()
	for i := range rs {
		rs[i].Normalize(now)
	}
}

// prepare encodes all restores or none. Its error names the first problems.
func prepare(rs []tasks.Restore) ([]item, error) {
	items := make([]item, len(rs))
	first := make(map[string]int, len(rs))
	var problems []error
	for i, r := range rs {
		payload, err := tasks.EncodeRestore(r)
		if err == nil {
			err = checkTwin(rs, first, i)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("restore %d: %w", i, err))
		}
		if len(problems) == maxProblems {
			break
		}
		items[i] = intake(r, payload)
	}
	return items, errors.Join(problems...)
}

// checkTwin refuses a second restore of the same ID that asks for something else:
// Redis would drop it silently.
func checkTwin(rs []tasks.Restore, first map[string]int, i int) error {
	twin, seen := first[rs[i].ID]
	if !seen {
		first[rs[i].ID] = i
		return nil
	}
	if rs[twin].Hash() != rs[i].Hash() {
		return &tasks.FieldError{Field: "id", Problem: fmt.Sprintf("is that of restore %d, which asks for something else", twin),
			Hint: "give every restore an ID of its own, or none"}
	}
	return nil
}
