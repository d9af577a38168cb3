// Package finding describes what is wrong with an input file: where it is, what is wrong and what to do about it.
//
// Every parser of the project (cluster file, cloud-config, unit file, driver settings) reports all its findings at
// once as a Findings value, which is an error. The package knows nothing of the formats themselves.
package finding

import (
	"fmt"
	"sort"
	"strings"
)

// Position is a place in a file. Line and Column count from 1; zero means unknown.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String renders file:line:column, leaving out what is unknown.
func (p Position) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
		if p.Column > 0 {
			s += fmt.Sprintf(":%d", p.Column)
		}
	}
	return s
}

// Finding is one thing wrong with an input. Hint says what to do next and may be empty.
type Finding struct {
	Position
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error renders "file:line:column: message (hint)".
func (f Finding) Error() string {
	var b strings.Builder
	if at := f.Position.String(); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString("; " + f.Hint)
	}
	return b.String()
}

// Findings is every finding of one run over an input, in the order of their positions. It is an error when not empty.
type Findings []Finding

// Add appends a finding.
func (fs *Findings) Add(at Position, hint, format string, args ...any) {
	*fs = append(*fs, Finding{Position: at, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// Err returns the findings as an error, sorted by position, or nil when there are none.
func (fs Findings) Err() error {
	if len(fs) == 0 {
		return nil
	}
	sort.SliceStable(fs, func(i, j int) bool {
		a, b := fs[i].Position, fs[j].Position
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return fs
}

// Error renders one finding a line.
func (fs Findings) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// DidYouMean returns `did you mean "x"?` for the candidate nearest to got by edit distance, or "" when none is near
// (more than a third of its letters, at most three, would have to change).
func DidYouMean(got string, candidates []string) string {
	best, bestDistance := "", 4
	for _, c := range candidates {
		if n := len(got) - len(c); n < -3 || n > 3 {
			continue
		}
		d := distance(strings.ToLower(got), strings.ToLower(c))
		if d < bestDistance && d <= (len(c)+2)/3 {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean `%s`?", best)
}

// distance is the optimal string alignment distance: edits and swaps of neighbours (Damerau 1964).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
