// Package release finds out which release of muster or of a host's image a host may have, and fetches it.
//
// What may be had is said by TUF metadata (The Update Framework, specification 1.0.31): a root whose key is kept offline,
// targets, a snapshot and a timestamp, in a directory that any HTTP server can host (agent/release/repository makes it). It
// guarantees that nothing is named or kept that this metadata does not vouch for, with enough signatures, unexpired, and not
// older than what this host has seen; that what is read from anybody is bounded in size and time; and that each attack of the
// specification's section 1.5.2 is refused with an error of its own (Attack) and told as an alarm. Files come from peers before
// they come from the origin, go on where they were cut off, and are nobody else's before length and SHA-256 are right.
//
// Which hosts take a release when is a Policy, which is pure. The package knows no slots, no reboot and no lock.
package release
