package simulator

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// A job is something the cloud does over time. All that is to happen later is in
// its fields, not in closures: the journal brings it back.
type job struct {
	Execution
	ID   int
	Kind jobKind
	Step step
	At   time.Time // when Step happens; zero: it waits for something else
	Plan plan
	// Fate is what a restore ends in: a status of the volume, or fateStuck.
	Fate string
	// Back is the status a volume returns to after a foreign backup.
	Back string
	Slot bool // counts against the capacity
	Ran  bool // is among the executions
	Done bool

	place int // in the agenda, -1 when not there
}

type jobKind string

const (
	kindRestore jobKind = "restore"
	kindBackup  jobKind = "backup"  // somebody takes a backup
	kindCreate  jobKind = "create"  // an empty volume is made
	kindDelete  jobKind = "delete"  // a row goes away
	kindService jobKind = "service" // the backup service comes back
)

// A step is what a job does next.
type step string

const (
	stepCheck   step = "check"   // a POST that starts late: the checks come now
	stepBackup  step = "backup"  // write the backup's status: restoring
	stepVolume  step = "volume"  // write the volume's status: restoring-backup
	stepCast    step = "cast"    // hand over to the backup service
	stepWait    step = "wait"    // no slot free, or the service is down
	stepStuck   step = "stuck"   // nothing will happen until the service restarts
	stepFinish  step = "finish"  // write the volume's last status
	stepRelease step = "release" // write the backup's last status, free the slot
)

const fateStuck = "stuck"

// A plan is how the start of one restore differs from the ordinary.
type plan struct {
	Queue  time.Duration // the checks come so much later, after the answer
	Unseen time.Duration // nothing at all happens until then, and no answer comes
	Window time.Duration // between the checks and the first status: nothing is locked
	Pause  time.Duration // between the backup's status and the volume's
	Hang   time.Duration // between the statuses and the hand-over
	Fate   string
}

// agenda is a heap of jobs by time, then by ID.
type agenda []*job

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, k int) bool {
	if n := a[i].At.Compare(a[k].At); n != 0 {
		return n < 0
	}
	return a[i].ID < a[k].ID
}
func (a agenda) Swap(i, k int) {
	a[i], a[k] = a[k], a[i]
	a[i].place, a[k].place = i, k
}
func (a *agenda) Push(x any) {
	j := x.(*job)
	j.place = len(*a)
	*a = append(*a, j)
}
func (a *agenda) Pop() any {
	last := len(*a) - 1
	j := (*a)[last]
	(*a)[last], *a = nil, (*a)[:last]
	j.place = -1
	return j
}

// advance runs what is due up to now, each job at its own time.
func (c *Cloud) advance(now time.Time) {
	for len(c.due) > 0 && !c.due[0].At.After(now) {
		j := heap.Pop(&c.due).(*job)
		c.now = j.At
		c.run(j)
	}
	c.now = now
}

// newJob opens a job; schedule gives it its first step.
func (c *Cloud) newJob(j *job) *job {
	c.lastJob++
	j.ID, j.place = c.lastJob, -1
	c.open = append(c.open, j)
	return j
}

// schedule says what a job does next, and when.
func (c *Cloud) schedule(j *job, s step, at time.Time) {
	c.park(j, s)
	j.At = at
	heap.Push(&c.due, j)
}

// park takes a job off the agenda: it waits for something else than time.
func (c *Cloud) park(j *job, s step) {
	if j.place >= 0 {
		heap.Remove(&c.due, j.place)
	}
	j.Step, j.At = s, time.Time{}
	c.dirtyJob(j)
}

// end closes a job.
func (c *Cloud) end(j *job) {
	c.park(j, "")
	j.Done = true
	i, found := slices.BinarySearchFunc(c.open, j.ID, func(o *job, id int) int { return cmp.Compare(o.ID, id) })
	if found {
		c.open = slices.Delete(c.open, i, i+1)
	}
}

func (c *Cloud) run(j *job) {
	switch j.Kind {
	case kindRestore:
		c.runRestore(j)
	case kindBackup:
		c.finishBackup(j)
	case kindCreate:
		if v, ok := c.volumes.byID[j.VolumeID]; ok && v.Status == "creating" {
			c.setVolume(v, "available")
		}
		c.end(j)
	case kindDelete:
		c.dropVolume(j.VolumeID)
		c.dropBackup(j.BackupID)
		c.end(j)
	case kindService:
		c.startService()
		c.end(j)
	}
}

// setVolume writes a status, as Cinder does: updated_at moves with it.
func (c *Cloud) setVolume(v *volume, status string) {
	c.changeVolume(v, func() { v.Status = status })
}

func (c *Cloud) changeVolume(v *volume, mutate func()) {
	c.volumes.change(v, func() {
		mutate()
		v.Updated = c.now
	})
	c.dirtyVolume(v)
}

func (c *Cloud) setBackup(b *backup, status string) {
	c.changeBackup(b, func() { b.Status = status })
}

func (c *Cloud) changeBackup(b *backup, mutate func()) {
	c.backups.change(b, func() {
		mutate()
		b.Updated = c.now
	})
	c.dirtyBackup(b)
}

func (c *Cloud) dropVolume(id string) {
	if v, ok := c.volumes.byID[id]; ok {
		c.volumes.drop(v)
		c.droppedVolume(id)
	}
}

func (c *Cloud) dropBackup(id string) {
	if b, ok := c.backups.byID[id]; ok {
		c.backups.drop(b)
		c.droppedBackup(id)
	}
}
