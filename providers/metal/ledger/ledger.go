// Package ledger remembers the machines of a rack in a file: which there are, what they are made of, and where each stands.
//
// Every change is read, decided and on disk before it is answered, under a lock that processes share, so that a boot
// service and an operator's command see one truth and a power cut forgets nothing. It decides nothing itself: package
// netboot does. Records hold no secrets. What unknown machines say of themselves is kept, but of so many machines only.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/musterhq/muster/providers/crashsafe"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Facts are what a machine is made of, as its discovery system says. All of it can be forged.
type Facts struct {
	Serial      string   `json:"serial,omitempty"`
	CPUs        int      `json:"cpus,omitempty"`
	MemoryBytes int64    `json:"memoryBytes,omitempty"`
	Disks       []Disk   `json:"disks,omitempty"`
	NICs        []string `json:"nics,omitempty"` // MAC addresses
}

// Disk is one that a system can be installed to.
type Disk struct {
	Path   string `json:"path"` // such as /dev/sda
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
	Bytes  int64  `json:"bytes"`
}

// Record is what is remembered of a machine.
type Record struct {
	MAC     string          `json:"mac"` // of the interface that it boots from, as in netboot.Request
	Machine netboot.Machine `json:"machine"`
	Facts   Facts           `json:"facts"`
}

// MaxDiscovered is how many machines that nobody accepted are remembered, since anybody on the network can make them up.
const MaxDiscovered = 1000

// ErrFull is wrapped when a machine is not remembered for that reason.
var ErrFull = errors.New("too many unknown machines")

// Ledger is a file of records. The folder must exist.
type Ledger struct {
	Path string
}

// Records returns all records, sorted by MAC.
func (l Ledger) Records() ([]Record, error) {
	data, err := os.ReadFile(l.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot read what is remembered of machines: %w", err)
	}
	var records []Record
	if err := json.Unmarshal(data, &records); err != nil {
		return nil, fmt.Errorf("cannot read what is remembered of machines: %s is damaged: %w; restore it, or remove it and "+
			"accept the machines again", l.Path, err)
	}
	return records, nil
}

// Boot decides what a machine boots, and remembers that. A machine that there is no record of gets none.
func (l Ledger) Boot(ctx context.Context, request netboot.Request) (decision netboot.Decision, err error) {
	_, err = l.change(ctx, request.MAC, func(r *Record, _ []Record) error {
		decision, r.Machine = netboot.Decide(r.Machine, request)
		return nil
	})
	if err != nil {
		return netboot.Decision{}, err
	}
	return decision, nil
}

// Apply applies an event to a machine. Only netboot.Accept and Discover make a record.
func (l Ledger) Apply(ctx context.Context, mac string, event netboot.Event) (Record, error) {
	return l.change(ctx, mac, func(r *Record, all []Record) (err error) {
		r.Machine, err = netboot.Next(r.Machine, event)
		return errors.Join(err, room(*r, all))
	})
}

// Discover remembers what a machine said of itself, and the machine when it is unknown.
func (l Ledger) Discover(ctx context.Context, mac string, facts Facts) (Record, error) {
	return l.change(ctx, mac, func(r *Record, all []Record) (err error) {
		r.Facts = facts
		r.Machine, err = netboot.Next(r.Machine, netboot.Discover{})
		return errors.Join(err, room(*r, all))
	})
}

// Forget removes the record of a machine that is discovered or released, and whose disks need no wipe. One that there is no
// record of is forgotten already.
func (l Ledger) Forget(ctx context.Context, mac string) error {
	_, err := l.change(ctx, mac, func(r *Record, _ []Record) error {
		switch m := r.Machine; {
		case m.State == "", m.State == netboot.Discovered, m.State == netboot.Released && !m.Wipe:
			r.Machine = netboot.Machine{}
			return nil
		default:
			return fmt.Errorf("%w: machine %s is %s: release it first", netboot.ErrRefused, mac, m.State)
		}
	})
	return err
}

// room refuses a new record of an unknown machine where there are too many.
func room(r Record, all []Record) error {
	if r.Machine.State != netboot.Discovered || slices.ContainsFunc(all, func(o Record) bool { return o.MAC == r.MAC }) {
		return nil
	}
	discovered := 0
	for _, other := range all {
		if other.Machine.State == netboot.Discovered {
			discovered++
		}
	}
	if discovered >= MaxDiscovered {
		return fmt.Errorf("%w: %d wait to be accepted: accept or forget some", ErrFull, discovered)
	}
	return nil
}

// change lets edit change a machine's record, which is empty for an unknown one, and writes the records when it did. A
// record whose machine has no state is removed. On an error nothing is changed.
func (l Ledger) change(ctx context.Context, mac string, edit func(r *Record, all []Record) error) (Record, error) {
	lock, err := crashsafe.Acquire(ctx, l.Path+".lock")
	if err != nil {
		return Record{}, err
	}
	defer lock.Release()
	records, err := l.Records()
	if err != nil {
		return Record{}, err
	}
	at, known := slices.BinarySearchFunc(records, mac, func(r Record, mac string) int { return strings.Compare(r.MAC, mac) })
	before := Record{MAC: mac}
	if known {
		before = records[at]
	}
	after := before
	if err := edit(&after, records); err != nil {
		return before, err
	}
	unknown := after.Machine.State == ""
	switch {
	case unknown && !known, known && same(before, after):
		return after, nil
	case unknown:
		records = slices.Delete(records, at, at+1)
	case known:
		records[at] = after
	default:
		records = slices.Insert(records, at, after)
	}
	return after, l.write(records)
}

func same(a, b Record) bool {
	return a.Machine == b.Machine && a.Facts.Serial == b.Facts.Serial && a.Facts.CPUs == b.Facts.CPUs &&
		a.Facts.MemoryBytes == b.Facts.MemoryBytes && slices.Equal(a.Facts.Disks, b.Facts.Disks) && slices.Equal(a.Facts.NICs, b.Facts.NICs)
}

func (l Ledger) write(records []Record) error {
	data, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot remember machines: %w", err)
	}
	if err := crashsafe.WriteFileSync(l.Path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot remember machines: %w", err)
	}
	return nil
}
