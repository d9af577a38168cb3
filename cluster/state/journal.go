package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/musterhq/muster/providers/crashsafe"
)

// Journal is the write-ahead journal of one cluster. It is safe for concurrent use.
type Journal struct {
	now  func() time.Time
	name string

	mu     sync.Mutex
	file   *os.File
	view   View
	length int   // of entries
	broken error // after a failed write: what is on disk is unknown, so nothing more may be written
}

func openJournal(name string, now func() time.Time) (*Journal, error) {
	j := &Journal{now: now, name: name}
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read journal: %w", err)
	}
	entries, good, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	j.view, j.length = Replay(entries), len(entries)
	return j, j.openAt(int64(good))
}

// openAt opens the file for appending at offset and cuts off what follows.
func (j *Journal) openAt(offset int64) error {
	f, err := os.OpenFile(j.name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open journal: %w", err)
	}
	if err := cutAt(f, offset); err != nil {
		_ = f.Close()
		return fmt.Errorf("cannot open journal: %w", err)
	}
	j.file = f
	return nil
}

func cutAt(f *os.File, offset int64) error {
	if err := f.Truncate(offset); err != nil {
		return err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Append writes entries, all of them with one write, and returns when they are on disk. V and Time are filled in. After
// an error nothing more can be written: the process must end and read the journal again.
func (j *Journal) Append(entries ...Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	var lines bytes.Buffer
	for i := range entries {
		entries[i].V, entries[i].Time = Version, j.now().UTC()
		if err := entries[i].check(); err != nil {
			return fmt.Errorf("cannot write journal: %s entry: %w", entries[i].Kind, err)
		}
		if err := json.NewEncoder(&lines).Encode(entries[i]); err != nil {
			return fmt.Errorf("cannot write journal: %w", err)
		}
	}
	if err := j.write(lines.Bytes()); err != nil {
		j.broken = fmt.Errorf("cannot write journal: %w", err)
		return j.broken
	}
	for _, e := range entries {
		j.view.add(e)
	}
	j.length += len(entries)
	return nil
}

func (j *Journal) write(lines []byte) error {
	if _, err := j.file.Write(lines); err != nil {
		return err
	}
	return j.file.Sync()
}

// View tells what the journal says now. The caller may keep it; it does not change.
func (j *Journal) View() View {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.view.clone()
}

// Machine tells what the journal says of one machine now.
func (j *Journal) Machine(ref Ref) (Machine, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m, ok := j.view.Machines[ref]
	return m, ok
}

// Empty reports whether nothing was ever written.
func (j *Journal) Empty() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.length == 0
}

// Compact replaces the journal by the shortest one that says the same, if nothing is open; tokens and user-data vanish
// with that. It reports whether it did.
func (j *Journal) Compact() (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return false, j.broken
	}
	if !j.view.Settled() {
		return false, nil
	}
	entries := j.view.compacted(j.now().UTC())
	if len(entries) == j.length && !j.view.secret() {
		return false, nil
	}
	var lines bytes.Buffer
	for _, e := range entries {
		if err := json.NewEncoder(&lines).Encode(e); err != nil {
			return false, fmt.Errorf("cannot compact journal: %w", err)
		}
	}
	if err := j.replace(lines.Bytes()); err != nil {
		j.broken = fmt.Errorf("cannot compact journal: %w", err)
		return false, j.broken
	}
	j.view, j.length = Replay(entries), len(entries)
	return true, nil
}

func (j *Journal) replace(content []byte) error {
	if err := crashsafe.WriteFileSync(j.name, content, 0o600); err != nil {
		return err
	}
	old := j.file
	if err := j.openAt(int64(len(content))); err != nil {
		return err
	}
	return old.Close()
}

// secret reports whether a machine still has its token or user-data.
func (v View) secret() bool {
	for _, m := range v.Machines {
		if m.Token != nil || m.UserData != nil {
			return true
		}
	}
	return false
}

// close ends the journal. Later appends fail.
func (j *Journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.broken, os.ErrClosed) {
		return nil
	}
	j.broken = fmt.Errorf("cannot write journal: %w", os.ErrClosed)
	return j.file.Close()
}
