// Package diskselect chooses one of a machine's disks by what the operator wrote, and tells why it is that one or none.
//
// A selector is text such as "model=Samsung*,min=100GB,largest": conditions that a disk must meet, and which one to take of
// those that do. Everything here is pure. It does not know what is on a disk, nor that one is about to be written.
package diskselect

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers/metal/ledger"
)

// Selector is a parsed selector. The zero value chooses the smallest disk.
type Selector struct {
	Path          string // such as /dev/sda
	Serial, Model string // patterns as path.Match has them, compared without regard to case
	Min, Max      int64  // bytes, both included; 0 for no bound
	Largest       bool   // instead of the smallest of those that fit
}

// ErrNone is wrapped when no disk fits.
var ErrNone = errors.New("no disk fits")

// Parse reads a selector. The words, with commas between them, are path=, serial=, model=, min= and max= (bytes, or with a
// unit such as GB or GiB), smallest and largest.
func Parse(text string) (Selector, error) {
	var s Selector
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(text, ",") {
		key, value, given := strings.Cut(strings.TrimSpace(word), "=")
		about := key
		if key == "smallest" || key == "largest" {
			about = "smallest and largest"
		}
		if seen[about] {
			return Selector{}, fmt.Errorf("cannot select a disk by %q: %s is there twice", text, about)
		}
		seen[about] = true
		if err := s.set(key, value, given); err != nil {
			return Selector{}, fmt.Errorf("cannot select a disk by %q: %w", text, err)
		}
	}
	if s.Max > 0 && s.Max < s.Min {
		return Selector{}, fmt.Errorf("cannot select a disk by %q: max is less than min", text)
	}
	return s, nil
}

func (s *Selector) set(key, value string, given bool) (err error) {
	switch {
	case !given && key == "smallest":
		return nil
	case !given && key == "largest":
		s.Largest = true
		return nil
	case !given || value == "":
		return fmt.Errorf("%q is none of path=, serial=, model=, min=, max=, smallest and largest", key)
	}
	switch key {
	case "path":
		if s.Path = value; !strings.HasPrefix(value, "/dev/") || path.Clean(value) != value {
			return fmt.Errorf("%q is no path of a device, such as /dev/sda", value)
		}
	case "serial", "model":
		if _, err := path.Match(value, ""); err != nil {
			return fmt.Errorf("%q is no pattern", value)
		}
		if key == "model" {
			s.Model = value
		} else {
			s.Serial = value
		}
	case "min":
		s.Min, err = bytes(value)
	case "max":
		s.Max, err = bytes(value)
	default:
		return fmt.Errorf("%q is none of path=, serial=, model=, min=, max=, smallest and largest", key+"=")
	}
	return err
}

// units are by which a number is multiplied. The longer ones come first, since they end like others.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"", 1},
}

// bytes reads a size.
func bytes(text string) (int64, error) {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 1 || n > (1<<62)/unit.bytes {
			break
		}
		return n * unit.bytes, nil
	}
	return 0, fmt.Errorf("%q is no size: write bytes, or 100GB or 100GiB", text)
}

// Choose returns the disk to take of those that a machine has, with room for need bytes. Of two that are alike it takes the
// one whose path comes first.
func (s Selector) Choose(disks []ledger.Disk, need int64) (ledger.Disk, error) {
	var fit []ledger.Disk
	var misfits []string
	for _, disk := range disks {
		if reason := s.misfit(disk, need); reason != "" {
			misfits = append(misfits, disk.Path+" "+reason)
			continue
		}
		fit = append(fit, disk)
	}
	if len(fit) == 0 {
		slices.Sort(misfits)
		return ledger.Disk{}, fmt.Errorf("%w: %s", ErrNone, cmp.Or(strings.Join(misfits, ", "), "the machine has none"))
	}
	return slices.MinFunc(fit, func(a, b ledger.Disk) int {
		size := cmp.Compare(a.Bytes, b.Bytes)
		if s.Largest {
			size = -size
		}
		return cmp.Or(size, comparePaths(a.Path, b.Path))
	}), nil
}

// comparePaths has /dev/sdb before /dev/sdaa, as the kernel counts.
func comparePaths(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// misfit says why a disk is not to be taken, "" for one that may be.
func (s Selector) misfit(disk ledger.Disk, need int64) string {
	switch {
	case s.Path != "" && disk.Path != s.Path:
		return "is not " + s.Path
	case !matches(s.Serial, disk.Serial):
		return fmt.Sprintf("has serial %q", disk.Serial)
	case !matches(s.Model, disk.Model):
		return fmt.Sprintf("is a %q", disk.Model)
	case s.Min > 0 && disk.Bytes < s.Min:
		return fmt.Sprintf("has %d bytes, less than %d", disk.Bytes, s.Min)
	case s.Max > 0 && disk.Bytes > s.Max:
		return fmt.Sprintf("has %d bytes, more than %d", disk.Bytes, s.Max)
	case disk.Bytes < need:
		return fmt.Sprintf("has %d bytes, and %d are needed", disk.Bytes, need)
	}
	return ""
}

// matches tells whether a text is of a pattern. A slash is a letter as any other, unlike in paths.
func matches(pattern, text string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(strings.ToLower(pattern)), flat.Replace(strings.ToLower(strings.TrimSpace(text))))
	return pattern == "" || err == nil && ok
}
