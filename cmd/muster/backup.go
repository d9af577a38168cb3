package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/backup"
)

const backupLong = `backup takes a snapshot of the cluster's records from a voter, and writes it to FILE (by default CLUSTER-TIME.tar): units
and their files, hosts, settings, and what applications keep in the keys. Every byte is checked before the file has its name.

It holds no key of the cluster. The root key is in the operator's directory alone: keep a copy of that too.

Voters also write such files by themselves, to /var/lib/muster/backups of their hosts, every hour, and keep the last 24, unless
the cluster file says otherwise:

  backups: {every: 10m, keep: 100, dir: /mnt/backups}

A directory that outlives the hosts, such as one of a file server, helps when all of them are lost; voters may share it. Status
warns of a voter that cannot write its backups.`

func (c *cli) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup [FILE]",
		Short: "write the cluster's records to a file",
		Long:  backupLong,
		Args:  takes(0, 1, "a FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return c.backup(cmd.Context(), name)
		},
	}
}

// backuper is what backup needs of the running cluster.
type backuper interface {
	Backup(ctx context.Context, w io.Writer) error
}

func (c *cli) backup(ctx context.Context, name string) error {
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	source, ok := f.(backuper)
	if !ok {
		return failed("", "cannot take a backup from here")
	}
	part, err := os.CreateTemp(".", ".muster-backup-*")
	if err != nil {
		return failed("", "cannot write the backup: %w", err)
	}
	defer func() { _ = os.Remove(part.Name()) }()
	err = source.Backup(ctx, part)
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return failed("", "cannot take a backup: %w", err)
	}
	m, err := readBackup(part.Name())
	if err != nil {
		return failed("run the same command again", "%w", err)
	}
	if name == "" {
		name = fmt.Sprintf("%s-%s.tar", m.Name, m.Taken.Format("20060102T150405Z"))
	}
	if err := os.Rename(part.Name(), name); err != nil {
		return failed("give a FILE in this directory's file system", "cannot write the backup: %w", err)
	}
	return c.say("%s: the records of cluster %s at revision %d, %d bytes", name, m.Name, m.Revision, m.Size)
}

// readBackup checks a backup and says what it is.
func readBackup(path string) (backup.Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return backup.Manifest{}, err
	}
	defer func() { _ = f.Close() }()
	return backup.Read(f, io.Discard)
}

var _ backuper = (*api.Client)(nil)
