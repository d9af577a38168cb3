package backup

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// Schedule is how each voter writes backups by itself, to its own host.
type Schedule struct {
	Every time.Duration `json:"every"` // nanoseconds; 0 for never
	Keep  int           `json:"keep"`  // how many, the newest
	Dir   string        `json:"dir"`   // absolute path
}

// Bounds of a schedule.
const (
	MinEvery = 10 * time.Second // below it voters would do little else
	MaxEvery = 30 * 24 * time.Hour
	MaxKeep  = 10_000
)

// DefaultSchedule keeps a day: a loss is noticed within one, and a backup of a full store takes 8 GiB of the disk.
func DefaultSchedule() Schedule {
	return Schedule{Every: time.Hour, Keep: 24, Dir: "/var/lib/muster/backups"}
}

// CheckEvery says what is wrong with how often backups are written, or nil.
func CheckEvery(d time.Duration) error {
	if d != 0 && (d < MinEvery || d > MaxEvery) {
		return fmt.Errorf("a backup every %s is not possible: from %s to %s is, and 0s for never", d, MinEvery, MaxEvery)
	}
	return nil
}

// CheckKeep says what is wrong with how many are kept, or nil.
func CheckKeep(n int) error {
	if n < 1 || n > MaxKeep {
		return fmt.Errorf("%d backups cannot be kept: from 1 to %d can", n, MaxKeep)
	}
	return nil
}

// CheckDir says what is wrong with a directory for backups, or nil.
func CheckDir(dir string) error {
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
		return fmt.Errorf("`%s` is no directory for backups: give an absolute path, without `..` and a `/` at the end", dir)
	}
	return nil
}

// Validate says all that is wrong.
func (s Schedule) Validate() error {
	return errors.Join(CheckEvery(s.Every), CheckKeep(s.Keep), CheckDir(s.Dir))
}
