package netboot

import "fmt"

// Arch is a processor architecture by Go's name.
type Arch string

// The architectures that can be booted.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Firmware is what runs before the system.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Request is what a machine says of itself when it asks for its script. All of it can be forged.
type Request struct {
	MAC      string // of the interface that it boots from: six pairs of lower-case hexadecimal digits with colons
	UUID     string // from SMBIOS, may be empty
	Arch     Arch
	Firmware Firmware
}

// Action is what a machine is to do.
type Action string

// The actions. All but LocalDisk load a kernel over the network.
const (
	ActionDiscover  Action = "discover" // report what it is made of, touch no disk, wait
	ActionInstall   Action = "install"  // write the image to the disk, verify it, boot it
	ActionMemory    Action = "memory"   // run from memory
	ActionLocalDisk Action = "disk"     // boot the local disk
	ActionRescue    Action = "rescue"   // give the operator a shell, touch no disk
	ActionWipe      Action = "wipe"     // erase the disks
)

// Decision is an action with its reason, in words for the operator.
type Decision struct {
	Action  Action
	Attempt int // that reports of ActionInstall, ActionMemory and ActionWipe carry
	Reason  string
}

// Decide answers a machine that boots now, and returns what to remember of it. The caller saves that first, and sends
// nothing when it cannot.
func Decide(m Machine, r Request) (Decision, Machine) {
	switch {
	case m.State == "":
		return Decision{ActionDiscover, 0, "it is not in the inventory"}, m
	case m.Arch != "" && r.Arch != m.Arch:
		reason := fmt.Sprintf("the inventory says that it is %s, and it boots as %s", m.Arch, r.Arch)
		return Decision{ActionDiscover, 0, reason}, m
	case m.Rescue && !m.working():
		m.Rescue = false
		return Decision{ActionRescue, 0, "the operator asked for it"}, m
	}
	switch m.State {
	case Installing:
		return decideInstalling(m)
	case Provisioned:
		if m.Mode == FromMemory {
			return Decision{ActionMemory, m.Attempt, "it runs from memory"}, m
		}
		return Decision{ActionLocalDisk, 0, "it is installed"}, m
	case Released:
		return decideReleased(m)
	case Failed:
		return Decision{ActionDiscover, 0, "it failed: " + m.Reason}, m
	case Accepted:
		return Decision{ActionDiscover, 0, "it is accepted and waits for muster up"}, m
	}
	return Decision{ActionDiscover, 0, "it is not accepted"}, m
}

func decideInstalling(m Machine) (Decision, Machine) {
	action := ActionInstall
	if m.Mode == FromMemory {
		action = ActionMemory
	}
	switch {
	case m.Begun:
		m = m.fail(fmt.Sprintf("it booted again in the middle of attempt %d: the power failed, or its system crashed", m.Attempt))
	case m.Boots >= MaxBoots:
		m = m.fail(silent(m))
	default:
		m.Boots++
		return Decision{action, m.Attempt, fmt.Sprintf("attempt %d, boot %d of %d", m.Attempt, m.Boots, MaxBoots)}, m
	}
	return Decision{ActionDiscover, 0, "it failed: " + m.Reason}, m
}

// decideReleased wipes where it was asked for. Unlike an installation, a wipe that was cut short may be repeated.
func decideReleased(m Machine) (Decision, Machine) {
	switch {
	case !m.Wipe:
		return Decision{ActionDiscover, 0, "it is released"}, m
	case m.Boots >= MaxBoots:
		m = m.fail(silent(m))
		return Decision{ActionDiscover, 0, "it failed: " + m.Reason}, m
	}
	m.Boots++
	return Decision{ActionWipe, m.Attempt, fmt.Sprintf("attempt %d, boot %d of %d", m.Attempt, m.Boots, MaxBoots)}, m
}

func silent(m Machine) string {
	return fmt.Sprintf("it fetched attempt %d %d times, and no report of its end came: look at its console",
		m.Attempt, m.Boots)
}
