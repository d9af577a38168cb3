package unitfile

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// MaxSize is the largest unit file, in bytes: systemd's limit for one line, and more than any unit needs.
const MaxSize = 1 << 20

// maxFindings bounds how many findings of a kind are gathered: a file with more is no unit file.
const maxFindings = 100

// scanner cuts a unit file into assignments. go-systemd's parser, with which it agrees on every file both accept (a
// fuzz target compares them), stops at the first error and tells no position.
type scanner struct {
	name     string
	lines    []string
	next     int // index of the next line
	section  string
	options  []Option
	problems finding.Findings
	warnings finding.Findings
}

func scan(name string, content []byte) *scanner {
	s := &scanner{name: name}
	if !s.readable(content) {
		return s
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(content), "\ufeff"), "\r\n", "\n")
	if i := strings.IndexByte(text, '\r'); i >= 0 {
		at := finding.Position{File: name, Line: strings.Count(text[:i], "\n") + 1}
		s.problems.Add(at, "end lines with a newline", "a carriage return stands inside the line")
		return s
	}
	s.lines = strings.Split(text, "\n")
	for s.next < len(s.lines) && len(s.problems) < maxFindings {
		s.line()
	}
	return s
}

// readable reports what makes the whole file unfit to be read as text.
func (s *scanner) readable(content []byte) bool {
	position := func(offset int) finding.Position {
		before := content[:offset]
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		return finding.Position{File: s.name, Line: bytes.Count(before, []byte("\n")) + 1, Column: column}
	}
	if len(content) > MaxSize {
		s.problems.Add(finding.Position{File: s.name}, "move data into files that the unit reads",
			"the unit file has %d bytes, more than %d", len(content), MaxSize)
		return false
	}
	if i := bytes.IndexByte(content, 0); i >= 0 {
		s.problems.Add(position(i), "unit files are text", "the file holds a NUL byte")
		return false
	}
	for i := 0; i < len(content); {
		r, size := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && size == 1 {
			s.problems.Add(position(i), "write the file in UTF-8", "byte 0x%02x is not UTF-8", content[i])
			return false
		}
		i += size
	}
	return true
}

// line reads one line, or one assignment over several lines.
func (s *scanner) line() {
	line := s.lines[s.next]
	text := strings.TrimSpace(line)
	at := finding.Position{File: s.name, Line: s.next + 1, Column: indent(line) + 1}
	switch {
	case text == "":
		s.next++
	case isComment(text):
		s.next++
	case text[0] == '[':
		s.next++
		s.header(text, at)
	default:
		s.assignment(at)
	}
}

func (s *scanner) header(text string, at finding.Position) {
	name, rest, ok := strings.Cut(text[1:], "]")
	switch {
	case !ok:
		s.problems.Add(at, "write the section as [Name]", "the section has no closing bracket")
	case name == "" || strings.TrimSpace(name) != name || strings.ContainsAny(name, "[\\"):
		s.problems.Add(at, "write the section as [Name]", "%q is no section name", name)
	case rest != "":
		at.Column += utf8.RuneCountInString(name) + 2
		s.problems.Add(at, "put it on a line of its own", "unexpected %q after the section name", strings.TrimSpace(rest))
	default:
		s.warnings = append(s.warnings, checkSection(name, at)...)
	}
	s.section = name
}

func (s *scanner) assignment(at finding.Position) {
	line := s.lines[s.next]
	name, value, ok := strings.Cut(s.continued(), "=")
	option := Option{Section: s.section, Name: strings.TrimSpace(name), Value: strings.TrimSpace(value), Line: at.Line}
	if !ok || strings.Contains(name, "\n") {
		s.problems.Add(at, "write Name=value", "%q is neither an assignment nor a section", strings.TrimSpace(line))
		return
	}
	blank := len(value) - len(strings.TrimLeftFunc(value, unicode.IsSpace))
	option.Column = utf8.RuneCountInString(name+"="+value[:blank]) + 1
	switch {
	case option.Name == "" || strings.ContainsFunc(option.Name, unicode.IsSpace) || strings.Contains(option.Name, "\\"):
		s.problems.Add(at, "write Name=value", "%q is no name of a setting", option.Name)
	case s.section == "":
		s.problems.Add(at, "begin the file with a section such as [Unit]", "`%s` stands before any section", option.Name)
	case continues(option.Value):
		s.problems.Add(option.at(s.name, len(option.Value)-1), "remove the white space after the backslash",
			"the backslash continues nothing")
	default:
		s.options = append(s.options, option)
	}
}

// continued takes the next line and those that continue it. Comment lines in between do not end it (systemd.syntax(7)).
func (s *scanner) continued() string {
	lines := []string{s.lines[s.next]}
	s.next++
	for open := continues(lines[0]); open && s.next < len(s.lines); s.next++ {
		line := s.lines[s.next]
		lines = append(lines, line)
		open = isComment(line) || continues(line)
	}
	return strings.Join(closed(lines), "\n")
}

// closed removes a continuation into nothing from the end of an assignment.
func closed(lines []string) []string {
	for {
		end := len(lines) - 1
		last := lines[end]
		switch {
		case end > 0 && (strings.TrimSpace(last) == "" || isComment(last)):
			lines = lines[:end]
		case continues(last):
			lines[end] = last[:len(last)-1]
		default:
			return lines
		}
	}
}

// continues says whether the next line belongs to this one: it ends with a backslash that is not itself escaped.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, "\\")))%2 == 1
}

func indent(line string) int {
	return utf8.RuneCountInString(line) - utf8.RuneCountInString(strings.TrimLeftFunc(line, unicode.IsSpace))
}
