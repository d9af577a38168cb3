package enrol

import (
	"errors"
	"fmt"
	"net"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Everything is asked by POST with a JSON body, and answered with JSON, but for the user-data, which is itself.
const (
	pathFacts    = "/enrol/facts"    // factsRequest → nothing
	pathClaim    = "/enrol/claim"    // claimRequest → Order
	pathProgress = "/enrol/progress" // progressRequest → nothing
	pathOutcome  = "/enrol/outcome"  // outcomeRequest → nothing
	pathUserData = "/enrol/user-data"
)

// Limits of what is taken. No machine that is known of comes near them.
const (
	maxFacts    = 64 << 10 // bytes of a body with facts
	maxRequest  = 4 << 10  // bytes of any other
	maxAnswer   = 1 << 20
	maxParts    = 128 // disks, and interfaces
	maxText     = 128 // bytes of a name or number of a part
	maxReason   = 512 // bytes of why something failed
	maxCPUs     = 1 << 16
	maxCapacity = 1 << 60 // bytes of memory, and of a disk
)

type (
	factsRequest struct {
		MAC   string       `json:"mac"`
		Facts ledger.Facts `json:"facts"`
	}
	claimRequest struct {
		Boot  string       `json:"boot"`
		Facts ledger.Facts `json:"facts"`
	}
	progressRequest struct {
		Boot string `json:"boot"`
		Progress
	}
	outcomeRequest struct {
		Boot   string `json:"boot"`
		Reason string `json:"reason,omitempty"`
	}
	userDataRequest struct {
		Boot string `json:"boot"`
	}
	failure struct {
		Error string `json:"error"`
	}
)

// Order is what a machine is to do. It says more than the kernel's command line, and came safely.
type Order struct {
	Action       netboot.Action `json:"action"`
	Attempt      int            `json:"attempt"`
	Host         string         `json:"host,omitempty"`         // name that the machine gets
	Instance     string         `json:"instance,omitempty"`     // instance ID that the host's data source tells
	Image        string         `json:"image,omitempty"`        // http or https URL of a disk image
	SHA256       string         `json:"sha256,omitempty"`       // of the image, in hexadecimal
	Bytes        int64          `json:"bytes,omitempty"`        // of the image
	Disk         string         `json:"disk,omitempty"`         // selector of the disk; to wipe, empty means all disks
	NetworkFirst bool           `json:"networkFirst,omitempty"` // the firmware tries the network first, as nobody could order it to later
}

// Stage is a part of an installation or a wipe.
type Stage string

// The stages in their order.
const (
	StageStarted     Stage = "started"     // the disk is about to change
	StageWriting     Stage = "writing"     // or erasing
	StageVerifying   Stage = "verifying"   // what was written is read back
	StageConfiguring Stage = "configuring" // user-data and the firmware's order are written
)

// Progress is how far a machine is.
type Progress struct {
	Stage Stage  `json:"stage"`
	Disk  string `json:"disk,omitempty"`  // that is worked on, and why it was chosen
	Done  int64  `json:"done,omitempty"`  // bytes of this stage
	Total int64  `json:"total,omitempty"` // bytes that this stage has
}

func (p Progress) check() error {
	switch p.Stage {
	case StageStarted, StageWriting, StageVerifying, StageConfiguring:
	default:
		return errors.New("there is no such stage")
	}
	if p.Done < 0 || p.Total < 0 || p.Done > maxCapacity || p.Total > maxCapacity {
		return errors.New("bytes are out of range")
	}
	return checkText("disk", p.Disk, maxReason)
}

// checkFacts refuses facts that no machine has.
func checkFacts(f ledger.Facts) error {
	if len(f.Disks) > maxParts || len(f.NICs) > maxParts {
		return fmt.Errorf("more than %d disks or interfaces", maxParts)
	}
	if f.CPUs < 0 || f.CPUs > maxCPUs || f.MemoryBytes < 0 || f.MemoryBytes > maxCapacity {
		return errors.New("processors or memory are out of range")
	}
	if err := checkText("serial", f.Serial, maxText); err != nil {
		return err
	}
	for _, mac := range f.NICs {
		if err := checkMAC(mac); err != nil {
			return err
		}
	}
	for _, d := range f.Disks {
		if d.Bytes < 0 || d.Bytes > maxCapacity {
			return errors.New("a disk's size is out of range")
		}
		for name, text := range map[string]string{"path": d.Path, "model": d.Model, "serial": d.Serial} {
			if err := checkText("a disk's "+name, text, maxText); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkMAC(text string) error {
	if mac, err := net.ParseMAC(text); err != nil || len(mac) != 6 || mac.String() != text {
		return errors.New("a MAC is six pairs of lower-case hexadecimal digits with colons")
	}
	return nil
}

// checkText takes what a terminal shows as it is.
func checkText(name, text string, most int) error {
	if len(text) > most || !utf8.ValidString(text) {
		return fmt.Errorf("%s is no text of at most %d bytes", name, most)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%s has a character that cannot be printed", name)
		}
	}
	return nil
}
