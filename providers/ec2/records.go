package ec2

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// record is what is known of something that is to be made, written before EC2 is asked for it. It never decides what
// exists: it tells how to ask again, and how long something that EC2 does not show may still appear.
type record struct {
	Version int       `json:"version"`
	Asked   time.Time `json:"asked"`        // when EC2 was asked last
	Open    bool      `json:"open"`         // asked, and maybe made: no answer said that it was not
	ID      string    `json:"id,omitempty"` // what EC2 answered
	// Of a host alone:
	Attempt  int       `json:"attempt,omitempty"` // see owner.token
	Launch   *launch   `json:"launch,omitempty"`  // the exact request
	Differed time.Time `json:"differed,omitzero"` // when EC2 first said that the token was used for another request
}

const recordVersion = 1

// young tells whether EC2 may hide what a record is about.
func (p *Provider) young(r record) bool { return p.now().Sub(r.Asked) < p.timing.hidden }

// records are the records of a provider: files below a directory, or without one nothing but memory.
type records struct {
	dir string

	mu    sync.Mutex
	known map[string]record // by path, without a directory
}

// The names of records.
const (
	recordOfHost    = "host-"    // and the identity's ID
	recordOfAddress = "address-" // and the identity's ID
	recordOfGroup   = "group-"   // and the VPC
	recordOfPlace   = "placement-"
)

func (r *records) path(cluster, name string) string {
	return filepath.Join(r.dir, cluster, name+".json")
}

// load reads a record. One that cannot be read is as good as none: EC2 is asked what there is.
func (r *records) load(cluster, name string) (record, bool, error) {
	path := r.path(cluster, name)
	if r.dir == "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		found, ok := r.known[path]
		return found, ok, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("cannot read what was asked of EC2: %w", err)
	}
	var found record
	err = json.Unmarshal(text, &found)
	return found, err == nil && found.Version == recordVersion, nil
}

// save writes a record, to the disk.
func (r *records) save(cluster, name string, what record) error {
	what.Version = recordVersion
	path := r.path(cluster, name)
	if r.dir == "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.known == nil {
			r.known = map[string]record{}
		}
		r.known[path] = what
		return nil
	}
	text, err := json.MarshalIndent(what, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = crashsafe.WriteFileSync(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep what EC2 is asked: %w", err)
	}
	return nil
}

// remove forgets a record, and the directories when they are empty.
func (r *records) remove(cluster, name string) error {
	path := r.path(cluster, name)
	if r.dir == "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.known, path)
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// all are the records of a cluster, by name.
func (r *records) all(cluster string) (map[string]record, error) {
	found := map[string]record{}
	paths := []string{}
	if r.dir == "" {
		r.mu.Lock()
		for path := range r.known {
			paths = append(paths, path)
		}
		r.mu.Unlock()
	} else {
		var err error
		if paths, err = filepath.Glob(r.path(cluster, "*")); err != nil {
			return nil, err
		}
	}
	for _, path := range paths {
		name := filepath.Base(path[:len(path)-len(".json")])
		if path != r.path(cluster, name) {
			continue
		}
		what, ok, err := r.load(cluster, name)
		if err != nil {
			return nil, err
		}
		if ok {
			found[name] = what
		}
	}
	return found, nil
}

// removeAll forgets a cluster.
func (r *records) removeAll(cluster string) error {
	if r.dir == "" {
		known, err := r.all(cluster)
		for name := range known {
			_ = r.remove(cluster, name)
		}
		return err
	}
	if err := os.RemoveAll(filepath.Join(r.dir, cluster)); err != nil {
		return err
	}
	_ = os.Remove(r.dir) // when it is empty
	return nil
}

func hostRecord(id providers.Identity) string    { return recordOfHost + id.ID() }
func addressRecord(id providers.Identity) string { return recordOfAddress + id.ID() }
