// Package bmc powers machines on and off and chooses what they boot next, through whatever a machine has for that.
//
// It holds the interfaces, and the two ways that need no controller in the machine: a magic packet that wakes it, and a
// person. The ones with a protocol are packages of their own, so that their libraries are linked where they are used;
// package bmctest is the contract that these pass. It knows nothing of clusters, and not why a machine boots.
//
// Errors wrap the classes of package providers: ErrAuth for a wrong password or a certificate that is not the expected one,
// ErrUnavailable where nothing or nothing sensible answers, ErrInvalid for what the machine cannot do.
package bmc

import (
	"context"

	"github.com/musterhq/muster/providers/metal/netboot"
)

// Power is whether a machine runs.
type Power string

// The powers. One that is changing counts as what it changes to.
const (
	On  Power = "on"
	Off Power = "off"
)

// Device is where a machine boots from.
type Device string

// The devices.
const (
	Network Device = "network"
	Disk    Device = "disk"
	Media   Device = "media" // that a MediaInserter inserted
)

// Starter powers a machine on. One that is on stays as it is, without an error. The call returns when the request was
// accepted, or sent where nobody accepts it.
type Starter interface {
	PowerOn(ctx context.Context) error
}

// Controller is a machine's management controller. Implementations are safe for concurrent use, keep no session between
// calls, and try each call once; their protocol's own repetition of lost packets is part of a try.
type Controller interface {
	Starter
	// Power asks whether the machine runs.
	Power(ctx context.Context) (Power, error)
	// PowerOff ends the machine at once, without asking its system. One that is off stays as it is.
	PowerOff(ctx context.Context) error
	// Reset restarts the machine at once, or powers it on when it is off.
	Reset(ctx context.Context) error
	// SetBoot chooses the device of the next boot, and of no later one. The firmware is the one that the machine is to
	// boot with, as controllers change that too when they are not told.
	SetBoot(ctx context.Context, device Device, firmware netboot.Firmware) error
}

// MediaInserter is implemented by controllers that lend the machine a disc over the network.
type MediaInserter interface {
	// InsertMedia inserts the image at a URL, in the place of any other. The controller fetches it.
	InsertMedia(ctx context.Context, url string) error
	// EjectMedia takes the image out. None is no error.
	EjectMedia(ctx context.Context) error
}
