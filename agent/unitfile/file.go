package unitfile

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // fleet's format, not a protection
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Option is one assignment, with its place in the file.
type Option struct {
	Section string
	Name    string
	// Value is as written, without the white space around it. A value over several lines keeps its backslashes and
	// newlines, as fleet kept them; File.Value and File.Values join them.
	Value string
	Line  int
	// Column is where Value begins, in characters from 1.
	Column int
}

// File is a parsed unit file. Options keep the order of the file.
type File struct {
	Options []Option
}

// Values returns every value of a setting that is a list: all assignments in order, where an empty one forgets those
// before it. Lines that were continued are joined.
func (f File) Values(section, name string) []string {
	var values []string
	for _, o := range f.options(section, name) {
		values = append(values, join(o.Value))
	}
	return values
}

// Value returns the last value of a setting that is not a list. It is false when there is none or the last is empty,
// which means the default.
func (f File) Value(section, name string) (string, bool) {
	if o, ok := f.last(section, name); ok {
		return join(o.Value), true
	}
	return "", false
}

// Bytes renders the file without comments. Parsing the result gives the same options, but for their lines.
func (f File) Bytes() []byte {
	var sections []*unit.UnitSection
	for _, o := range f.Options {
		if len(sections) == 0 || sections[len(sections)-1].Section != o.Section {
			sections = append(sections, &unit.UnitSection{Section: o.Section})
		}
		last := sections[len(sections)-1]
		last.Entries = append(last.Entries, &unit.UnitEntry{Name: o.Name, Value: o.Value})
	}
	return drain(unit.SerializeSections(sections))
}

// Hash is fleet's hash of a unit: SHA-1, in hexadecimal, of the options serialised with each section once, in the
// order in which sections appear (COMPAT: fleet API).
func (f File) Hash() string {
	options := make([]*unit.UnitOption, len(f.Options))
	for i, o := range f.Options {
		options[i] = unit.NewUnitOption(o.Section, o.Name, o.Value)
	}
	sum := sha1.Sum(drain(unit.Serialize(options))) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}

// drain reads what go-systemd serialised: a buffer, whose Read fails only at its end.
func drain(r io.Reader) []byte {
	var b bytes.Buffer
	_, _ = b.ReadFrom(r)
	return b.Bytes()
}

// options returns the assignments that count for a list.
func (f File) options(section, name string) []Option {
	var options []Option
	for _, o := range f.Options {
		if o.Section != section || o.Name != name {
			continue
		}
		if o.Value == "" {
			options = nil
			continue
		}
		options = append(options, o)
	}
	return options
}

// last returns the assignment that counts for a setting that is not a list.
func (f File) last(section, name string) (Option, bool) {
	for _, o := range slices.Backward(f.Options) {
		if o.Section == section && o.Name == name {
			return o, o.Value != ""
		}
	}
	return Option{}, false
}

// join makes one line of a value over several: backslash and newline become white space, and so do comment lines in
// between (systemd.syntax(7)). The length stays the same, so that an offset holds for both.
func join(value string) string {
	if !strings.Contains(value, "\n") {
		return value
	}
	lines := strings.SplitAfter(value, "\n")
	for i, line := range lines {
		switch {
		case i > 0 && isComment(line):
			lines[i] = strings.Repeat(" ", len(line))
		case strings.HasSuffix(line, "\\\n"):
			lines[i] = line[:len(line)-2] + "  "
		}
	}
	return strings.Join(lines, "")
}

// at is the position of a byte of an option's value.
func (o Option) at(file string, offset int) finding.Position {
	p := finding.Position{File: file, Line: o.Line, Column: o.Column}
	before := o.Value[:min(max(offset, 0), len(o.Value))]
	if n := strings.Count(before, "\n"); n > 0 {
		p.Line += n
		p.Column = 1
		before = before[strings.LastIndexByte(before, '\n')+1:]
	}
	p.Column += utf8.RuneCountInString(before)
	return p
}

func isComment(line string) bool {
	line = strings.TrimLeft(line, whitespace)
	return line != "" && (line[0] == '#' || line[0] == ';')
}

const whitespace = " \t\n\r\v\f"
