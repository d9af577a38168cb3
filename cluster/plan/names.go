package plan

import (
	"cmp"
	"strings"
)

// compareNames orders host names as people do: node-2 before node-10.
func compareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		var p, q string
		p, x = chunk(x)
		q, y = chunk(y)
		if c := compareChunks(p, q); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

// compareChunks compares two numbers by their value, anything else by its letters.
func compareChunks(p, q string) int {
	if digit(p[0]) && digit(q[0]) {
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		return cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q))
	}
	return cmp.Compare(p, q)
}

// chunk cuts the longest run of digits, or of others, off the front of s, which is not empty.
func chunk(s string) (first, rest string) {
	n := 1
	for n < len(s) && digit(s[n]) == digit(s[0]) {
		n++
	}
	return s[:n], s[n:]
}

func digit(c byte) bool { return '0' <= c && c <= '9' }
