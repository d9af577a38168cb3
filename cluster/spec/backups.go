package spec

import (
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/backup"
)

// backupsFile is how voters write backups by themselves.
type backupsFile struct {
	Every time.Duration `yaml:"every" jsonschema:"default=1h,description=How often each voter writes one. From 10s to 720h. 0s: never."`
	Keep  int           `yaml:"keep" jsonschema:"default=24,minimum=1,maximum=10000,description=How many of its backups each voter keeps. Older ones are removed."`
	Dir   string        `yaml:"dir" jsonschema:"default=/var/lib/muster/backups,description=Directory on the voters' hosts. Only this cluster's voters may write to it\\, which may share it."`
}

func defaultBackups() backupsFile { return backupsFile(backup.DefaultSchedule()) }

// backups reads how voters write backups by themselves.
func (p *parser) backups(raw backupsFile) {
	p.spec.Backups = backup.Schedule(raw)
	if backup.CheckEvery(raw.Every) != nil {
		p.at("backups.every", fmt.Sprintf("from %s to %s is possible, and 0s for never", short(backup.MinEvery), hours(backup.MaxEvery)),
			"a backup every %s is too %s", short(raw.Every), often(raw.Every < backup.MinEvery))
	}
	if backup.CheckKeep(raw.Keep) != nil {
		p.at("backups.keep", fmt.Sprintf("from 1 to %d is possible; `every: 0s` writes none", backup.MaxKeep), "%d backups cannot be kept", raw.Keep)
	}
	if backup.CheckDir(raw.Dir) != nil {
		p.at("backups.dir", "give an absolute path on the hosts, without `..` and without a `/` at the end", "`%s` is no directory for backups", raw.Dir)
	}
}

func often(more bool) string {
	if more {
		return "often"
	}
	return "rare"
}

func hours(d time.Duration) string { return fmt.Sprintf("%dh", int(d.Hours())) }
