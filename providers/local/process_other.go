//go:build unix && !linux

package local

import "runtime"

// thisMachine returns the table of this machine's processes.
func thisMachine() table {
	if runtime.GOOS == "darwin" {
		return ps{environment: "-E"}
	}
	return ps{environment: "-e"}
}
