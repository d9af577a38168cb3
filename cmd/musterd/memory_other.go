//go:build !linux

package main

import (
	"log/slog"
	"runtime/debug"
)

// trim gives back the memory that only the start needed.
func trim(*slog.Logger) { debug.FreeOSMemory() }
