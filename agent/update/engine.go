package update

import "context"

// Slot is one of the two places of a host that can hold a release.
type Slot struct {
	// Version is that of the release. Empty is a slot that holds nothing that can be booted.
	Version string
	// Good is that the release was found well on this host: it is booted without its tries being counted.
	Good bool
	// TriesLeft is how many boots of it may yet fail before the other slot is booted. -1 is not counted.
	TriesLeft int
}

// Slots is what an Engine sees of its host.
type Slots struct {
	Booted Slot // the one that the host runs from
	Other  Slot // the passive one
	// Next is the version that the next boot takes, if nothing fails.
	Next string
}

// File is one file of a release, on the host's disk, verified against the release's metadata when it was written.
type File struct {
	Name   string // as the metadata calls it
	Path   string // absolute
	Size   int64  // bytes
	SHA256 string // 64 lower-case hexadecimal digits, which whoever reads the file again may compare
}

// Release is what is to be installed. Its metadata was verified. Versions are ordered by Compare.
type Release struct {
	Version string
	Files   []File
}

// Engine writes releases to a host's passive slot and boots it. Every call is idempotent, and a power cut at any point of it
// leaves a booted slot that boots: the calls are made again after it. One call is made at a time. An error leaves things as they
// were or further on, and the call is repeated later.
type Engine interface {
	// Name is what the cluster file calls the engine.
	Name() string

	// Slots tells what the slots hold and which of them runs and will run. It changes nothing.
	Slots(ctx context.Context) (Slots, error)

	// Stage has the passive slot hold the release, complete and on stable storage, each file with the SHA-256 that the release
	// says. It is not taken by the next boot yet. Until it returns nil the passive slot is told as empty or as what it was.
	// A slot that holds that version already is left alone. The version that is booted cannot be staged.
	Stage(ctx context.Context, r Release) error

	// Switch has the next boot take the passive slot, which holds the version, and counts its tries. When they are used up
	// without Good, the host boots the other slot by itself, without this program's help. Tries are set once: a repeated
	// call gives no more of them.
	Switch(ctx context.Context, version string) error

	// Reboot reboots the host and returns when that is under way, which may be never.
	Reboot(ctx context.Context) error

	// Good says that the booted slot is good: its tries are counted no more and it is what the next boots take.
	Good(ctx context.Context) error

	// Forget empties the passive slot if it holds that version, so that it is never booted, as after a release failed or was
	// revoked. The next boot takes the booted slot again. The booted version is never emptied, and that is no error.
	Forget(ctx context.Context, version string) error
}
