package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/store"
)

// keeperLooks is how often voters look whether a backup is due. backupTime is in the names of files: they sort by age.
const (
	keeperLooks = 10 * time.Second
	backupTime  = "20060102T150405Z"
)

// Keeper has a voter write backups to a directory on its host now and then, and keeps the newest, as the cluster's record has
// it (backup.Schedule). Every voter has one: the loss of any host leaves others'. It touches no file that is not its own.
type Keeper struct {
	Backups *Backups
	Root    string // of the host, that the directory is below
	// Ails is told why backups are not kept, nil when they are.
	Ails func(error)
	Log  *slog.Logger
}

// Run ends with ctx.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		if err := pause.For(ctx, keeperLooks); err != nil {
			return err
		}
		err := k.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			k.Log.Warn("cannot keep backups of the cluster's records", "err", err)
		}
		k.Ails(err)
	}
}

func (k *Keeper) look(ctx context.Context) error {
	item, err := k.Backups.Store.Get(ctx, store.KeyCluster)
	if err != nil || item.ModRevision == 0 {
		return err // there are no records yet
	}
	record, err := store.Unmarshal[store.Cluster](item.Value)
	if err != nil {
		return err
	}
	s := record.BackupSchedule()
	if s.Every == 0 {
		return nil // and those that there are stay
	}
	dir := filepath.Join(k.Root, s.Dir)
	have, err := k.list(dir)
	if err != nil {
		return settled(dir, err)
	}
	if len(have) == 0 || k.Backups.Now().Sub(taken(have[len(have)-1])) >= s.Every {
		path, err := k.write(ctx, dir)
		if err != nil {
			return settled(dir, err)
		}
		k.Log.Info("wrote a backup of the cluster's records", "file", path)
		have = append(have, path)
	}
	for _, old := range have[:max(0, len(have)-s.Keep)] {
		err = errors.Join(err, os.Remove(old))
	}
	return settled(dir, err)
}

// settled is an error that is the same each time that the same is wrong: a file's own name is left out.
func settled(dir string, err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("cannot keep backups in %s: %w", dir, failed.Err)
	}
	return err
}

// write writes a backup, reads it again to check it, and gives it its name then.
func (k *Keeper) write(ctx context.Context, dir string) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	part, err := os.CreateTemp(dir, ".part-"+k.Backups.Host+"-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part.Name())
		}
	}()
	if err = errors.Join(k.Backups.Write(ctx, part), part.Sync()); err == nil {
		_, err = part.Seek(0, io.SeekStart)
	}
	var m backup.Manifest
	if err == nil {
		m, err = backup.Read(part, io.Discard)
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return "", err
	}
	path = filepath.Join(dir, fmt.Sprintf("%s-%s-r%d.tar", m.Taken.Format(backupTime), k.Backups.Host, m.Revision))
	return path, os.Rename(part.Name(), path)
}

// list is this host's backups in a directory, the oldest first. What a crash left there is removed.
func (k *Keeper) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var have []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), ".part-"+k.Backups.Host+"-"):
			err = errors.Join(err, os.Remove(path))
		case k.wrote(e.Name()):
			have = append(have, path)
		}
	}
	slices.Sort(have)
	return have, err
}

// wrote reports whether a file's name is one that write gives.
func (k *Keeper) wrote(name string) bool {
	taken, rest, _ := strings.Cut(name, "-")
	_, err := time.Parse(backupTime, taken)
	revision, ours := strings.CutPrefix(rest, k.Backups.Host+"-r")
	number, tar := strings.CutSuffix(revision, ".tar")
	_, bad := strconv.ParseUint(number, 10, 63)
	return err == nil && ours && tar && bad == nil
}

// taken is when a backup was taken, by its name.
func taken(path string) time.Time {
	text, _, _ := strings.Cut(filepath.Base(path), "-")
	at, _ := time.Parse(backupTime, text) // see wrote
	return at
}
