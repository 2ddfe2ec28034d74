package simulator

import "os"

// BreakJournal makes the next write fail, as a full disk does.
func (c *Cloud) BreakJournal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := os.Open(c.journal.path)
	if err != nil {
		panic(err)
	}
	c.journal.file.Close()
	c.journal.file = f // opened for reading only
}
