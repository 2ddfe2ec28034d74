package simulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// journal is a file of lines; each has the newest state of some rows. A write(2) is
// enough to survive kill -9. It is rewritten when it is opened, and when it has
// grown much.
type journal struct {
	path       string
	file       *os.File
	generation uint64
	size, base int64 // now, and after it was last rewritten
	broken     error

	volumes  map[string]*volume // nil: gone
	backups  map[string]*backup
	jobs     map[int]*job
	messages []*message
	service  bool
}

// entry is one line of the journal: all that one request changed, so that a line
// cut off in the middle takes nothing apart.
type entry struct {
	Generation uint64     `json:"generation,omitempty"` // times opened
	Volumes    []*volume  `json:"volumes,omitempty"`
	Backups    []*backup  `json:"backups,omitempty"`
	Jobs       []*job     `json:"jobs,omitempty"`
	Messages   []*message `json:"messages,omitempty"`
	NoVolumes  []string   `json:"no_volumes,omitempty"`
	NoBackups  []string   `json:"no_backups,omitempty"`
	DownSince  *time.Time `json:"down_since,omitempty"` // zero: the service runs
}

const compactAbove = 64 << 20

// openJournal brings back what the journal in the folder has, and returns how
// often it was opened before.
func openJournal(c *Cloud, folder string) (*journal, uint64, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, 0, err
	}
	j := &journal{path: filepath.Join(folder, "cloud.jsonl")}
	j.clear()
	data, err := os.Open(j.path)
	switch {
	case err == nil:
		err = j.replay(c, data)
		data.Close()
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return nil, 0, err
	}
	before := j.generation
	j.generation++
	return j, before, j.rewrite(c)
}

// replay reads the lines. A last line that was cut off was never acknowledged.
func (j *journal) replay(c *Cloud, from io.Reader) error {
	jobs := map[int]*job{}
	r := bufio.NewReader(from)
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		c.apply(e, jobs)
		j.generation = max(j.generation, e.Generation)
	}
	c.resume(jobs)
	return nil
}

func (c *Cloud) apply(e entry, jobs map[int]*job) {
	for _, v := range e.Volumes {
		c.volumes.put(v)
	}
	for _, b := range e.Backups {
		c.backups.put(b)
	}
	for _, id := range e.NoVolumes {
		c.dropVolume(id)
	}
	for _, id := range e.NoBackups {
		c.dropBackup(id)
	}
	for _, j := range e.Jobs {
		jobs[j.ID] = j
	}
	c.messages = append(c.messages, e.Messages...)
	if e.DownSince != nil {
		c.downSince = *e.DownSince
	}
}

// resume puts the jobs where they were.
func (c *Cloud) resume(jobs map[int]*job) {
	for _, j := range jobs {
		j.place = -1
		c.lastJob = max(c.lastJob, j.ID)
		if j.Ran {
			c.executions = append(c.executions, j)
		}
		if !j.Done {
			c.open = append(c.open, j)
		}
	}
	byID := func(a, b *job) int { return a.ID - b.ID }
	slices.SortFunc(c.open, byID)
	slices.SortFunc(c.executions, func(a, b *job) int {
		if n := a.AcceptedAt.Compare(b.AcceptedAt); n != 0 {
			return n
		}
		return a.ID - b.ID
	})
	for _, j := range c.open {
		if j.Slot {
			c.working++
		}
		switch at := j.At; {
		case j.Step == stepWait:
			c.waiting = append(c.waiting, j)
		case !at.IsZero():
			c.schedule(j, j.Step, at)
		}
	}
}

// rewrite writes the present state as a new file in place of the old.
func (j *journal) rewrite(c *Cloud) error {
	text, err := json.Marshal(entry{Generation: j.generation, Volumes: c.volumes.all, Backups: c.backups.all,
		Messages: c.messages, Jobs: append(slices.Clone(c.open), c.executions...), DownSince: &c.downSince})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	fresh := j.path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := os.Rename(fresh, j.path); err != nil {
		return errors.Join(err, f.Close())
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.size, j.base = f, int64(len(text)), int64(len(text))
	j.clear()
	return err
}

func (j *journal) clear() {
	j.volumes, j.backups, j.jobs = map[string]*volume{}, map[string]*backup{}, map[int]*job{}
	j.messages, j.service = nil, false
}

// flush writes what has changed since the last one, in one write.
func (c *Cloud) flush() error {
	j := c.journal
	if j == nil || c.closed || j.broken != nil {
		return c.journalError()
	}
	if len(j.volumes)+len(j.backups)+len(j.jobs)+len(j.messages) == 0 && !j.service {
		return nil
	}
	text, err := json.Marshal(j.changes(c))
	if err != nil {
		j.broken = err
		return err
	}
	j.clear()
	n, err := j.file.Write(append(text, '\n'))
	j.size += int64(n)
	if err == nil && j.size > compactAbove && j.size > 4*j.base {
		err = j.rewrite(c)
	}
	j.broken = err
	return err
}

// changes is what happened since the last entry.
func (j *journal) changes(c *Cloud) entry {
	e := entry{Messages: j.messages}
	for id, v := range j.volumes {
		if v == nil {
			e.NoVolumes = append(e.NoVolumes, id)
		} else {
			e.Volumes = append(e.Volumes, v)
		}
	}
	for id, b := range j.backups {
		if b == nil {
			e.NoBackups = append(e.NoBackups, id)
		} else {
			e.Backups = append(e.Backups, b)
		}
	}
	for _, x := range j.jobs {
		e.Jobs = append(e.Jobs, x)
	}
	if j.service {
		e.DownSince = &c.downSince
	}
	return e
}

func (c *Cloud) journalError() error {
	if c.journal == nil {
		return nil
	}
	return c.journal.broken
}

func (c *Cloud) dirtyVolume(v *volume) {
	if c.journal != nil {
		c.journal.volumes[v.ID] = v
	}
}

func (c *Cloud) droppedVolume(id string) {
	if c.journal != nil {
		c.journal.volumes[id] = nil
	}
}

func (c *Cloud) dirtyBackup(b *backup) {
	if c.journal != nil {
		c.journal.backups[b.ID] = b
	}
}

func (c *Cloud) droppedBackup(id string) {
	if c.journal != nil {
		c.journal.backups[id] = nil
	}
}

func (c *Cloud) dirtyJob(j *job) {
	if c.journal != nil {
		c.journal.jobs[j.ID] = j
	}
}

func (c *Cloud) dirtyMessage(m *message) {
	if c.journal != nil {
		c.journal.messages = append(c.journal.messages, m)
	}
}

func (c *Cloud) dirtyService() {
	if c.journal != nil {
		c.journal.service = true
	}
}
