package main

import (
	"bytes"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/vbsrestore/vbsrestore/results"
	"github.com/vbsrestore/vbsrestore/tasks"
)

func TestRejectedMessagesAreListed(t *testing.T) {
	ctx, out := t.Context(), &bytes.Buffer{}
	e := testEnv(out, nil)
	var stderr bytes.Buffer
	e.Stderr = &stderr
	o := rejectedOptions{settings: defaultSettings(), limit: 2}
	o.settings.Store = "sqlite://" + filepath.Join(t.TempDir(), "r.db")
	store, err := results.Open(ctx, o.settings.Store, results.Options{Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, r := range []results.Rejected{
		{Queue: "otc:in", TaskID: "t1", Payload: []byte("not json"), Reason: "it is not JSON\x1b[2J", Worker: "w1"},
		{Queue: "otc", TaskID: "t2", Payload: make([]byte, tasks.MaxPayload+1), Reason: "it is too large", Worker: "w1"},
		{Queue: "otc", TaskID: "t3", Reason: "it is empty", Worker: "w1"},
	} {
		if _, err := store.Reject(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	for format, want := range map[string]string{
		"table": `^TIME +QUEUE +TASK ID +SIZE +REASON\n\d{4}-\S+Z +otc:in +t1 +8 +it is not JSON \[2J\n\d{4}-\S+Z +otc +t2 +65536\+ +it is too large\n$`,
		"csv":   `^time,queue,task_id,size,reason\n[^\n]+,otc:in,t1,8,it is not JSON`,
		"json":  `(?s)"queue": "otc:in",.*"task_id": "t1",.*"reason": "it is not JSON\\u001b\[2J",.*"size": 8\n`,
		"yaml":  `(?s)task_id: t2\n.*truncated: true\n.*size: 65536\n`,
	} {
		out.Reset()
		stderr.Reset()
		o.output.format = format
		if err := runRejected(ctx, o, e); err != nil || !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("-f %s: %v, got\n%s", format, err, out)
		}
		if stderr.String() != "there are more: --limit 20\n" {
			t.Errorf("-f %s: stderr %q", format, stderr.String())
		}
	}
}
