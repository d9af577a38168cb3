// Package version orders the versions of releases: dotted numbers of any length, with pre-releases as semver.org has them. Any two
// strings have an order, so that what a server sends needs no check before it is compared. It is pure.
package version

import (
	"cmp"
	"strings"
)

// Compare orders versions: -1 when a is older than b, 1 when it is newer, 0 when neither is. They are dotted numbers of any
// length (2026.11.3; what is missing counts as 0), with a pre-release and build metadata as semver.org 2.0 has them (section 11):
// 1.4.0-rc.1 comes before 1.4.0, what follows + is ignored, and so is a leading v. What is not such a number is older than all
// that are, and ordered as text.
func Compare(a, b string) int {
	x, y := parseVersion(a), parseVersion(b)
	if !x.valid || !y.valid {
		switch {
		case x.valid:
			return 1
		case y.valid:
			return -1
		}
		return cmp.Compare(a, b)
	}
	for i := range max(len(x.core), len(y.core)) {
		if c := compareNumbers(at(x.core, i), at(y.core, i)); c != 0 {
			return c
		}
	}
	return comparePreReleases(x.pre, y.pre)
}

// Valid reports whether s is a version that Compare orders as a number, and safe as the name of a file.
func Valid(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, r := range s {
		if !(isDigit(byte(r)) || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(".-+", r)) || r > 127 {
			return false
		}
	}
	return parseVersion(s).valid
}

type version struct {
	core  []string // digits without leading zeros; "" is 0
	pre   []string
	valid bool
}

func parseVersion(s string) version {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+")
	core, pre, hasPre := strings.Cut(s, "-")
	v := version{core: strings.Split(core, "."), valid: true}
	for i, n := range v.core {
		v.valid = v.valid && isNumber(n)
		v.core[i] = strings.TrimLeft(n, "0")
	}
	if hasPre {
		v.pre = strings.Split(pre, ".")
		for _, p := range v.pre {
			v.valid = v.valid && p != ""
		}
	}
	return v
}

func at(numbers []string, i int) string {
	if i < len(numbers) {
		return numbers[i]
	}
	return ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNumber(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// compareNumbers compares numbers of any length without leading zeros.
func compareNumbers(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func comparePreReleases(a, b []string) int {
	switch {
	case len(a) == 0 || len(b) == 0:
		return cmp.Compare(len(b), len(a)) // none is the release itself, which comes last
	}
	for i := range min(len(a), len(b)) {
		if c := compareIdentifiers(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// compareIdentifiers has numbers before words.
func compareIdentifiers(a, b string) int {
	switch {
	case isNumber(a) && isNumber(b):
		return compareNumbers(strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0"))
	case isNumber(a):
		return -1
	case isNumber(b):
		return 1
	}
	return cmp.Compare(a, b)
}
