package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/musterhq/muster/providers/crashsafe"
)

// store keeps a cloud's state. update gives fn the state alone and keeps what fn made of it, whether fn fails or not.
type store interface {
	update(ctx context.Context, fn func(*state) error) error
}

// memoryStore is the store of one process.
type memoryStore struct {
	mu    sync.Mutex
	state state
}

func (m *memoryStore) update(ctx context.Context, fn func(*state) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn(&m.state)
}

// fileStore is the store of all processes that name the same file. A process that is killed leaves the file as it was
// before or after an update, never between.
type fileStore struct {
	path string
}

// stateVersion is the version of the file's format.
const stateVersion = 1

func (f fileStore) update(ctx context.Context, fn func(*state) error) (err error) {
	lock, err := crashsafe.Acquire(ctx, f.path+".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	s, before, err := f.load()
	if err != nil {
		return err
	}
	failed := fn(s)
	after, err := json.Marshal(s)
	if err == nil && string(after) != string(before) {
		err = crashsafe.WriteFile(f.path, after, 0o600)
	}
	return errors.Join(failed, err)
}

func (f fileStore) load() (*state, []byte, error) {
	s := &state{Version: stateVersion}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err == nil && s.Version != stateVersion {
		err = fmt.Errorf("version is %d, want %d", s.Version, stateVersion)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the cloud's state %s: %w", f.path, err)
	}
	return s, data, nil
}
