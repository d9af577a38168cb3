// Package hostfs writes files below a root directory as a first boot needs it: each appears whole or not at all, is on
// the disk when the call returns, and cannot be led out of the root by a symbolic link.
//
// The root is "/" on a real host, and any directory elsewhere. Paths are absolute, and mean below the root. On "/" itself
// absolute links among the directories of a path are followed (/var/run is one on many systems); below another root
// they are refused. Owners are set only by root and only on "/", or where the caller gives numbers and may.
//
// The package knows nothing of what it writes.
package hostfs
