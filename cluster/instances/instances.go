// Package instances is sets of the instances of a template, which are numbered from 1. A set is kept as its ranges, so
// that it is as small as it has gaps: a million instances in a row are two numbers, in memory and in a record.
package instances

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Max is the greatest number that an instance may have.
const Max = 1 << 30

// Range is instances in a row, First and Last included.
type Range struct{ First, Last int }

// Len is how many instances the range has.
func (r Range) Len() int { return r.Last - r.First + 1 }

// Set is a set of instances: ranges in ascending order that neither touch nor overlap, none of them empty. Sets are
// values: whoever has one does not change it.
type Set []Range

// Of returns the instances that are in any of the ranges. Empty ranges are left out.
func Of(ranges ...Range) Set {
	ranges = slices.DeleteFunc(slices.Clone(ranges), func(r Range) bool { return r.Len() <= 0 })
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var s Set
	for _, r := range ranges {
		if n := len(s); n > 0 && r.First <= s[n-1].Last+1 {
			s[n-1].Last = max(s[n-1].Last, r.Last)
			continue
		}
		s = append(s, r)
	}
	return s
}

// UpTo returns the instances 1 to n.
func UpTo(n int) Set { return Of(Range{1, n}) }

// Parse reads what String wrote: "1-200,305". The empty text is the empty set. Only that very form is taken, so that
// equal sets are equal texts.
func Parse(text string) (Set, error) {
	var s Set
	if text == "" {
		return s, nil
	}
	last := -1
	for part := range strings.SplitSeq(text, ",") {
		first, end, isRange := strings.Cut(part, "-")
		r := Range{First: number(first)}
		if r.Last = r.First; isRange {
			r.Last = number(end)
		}
		if r.First < 1 || r.First <= last+1 && last > 0 || isRange && r.Last <= r.First {
			return nil, fmt.Errorf("%q is no set of instances such as 1-200,305", text)
		}
		s, last = append(s, r), r.Last
	}
	return s, nil
}

// number reads a decimal without sign and leading zeros; 0 for anything else.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > Max || strconv.Itoa(n) != text {
		return 0
	}
	return n
}

// String renders the set as Parse reads it.
func (s Set) String() string {
	var b []byte
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.First), 10)
		if r.Last > r.First {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(r.Last), 10)
		}
	}
	return string(b)
}

// MarshalText is String, for JSON.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is Parse, for JSON.
func (s *Set) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}

// Len is how many instances there are.
func (s Set) Len() int {
	n := 0
	for _, r := range s {
		n += r.Len()
	}
	return n
}

// Has says whether an instance is in the set.
func (s Set) Has(n int) bool {
	i, found := slices.BinarySearchFunc(s, n, func(r Range, n int) int { return cmp.Compare(r.First, n) })
	return found || i > 0 && s[i-1].Last >= n
}

// All yields the instances in ascending order.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, r := range s {
			for n := r.First; n <= r.Last; n++ {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// Union returns the instances of both sets.
func (s Set) Union(t Set) Set {
	switch {
	case len(t) == 0:
		return s
	case len(s) == 0:
		return t
	}
	return Of(append(slices.Clone(s), t...)...)
}

// Minus returns the instances that are not in t.
func (s Set) Minus(t Set) Set {
	var rest Set
	for _, r := range s {
		first := r.First
		i, _ := slices.BinarySearchFunc(t, r.First, func(r Range, n int) int { return cmp.Compare(r.Last, n) })
		for ; i < len(t) && t[i].First <= r.Last; i++ {
			if t[i].First > first {
				rest = append(rest, Range{first, t[i].First - 1})
			}
			first = t[i].Last + 1
		}
		if first <= r.Last {
			rest = append(rest, Range{first, r.Last})
		}
	}
	return rest
}

// Intersect returns the instances that are in both.
func (s Set) Intersect(t Set) Set { return s.Minus(s.Minus(t)) }

// Equal says whether the sets are the same.
func (s Set) Equal(t Set) bool { return slices.Equal(s, t) }
