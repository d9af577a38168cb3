package ab

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// entry is a boot entry of the ESP: a unified kernel image, whose name counts its boots (systemd's "Automatic Boot
// Assessment": NAME+LEFT-DONE.efi, NAME+LEFT.efi, or NAME.efi for one that is not counted).
type entry struct {
	name    string // of the file
	version string
	left    int // tries left, -1 when boots are not counted
	done    int // tries that began
}

// parseEntry reads a file's name. It is false of files that are no boot entry of ours.
func parseEntry(name string) (entry, bool) {
	rest, ours := strings.CutPrefix(name, prefix)
	rest, kernel := strings.CutSuffix(rest, kernelSuffix)
	if !ours || !kernel {
		return entry{}, false
	}
	version, counter, counted := strings.Cut(rest, "+")
	e := entry{name: name, version: version, left: -1}
	if checkVersion(version) != nil {
		return entry{}, false
	}
	if !counted {
		return e, true
	}
	left, done, both := strings.Cut(counter, "-")
	var bad error
	if e.left, bad = count(left); bad != nil {
		return entry{}, false
	}
	if both {
		if e.done, bad = count(done); bad != nil {
			return entry{}, false
		}
	}
	return e, true
}

func count(digits string) (int, error) {
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), err
}

// fileName is the name of a version's entry with these counters.
func fileName(version string, left, done int) string {
	if left < 0 {
		return prefix + version + kernelSuffix
	}
	return fmt.Sprintf("%s%s+%d-%d%s", prefix, version, left, done, kernelSuffix)
}

// bootOrder puts first what systemd-boot boots next. It has entries without tries left last and newer versions before older
// ones; when all tries are used up, the newest boots all the same.
func bootOrder(entries []entry) {
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(last(a), last(b)), compareVersions(b.version, a.version), cmp.Compare(b.left, a.left), cmp.Compare(a.done, b.done))
	})
}

func last(e entry) int {
	if e.left == 0 {
		return 1
	}
	return 0
}

// compareVersions orders versions as systemd-boot does, which is not as semantic versions are ordered (UAPI group, Version
// Format Specification, UAPI.10): 1.0-rc1 comes after 1.0, and before 1.0.1.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, separates), strings.TrimLeftFunc(b, separates)
		mark, marked := firstMark(a, b)
		switch x, y := begins(a, mark), begins(b, mark); {
		case marked && x && y && mark == 0:
			return 0
		case marked && x && y:
			a, b = a[1:], b[1:]
			continue
		case marked && x:
			return -1
		case marked:
			return 1
		}
		x, y := part(a), part(b)
		if isDigits(x) || isDigits(y) {
			m, n := strings.TrimLeft(digits(a), "0"), strings.TrimLeft(digits(b), "0")
			if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
				return c
			}
			a, b = a[len(digits(a)):], b[len(digits(b)):]
			continue
		}
		if c := cmp.Compare(x, y); c != 0 { // capitals before small letters, what is shorter first
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
}

// separates reports characters that a version's parts do not hold and that have no meaning of their own.
func separates(r rune) bool {
	return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("~-^.", r))
}

// firstMark is the mark that decides between a and b, the one that makes a version oldest first, and whether there is one.
func firstMark(a, b string) (byte, bool) {
	for _, mark := range []byte{'~', 0, '-', '^', '.'} {
		if begins(a, mark) || begins(b, mark) {
			return mark, true
		}
	}
	return 0, false
}

// begins reports whether s begins with the mark; 0 is its end.
func begins(s string, mark byte) bool {
	if mark == 0 {
		return s == ""
	}
	return s != "" && s[0] == mark
}

func digits(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))] }

func isDigits(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// part is the run of digits or of letters that s begins with.
func part(s string) string {
	if d := digits(s); d != "" {
		return d
	}
	letters := strings.IndexFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') })
	if letters < 0 {
		return s
	}
	return s[:letters]
}
