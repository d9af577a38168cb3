package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/providers/crashsafe"
)

// Version is the version of every file in the directory. Others are refused.
const Version = 1

// The files. See the package's comment.
const (
	fileCluster = "cluster.json"
	fileJournal = "journal.jsonl"
	fileTokens  = "tokens.json"
	fileRoster  = "roster.json"
	fileLock    = "lock"
)

// Cluster says which cluster a directory is of.
type Cluster struct {
	V       int       `json:"v"`
	ID      string    `json:"id"` // UUID, in every tag and certificate of the cluster
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Reader reads a cluster's directory without locking it. Commands that only look use it while another process writes.
type Reader struct {
	path    string
	cluster Cluster
}

// Dir is a cluster's directory, locked. It is safe for concurrent use.
type Dir struct {
	*Reader
	lock    *crashsafe.Lock
	journal *Journal
	tokens  *Tokens
}

// Create opens the directory of a cluster, and makes it with a new identity when there is none.
func Create(parent, name string, now func() time.Time) (*Dir, error) {
	path, err := pathOf(parent, name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make state directory: %w", err)
	}
	return open(path, now, func() error { return found(path, name, now()) })
}

// Open opens the directory of a cluster. It returns ErrNoCluster when there is none.
func Open(parent, name string, now func() time.Time) (*Dir, error) {
	path, err := pathOf(parent, name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(ErrNoCluster, os.RemoveAll(removedPath(path)))
	}
	return open(path, now, func() error { return nil })
}

// OpenReader opens the directory of a cluster to look only. It returns ErrNoCluster when there is none.
func OpenReader(parent, name string) (*Reader, error) {
	path, err := pathOf(parent, name)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoCluster
		}
		return nil, err
	}
	return newReader(path)
}

// open locks a directory, completes it, and reads it.
func open(path string, now func() time.Time, complete func() error) (_ *Dir, err error) {
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	l, err := acquire(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{lock: l}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if err := os.RemoveAll(removedPath(path)); err != nil {
		return nil, fmt.Errorf("cannot remove what is left of an older cluster: %w", err)
	}
	if err := complete(); err != nil {
		return nil, err
	}
	if d.Reader, err = newReader(path); err != nil {
		return nil, err
	}
	if d.tokens, err = openTokens(filepath.Join(path, fileTokens)); err != nil {
		return nil, err
	}
	d.journal, err = openJournal(filepath.Join(path, fileJournal), now)
	return d, err
}

// found writes the identity of a new cluster, unless the directory has one.
func found(path, name string, now time.Time) error {
	file := filepath.Join(path, fileCluster)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(filepath.Join(path, fileJournal)); err == nil {
		return fmt.Errorf("cannot use %s: it has a journal but no %s; put the file back from a backup", path, fileCluster)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("cannot make a cluster's identity: %w", err)
	}
	return writeJSON(file, Cluster{V: Version, ID: id.String(), Name: name, Created: now.UTC()})
}

func newReader(path string) (*Reader, error) {
	r := &Reader{path: path}
	switch err := readJSON(filepath.Join(path, fileCluster), &r.cluster); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNoCluster
	case err != nil:
		return nil, err
	case r.cluster.ID == "":
		return nil, fmt.Errorf("cannot use %s: %s has no ID", path, fileCluster)
	}
	return r, checkVersion(fileCluster, r.cluster.V)
}

// Path is the directory.
func (r *Reader) Path() string { return r.path }

// Cluster tells which cluster it is.
func (r *Reader) Cluster() Cluster { return r.cluster }

// View reads the journal and tells what it says. The holder of the lock asks its Journal instead.
func (r *Reader) View() (View, error) {
	data, err := os.ReadFile(filepath.Join(r.path, fileJournal))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return View{}, fmt.Errorf("cannot read journal: %w", err)
	}
	entries, _, err := Decode(data)
	if err != nil {
		return View{}, err
	}
	return Replay(entries), nil
}

type rosterFile struct {
	V      int           `json:"v"`
	Roster roster.Roster `json:"roster"`
}

// Roster is the members as last seen, none when the cluster never formed. It tells where to look, not what is.
func (r *Reader) Roster() (roster.Roster, error) {
	var file rosterFile
	switch err := readJSON(filepath.Join(r.path, fileRoster), &file); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return file.Roster, checkVersion(fileRoster, file.V)
}

// SaveRoster remembers the members for Roster.
func (d *Dir) SaveRoster(members roster.Roster) error {
	return writeJSON(filepath.Join(d.path, fileRoster), rosterFile{V: Version, Roster: members})
}

// Journal is the directory's journal.
func (d *Dir) Journal() *Journal { return d.journal }

// Tokens are the operator's own join tokens.
func (d *Dir) Tokens() *Tokens { return d.tokens }

// Close gives the lock back. Later writes to journal and tokens fail.
func (d *Dir) Close() error {
	var errs []error
	if d.journal != nil {
		errs = append(errs, d.journal.close())
	}
	if d.tokens != nil {
		d.tokens.close()
	}
	return errors.Join(append(errs, d.lock.Release())...)
}

// Remove deletes the directory, keys and all, and gives the lock back. It vanishes as a whole: a crash leaves the
// directory, or at most a hidden remnant that the next Create or Open of the cluster deletes.
func (d *Dir) Remove() error {
	gone := removedPath(d.path)
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(d.path, gone)
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		err = fmt.Errorf("cannot remove state directory: %w", err)
	}
	return errors.Join(err, d.Close())
}

func checkVersion(file string, v int) error {
	if v != Version {
		return fmt.Errorf("cannot read %s: its version is %d, this muster knows %d; use the muster that wrote it", file, v, Version)
	}
	return nil
}

func readJSON(name string, to any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("cannot read state: %w", err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	return nil
}

func writeJSON(name string, from any) error {
	data, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return crashsafe.WriteFileSync(name, append(data, '\n'), 0o600)
}
