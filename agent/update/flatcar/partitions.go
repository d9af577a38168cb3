package flatcar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/musterhq/muster/agent/update"
)

// Programs of Flatcar: cgpt reads and sets the bits of a GPT entry that the boot loader looks at (tries, successful,
// priority), rootdev tells what is mounted.
const (
	cgpt    = "/usr/bin/cgpt"
	rootdev = "/usr/bin/rootdev"
	usrType = "flatcar-usr"
)

// partition is one of the two that /usr can be on.
type partition struct {
	device          string // "/dev/sda3"
	drive, number   string // "/dev/sda", "3"
	priority, tries int
	good            bool
}

// bootable is what the boot loader takes for that.
func (p partition) bootable() bool { return p.priority > 0 && (p.good || p.tries > 0) }

func (p partition) slot(version string) update.Slot {
	switch {
	case version == "":
		return update.Slot{TriesLeft: -1}
	case p.good:
		return update.Slot{Version: version, Good: true, TriesLeft: -1}
	}
	return update.Slot{Version: version, TriesLeft: p.tries}
}

// partitions finds the one that runs and the other one.
func (e *Engine) partitions(ctx context.Context) (running, passive partition, err error) {
	out, err := e.host.Run(ctx, rootdev, "-s", "/usr")
	if err != nil {
		return running, passive, err
	}
	runs := strings.TrimSpace(string(out))
	if out, err = e.host.Run(ctx, cgpt, "find", "-t", usrType); err != nil {
		return running, passive, err
	}
	devices := strings.Fields(string(out))
	if len(devices) != 2 || devices[0] != runs && devices[1] != runs {
		return running, passive, fmt.Errorf("/usr is on %s, and the partitions for it are %v: it has to be one of two", runs, devices)
	}
	for _, device := range devices {
		p, err := e.partition(ctx, device)
		if err != nil {
			return running, passive, err
		}
		if device == runs {
			running = p
		} else {
			passive = p
		}
	}
	return running, passive, nil
}

func (e *Engine) partition(ctx context.Context, device string) (partition, error) {
	node, err := filepath.EvalSymlinks(e.path("/sys/class/block/" + filepath.Base(device)))
	if err != nil {
		return partition{}, err
	}
	number, err := os.ReadFile(filepath.Join(node, "partition"))
	if err != nil {
		return partition{}, err
	}
	p := partition{device: device, drive: "/dev/" + filepath.Base(filepath.Dir(node)), number: strings.TrimSpace(string(number))}
	var successful int
	for flag, value := range map[string]*int{"-P": &p.priority, "-T": &p.tries, "-S": &successful} {
		out, err := e.host.Run(ctx, cgpt, "show", "-i", p.number, flag, p.drive)
		if err == nil {
			*value, err = strconv.Atoi(strings.TrimSpace(string(out)))
		}
		if err != nil {
			return p, errors.Join(fmt.Errorf("cannot read %s of %s", flag, device), err)
		}
	}
	p.good = successful == 1
	return p, nil
}

// prefer has the boot loader take a partition before the other one.
func (e *Engine) prefer(ctx context.Context, p partition) error {
	_, err := e.host.Run(ctx, cgpt, "prioritize", "-i", p.number, p.drive)
	return err
}

// mark sets whether a partition was booted well, and how often it may be tried.
func (e *Engine) mark(ctx context.Context, p partition, successful, tries int) error {
	_, err := e.host.Run(ctx, cgpt, "add", "-i", p.number, "-S", strconv.Itoa(successful), "-T", strconv.Itoa(tries), p.drive)
	return err
}
