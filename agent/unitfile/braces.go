package unitfile

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxExpansion is the greatest number of names that ExpandBraces makes.
const MaxExpansion = 10_000

// What bounds the memory of an expansion: how deep braces nest, and how long the pattern may be, in bytes.
const (
	maxBraceDepth = 8
	maxPattern    = 1024
)

// ExpandBraces makes names from a pattern as a shell does: {a,b} stands for each of its parts, {1..6} for each number
// from one end to the other, with the zeros in front that an end has ({01..12}). Braces nest. The result is in the
// order written, at most MaxExpansion names.
func ExpandBraces(pattern string) ([]string, error) {
	if len(pattern) > maxPattern {
		return nil, &SyntaxError{Message: fmt.Sprintf("the pattern has %d bytes, more than %d", len(pattern), maxPattern)}
	}
	e := expansion{text: pattern}
	names, err := e.sequence("")
	if err != nil {
		return nil, err
	}
	if e.next < len(e.text) {
		return nil, e.fail(e.next, "a closing brace has no opening one", "")
	}
	return names, nil
}

// expansion reads a pattern from left to right.
type expansion struct {
	text  string
	next  int
	depth int
}

// sequence reads up to one of the bytes in end, which it leaves, or to a closing brace.
func (e *expansion) sequence(end string) ([]string, error) {
	names := []string{""}
	for e.next < len(e.text) {
		c := e.text[e.next]
		if c == '}' || strings.IndexByte(end, c) >= 0 {
			break
		}
		if c != '{' {
			n := strings.IndexAny(e.text[e.next:], "{}"+end)
			if n < 0 {
				n = len(e.text) - e.next
			}
			names = product(names, []string{e.text[e.next : e.next+n]})
			e.next += n
			continue
		}
		at := e.next
		parts, err := e.braces()
		if err != nil {
			return nil, err
		}
		if len(names)*len(parts) > MaxExpansion {
			return nil, e.fail(at, fmt.Sprintf("the pattern makes more than %d names", MaxExpansion), "")
		}
		names = product(names, parts)
	}
	return names, nil
}

func (e *expansion) braces() ([]string, error) {
	open := e.next
	if e.depth++; e.depth > maxBraceDepth {
		return nil, e.fail(open, "braces nest too deep", "")
	}
	defer func() { e.depth-- }()
	e.next++
	var all []string
	for parts := 1; ; parts++ {
		begin := e.next
		part, err := e.sequence(",")
		if err != nil {
			return nil, err
		}
		if e.next == len(e.text) {
			return nil, e.fail(open, "the brace is never closed", "")
		}
		if all = append(all, part...); len(all) > MaxExpansion {
			return nil, e.fail(open, fmt.Sprintf("the pattern makes more than %d names", MaxExpansion), "")
		}
		e.next++
		if e.text[e.next-1] == ',' {
			continue
		}
		if parts == 1 {
			return e.numbers(e.text[begin:e.next-1], open)
		}
		return all, nil
	}
}

// numbers expands FIRST..LAST.
func (e *expansion) numbers(text string, at int) ([]string, error) {
	from, to, ok := strings.Cut(text, "..")
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if !ok || err1 != nil || err2 != nil || first < 0 || last < 0 {
		return nil, e.fail(at, fmt.Sprintf("{%s} is neither a list nor a range of numbers", text), "write {a,b} or {1..6}")
	}
	step := 1
	if last < first {
		step = -1
	}
	if (last-first)*step >= MaxExpansion {
		return nil, e.fail(at, fmt.Sprintf("the pattern makes more than %d names", MaxExpansion), "")
	}
	width := 0
	for _, end := range []string{from, to} {
		if len(end) > 1 && end[0] == '0' {
			width = max(width, len(from), len(to))
		}
	}
	var names []string
	for n := first; ; n += step {
		names = append(names, fmt.Sprintf("%0*d", width, n))
		if n == last {
			return names, nil
		}
	}
}

func (e *expansion) fail(at int, message, hint string) error {
	return &SyntaxError{Offset: at, Message: fmt.Sprintf("in %q: %s", e.text, message), Hint: hint}
}

func product(heads, tails []string) []string {
	names := make([]string, 0, len(heads)*len(tails))
	for _, head := range heads {
		for _, tail := range tails {
			names = append(names, head+tail)
		}
	}
	return names
}
