//go:build unix && !linux

package local

// maxSocketPath is the longest path of a Unix socket on macOS and the BSDs, less the final NUL.
const maxSocketPath = 103
