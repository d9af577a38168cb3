package update

import "github.com/musterhq/muster/agent/version"

// Compare orders versions, see version.Compare: -1 when a is older than b, 1 when it is newer, 0 when neither is.
func Compare(a, b string) int { return version.Compare(a, b) }

// ValidVersion reports whether s is a version that Compare orders as a number, and safe as the name of a file.
func ValidVersion(s string) bool { return version.Valid(s) }
