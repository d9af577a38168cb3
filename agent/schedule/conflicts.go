package schedule

import (
	"path"
	"slices"
	"strings"
)

// conflicts knows which units must not share a host. A unit's Conflicts are shell patterns of unit names, and bind both
// sides. Every distinct pattern has a number. For each host it counts, per pattern, the units there that have the
// pattern among their Conflicts and the units there whose names match it, so that asking for one host costs as much as
// the unit has patterns, however many units are there.
type conflicts struct {
	numbers  map[string]int32
	patterns []pattern

	exact    map[string]int32 // patterns without metacharacters, by name
	prefixed affixes          // the others, by the text before the first metacharacter
	suffixed affixes          // or after the last one, whichever is longer

	declared map[hostPattern]int32
	matching map[hostPattern]int32
}

type pattern struct {
	text           string
	glob           bool   // it has metacharacters
	prefix, suffix string // without them
}

// mayMatch says whether the pattern may match names that begin and end so. It is right when it says no.
func (p *pattern) mayMatch(prefix, suffix string) bool {
	if !p.glob {
		return strings.HasPrefix(p.text, prefix) && strings.HasSuffix(p.text, suffix)
	}
	n, m := min(len(p.prefix), len(prefix)), min(len(p.suffix), len(suffix))
	return p.prefix[:n] == prefix[:n] && p.suffix[len(p.suffix)-m:] == suffix[len(suffix)-m:]
}

// matchesBetween says whether the pattern matches every name that begins and ends so, whatever is between. It is right
// when it says yes.
func (p *pattern) matchesBetween(prefix, suffix string) bool {
	return p.glob && p.text == p.prefix+"*"+p.suffix && strings.HasPrefix(prefix, p.prefix) && strings.HasSuffix(suffix, p.suffix)
}

// affixes are patterns by how a name must begin, or end.
type affixes struct {
	patterns map[string][]int32
	lengths  []int // of the keys, ascending
}

func (a *affixes) add(affix string, n int32) {
	if a.patterns[affix] == nil {
		if i, found := slices.BinarySearch(a.lengths, len(affix)); !found {
			a.lengths = slices.Insert(a.lengths, i, len(affix))
		}
	}
	a.patterns[affix] = append(a.patterns[affix], n)
}

// hostPattern is a host's number and a pattern's.
type hostPattern uint64

func pair(host, pattern int32) hostPattern { return hostPattern(host)<<32 | hostPattern(pattern) }

func newConflicts() *conflicts {
	return &conflicts{
		numbers: make(map[string]int32), exact: make(map[string]int32),
		prefixed: affixes{patterns: make(map[string][]int32)}, suffixed: affixes{patterns: make(map[string][]int32)},
		declared: make(map[hostPattern]int32), matching: make(map[hostPattern]int32),
	}
}

// add returns the numbers of patterns, sorted and each once.
func (c *conflicts) add(texts []string) []int32 {
	if len(texts) == 0 {
		return nil
	}
	numbers := make([]int32, 0, len(texts))
	for _, text := range texts {
		n, ok := c.numbers[text]
		if !ok {
			n = int32(len(c.patterns))
			c.numbers[text] = n
			c.index(text, n)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

const metacharacters = `*?[\`

func (c *conflicts) index(text string, n int32) {
	first := strings.IndexAny(text, metacharacters)
	if first < 0 {
		c.patterns = append(c.patterns, pattern{text: text})
		c.exact[text] = n
		return
	}
	p := pattern{text: text, glob: true, prefix: text[:first]}
	// What follows the last bracket that may close a class is literal; what follows one that opens a class, or a
	// backslash, is not.
	if last := strings.LastIndexAny(text, metacharacters+"]"); text[last] != '\\' && text[last] != '[' {
		p.suffix = text[last+1:]
	}
	c.patterns = append(c.patterns, p)
	if len(p.suffix) > len(p.prefix) {
		c.suffixed.add(p.suffix, n)
	} else {
		c.prefixed.add(p.prefix, n)
	}
}

// matched returns the numbers of the patterns that a name matches, sorted. Malformed patterns match nothing.
func (c *conflicts) matched(name string) []int32 {
	var numbers []int32
	if n, ok := c.exact[name]; ok {
		numbers = append(numbers, n)
	}
	for _, length := range c.prefixed.lengths {
		if length > len(name) {
			break
		}
		numbers = c.match(name, c.prefixed.patterns[name[:length]], numbers)
	}
	for _, length := range c.suffixed.lengths {
		if length > len(name) {
			break
		}
		numbers = c.match(name, c.suffixed.patterns[name[len(name)-length:]], numbers)
	}
	slices.Sort(numbers)
	return numbers
}

// match appends those of the candidates that the name matches.
func (c *conflicts) match(name string, candidates, numbers []int32) []int32 {
	for _, n := range candidates {
		p := &c.patterns[n]
		if strings.HasPrefix(name, p.prefix) && strings.HasSuffix(name, p.suffix) && matchPattern(p.text, name) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func matchPattern(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// on says whether a unit, by its patterns and those that match its name, conflicts with any that is counted on the host.
// The unit itself must not be.
func (c *conflicts) on(host int32, patterns, matched []int32) bool {
	for _, p := range patterns {
		if c.matching[pair(host, p)] > 0 {
			return true
		}
	}
	for _, p := range matched {
		if c.declared[pair(host, p)] > 0 {
			return true
		}
	}
	return false
}

// count adds a unit to a host, or takes it away with by = -1.
func (c *conflicts) count(host int32, patterns, matched []int32, by int32) {
	for _, p := range patterns {
		c.declared[pair(host, p)] += by
	}
	for _, p := range matched {
		c.matching[pair(host, p)] += by
	}
}

// conflict says whether two units, by name and patterns, exclude each other. It is the rule itself, for explanations.
func conflict(a, b *Unit) bool {
	if a.Name == b.Name {
		return false
	}
	for _, p := range a.Requirements.Conflicts {
		if matchPattern(p, b.Name) {
			return true
		}
	}
	for _, p := range b.Requirements.Conflicts {
		if matchPattern(p, a.Name) {
			return true
		}
	}
	return false
}
