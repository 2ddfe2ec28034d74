package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vbsrestore/vbsrestore/enqueue"
	"github.com/vbsrestore/vbsrestore/tasks"
)

type enqueueOptions struct {
	settings  settings
	output    output
	asked     bool // -f or -c was given
	pair      []string
	file      string
	yes       int
	cloud     string
	class     string
	project   string
	notBefore string
	notAfter  string
	labels    []string
	id        string
	again     bool
	actor     string
}

func newEnqueue(g *globals, e env) *cobra.Command {
	var o enqueueOptions
	cmd := &cobra.Command{
		Use: "enqueue {BACKUP VOLUME | --file FILE}", Short: "ask for restores through Redis, and go", Args: cobra.ArbitraryArgs,
		Long: `Enqueue asks for one restore, or for one per line of a file. It needs Redis and
nothing else: no database, no cloud, no running worker. When it returns, Redis
has the requests; a worker records them. Everything on the volumes is overwritten.

The file is CSV with a header, or JSONL; "-" is stdin. Columns or keys: backup_id,
volume_id, and if wanted volume_name (ignored), cloud, project_id, class, id,
not_before, not_after, again, actor. If one line is wrong, nothing is enqueued.
The IDs come from the file's content and the line, so asking with the same file
again doubles nothing.`,
		Example: `  vbsrestore enqueue 0e6d… 9b1f… --cloud otc --label ticket=4711
  vbsrestore enqueue --file pairs.csv --cloud otc --yes 20`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.settings, err = g.load(cmd.Flags(), e); err != nil {
				return err
			}
			o.pair, o.asked = args, cmd.Flags().Changed("format") || cmd.Flags().Changed("column")
			return runEnqueue(cmd.Context(), o, e)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "CSV or JSONL file with one request a line; - is stdin")
	f.IntVar(&o.yes, "yes", -1, "overwrite so many volumes without being asked; must be the number of requests in the file")
	f.StringVar(&o.cloud, "cloud", "", "cloud the volumes are in (OS_CLOUD)")
	f.StringVar(&o.class, "class", "", "urgent, direct, campaign or drill (default direct)")
	f.StringVar(&o.project, "project", "", "project the worker's credentials must be of (default not checked)")
	f.StringVar(&o.notBefore, "not-before", "", "earliest start: a time such as 2026-01-02T15:04:05Z, or a duration from now such as 2h")
	f.StringVar(&o.notAfter, "not-after", "", "no start after this; a time or a duration from now (default 24h later for urgent and direct)")
	f.StringArrayVar(&o.labels, "label", nil, "KEY=VALUE of your own; repeatable")
	f.StringVar(&o.id, "id", "", "ID of the request, a UUID; asking again with it doubles nothing (default a new one)")
	f.BoolVar(&o.again, "again", false, "restore even if the volume was restored since it was asked for")
	f.StringVar(&o.actor, "actor", "", "who asks (default USER)")
	o.output.addFlags(f)
	return cmd
}

func (o enqueueOptions) conflicts() error {
	switch {
	case o.file == "" && len(o.pair) != 2:
		return hint(usagef("enqueue needs BACKUP and VOLUME, or --file"), "vbsrestore enqueue --help")
	case o.file != "" && len(o.pair) > 0:
		return usagef("--file and BACKUP VOLUME exclude each other")
	case o.file != "" && o.id != "":
		return hint(usagef("--id is for one request"), "give the file a column id")
	case o.file == "" && o.yes >= 0:
		return usagef("--yes goes with --file")
	}
	return nil
}

func runEnqueue(ctx context.Context, o enqueueOptions, e env) error {
	if err := o.conflicts(); err != nil {
		return err
	}
	base, err := o.base(e)
	if err != nil {
		return err
	}
	requests, err := o.requests(base, e)
	if err != nil {
		return err
	}
	rdb, err := enqueue.Connect(enqueue.RedisOptions{URL: o.settings.Redis})
	if err != nil {
		return &usageError{err}
	}
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second+time.Duration(len(requests))*time.Millisecond)
	defer cancel()
	receipts, err := enqueue.New(rdb, enqueue.Options{}).Restores(ctx, requests)
	if err != nil {
		return redisAway(err, o.settings)
	}
	return o.print(receipts, e)
}

// redisAway says what an error of the queue means for the caller.
func redisAway(err error, s settings) error {
	if field := new(tasks.FieldError); errors.As(err, &field) {
		return &usageError{err}
	}
	if isNetwork(err) {
		err = &away{err}
	}
	return hint(err, "is Redis at %s? Asking again with the same file or --id doubles nothing", redacted(s.Redis))
}

// base is what all requests have in common.
func (o enqueueOptions) base(e env) (tasks.Restore, error) {
	cloud, err := askedOf(o.cloud, o.settings, e)
	if err != nil {
		return tasks.Restore{}, err
	}
	now := e.now()
	r := tasks.Restore{Cloud: cloud, ProjectID: o.project, Class: tasks.Class(o.class), AskedAt: now, Again: o.again, Actor: actor(o.actor, e)}
	if r.NotBefore, err = moment("--not-before", o.notBefore, now); err != nil {
		return r, err
	}
	if r.NotAfter, err = moment("--not-after", o.notAfter, now); err != nil {
		return r, err
	}
	for _, label := range o.labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return r, usagef("--label %q: want KEY=VALUE", label)
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[key] = value
	}
	return r, nil
}

// actor is who acts, for the record.
func actor(given string, e env) string {
	for _, who := range []string{given, e.Getenv("USER"), e.Getenv("LOGNAME")} {
		if who != "" {
			return who
		}
	}
	return "somebody"
}

// moment reads a time with its offset, or a duration from now.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usagef("%s %q: want a time with its offset such as 2026-01-02T15:04:05Z, or a duration such as 2h", flag, text)
	}
	return t, nil
}

func (o enqueueOptions) requests(base tasks.Restore, e env) ([]tasks.Restore, error) {
	if o.file == "" {
		base.ID, base.BackupID, base.VolumeID = o.id, o.pair[0], o.pair[1]
		base.Normalize(base.AskedAt)
		if err := base.Validate(); err != nil {
			return nil, &usageError{err}
		}
		return []tasks.Restore{base}, nil
	}
	content, err := o.content(e)
	if err != nil {
		return nil, &usageError{err}
	}
	sum := sha256.Sum256(content)
	requests, err := readPairs(nameOfFile(o.file), content, hex.EncodeToString(sum[:]), base)
	if err != nil {
		return nil, &usageError{err}
	}
	return requests, o.confirm(len(requests), e)
}

func nameOfFile(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

func (o enqueueOptions) content(e env) ([]byte, error) {
	if o.file == "-" {
		content, err := io.ReadAll(e.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		return content, nil
	}
	content, err := os.ReadFile(o.file)
	if err != nil {
		return nil, fmt.Errorf("read the requests: %w", err)
	}
	return content, nil
}

// confirm wants the number of volumes, typed by a person or given by a script.
func (o enqueueOptions) confirm(n int, e env) error {
	switch {
	case o.yes == n:
		return nil
	case o.yes >= 0:
		return usagef("--yes %d, but the file asks for %d restores; nothing was enqueued", o.yes, n)
	case !e.StdinTTY || o.file == "-":
		return hint(usagef("this overwrites %d volumes without preflight, and nobody can be asked", n), "if that is right: --yes %d", n)
	}
	fmt.Fprintf(e.Stderr, "This overwrites %d volumes without preflight. Type %d to go on: ", n, n)
	answer, err := bufio.NewReader(e.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != strconv.Itoa(n) {
		return usagef("not confirmed; nothing was enqueued")
	}
	return nil
}

// manyLines is from where on a list of receipts is noise on a terminal.
const manyLines = 20

type receiptRow struct {
	ID      string `json:"id"`
	Queue   string `json:"queue"`
	Existed bool   `json:"existed"`
}

func (o enqueueOptions) print(receipts []enqueue.Receipt, e env) error {
	rows, existed := make([]receiptRow, len(receipts)), 0
	for i, r := range receipts {
		rows[i] = receiptRow{r.ID, r.Queue, r.Existed}
		if r.Existed {
			existed++
		}
	}
	if o.asked || !e.StdoutTTY || len(rows) <= manyLines {
		cols := []column[receiptRow]{
			{name: "id", text: func(r receiptRow) string { return r.ID }},
			{name: "queue", text: func(r receiptRow) string { return r.Queue }},
			{name: "existed", text: func(r receiptRow) string { return strconv.FormatBool(r.Existed) }},
		}
		if err := printList(e, o.output, cols, []string{"id", "queue", "existed"}, rows); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: Redis has it; a worker records it", counts(len(rows), "request"))
	if existed > 0 {
		fmt.Fprintf(&b, " (%d there already)", existed)
	}
	_, err := fmt.Fprintln(e.Stderr, b.String())
	return err
}

func counts(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
