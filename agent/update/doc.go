// Package update brings a host from one release to the next and back: check, download, verify, stage in the passive slot, wait
// for the reboot lock, drain, reboot, ask whether the host is well, then mark the slot good and give the lock back, or let the
// host fall back and say so.
//
// It guarantees that nothing is booted that was not verified, that is older than allowed, expired or has failed here before;
// that the host holds the reboot lock whenever this package reboots it, and gives it back only when the host is well; and
// that whatever a power cut leaves, the next start goes on from. It knows no image format, no boot loader and no server of
// releases: an Engine writes slots and boots them, a Source knows releases, and whoever calls wires the two.
package update
