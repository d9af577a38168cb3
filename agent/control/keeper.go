package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/backup"
)

// Voters keep a day of backups, and look now and then whether another is due.
const (
	backupEvery = time.Hour
	backupsKept = 24
	keeperLooks = 30 * time.Second
	backupTime  = "20060102T150405Z" // in the names of files: they sort by age
)

// Keeper has a voter write backups to a directory of its own now and then, and keeps the newest. Every voter has one: the
// loss of any host leaves others'.
type Keeper struct {
	Backups *Backups
	Dir     string
	Log     *slog.Logger
}

// Run ends with ctx.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		if err := pause.For(ctx, keeperLooks); err != nil {
			return err
		}
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("cannot keep backups of the cluster's records", "err", err)
		}
	}
}

func (k *Keeper) look(ctx context.Context) error {
	have, err := k.list()
	if err != nil {
		return err
	}
	if len(have) > 0 {
		taken, _, _ := strings.Cut(filepath.Base(have[len(have)-1]), "-")
		if at, err := time.Parse(backupTime, taken); err == nil && k.Backups.Now().Sub(at) < backupEvery {
			return nil
		}
	}
	path, err := k.write(ctx)
	if err != nil {
		return err
	}
	k.Log.Info("wrote a backup of the cluster's records", "file", path)
	return k.prune()
}

// write writes a backup, reads it again to check it, and gives it its name then.
func (k *Keeper) write(ctx context.Context) (path string, err error) {
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return "", err
	}
	part, err := os.CreateTemp(k.Dir, ".part-*")
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
	path = filepath.Join(k.Dir, fmt.Sprintf("%s-r%d.tar", m.Taken.Format(backupTime), m.Revision))
	return path, os.Rename(part.Name(), path)
}

// list is the backups there are, the oldest first.
func (k *Keeper) list() ([]string, error) {
	entries, err := os.ReadDir(k.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var have []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tar") {
			have = append(have, filepath.Join(k.Dir, e.Name()))
		}
	}
	slices.Sort(have)
	return have, err
}

func (k *Keeper) prune() error {
	have, err := k.list()
	if err != nil {
		return err
	}
	for _, old := range have[:max(0, len(have)-backupsKept)] {
		err = errors.Join(err, os.Remove(old))
	}
	return err
}
