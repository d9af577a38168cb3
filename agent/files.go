package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// files keeps the unit files of this host on disk, by their SHA-256, so that units can be loaded while the store is
// away.
type files struct {
	dir   string
	store interface {
		Get(ctx context.Context, key string) (store.Item, error)
	}
}

var errContents = errors.New("the contents do not have the hash that they are kept under")

// kept returns a file that is on disk. It asks nobody.
func (f files) kept(hash string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(f.dir, hash))
	if err == nil && store.FileSum(content) != hash {
		err = fmt.Errorf("cannot use unit file %s: %w", hash, errContents)
	}
	return content, err
}

// get returns a file from disk, else from the store.
func (f files) get(ctx context.Context, hash string) ([]byte, error) {
	content, err := f.kept(hash)
	if err == nil {
		return content, nil
	}
	path := filepath.Join(f.dir, hash)
	item, err := f.store.Get(ctx, store.FileKey(hash))
	if err != nil {
		return nil, fmt.Errorf("cannot fetch unit file %s: %w", hash, err)
	}
	if item.ModRevision == 0 {
		return nil, fmt.Errorf("cannot fetch unit file %s: %w", hash, fs.ErrNotExist)
	}
	if store.FileSum(item.Value) != hash {
		return nil, fmt.Errorf("cannot use unit file %s: %w", hash, errContents)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep unit file %s: %w", hash, err)
	}
	return item.Value, pki.WriteFile(path, item.Value)
}

// prune removes what no unit of this host has.
func (f files) prune(keep map[string]bool) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove unit files: %w", err)
	}
	for _, e := range entries {
		if keep[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(f.dir, e.Name())); err != nil {
			return fmt.Errorf("cannot remove unit file: %w", err)
		}
	}
	return nil
}
