package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Parse reads the syntax of a file and returns its one document's value, or nil after a finding.
func (d *Decoder) Parse(data []byte) *yaml.Node {
	if len(data) > MaxBytes {
		d.AddAt(finding.Position{File: d.File}, "", "the file has %d bytes, at most %d are read", len(data), MaxBytes)
		return nil
	}
	if !d.text(data) {
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		d.syntax(data, err)
		return nil
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		d.AddAt(finding.Position{File: d.File, Line: 1, Column: 1}, "", "the file is empty")
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		d.Add(&second, "remove this `---` and what follows it", "a second document begins here, one is read")
		return nil
	case !errors.Is(err, io.EOF):
		d.syntax(data, err)
		return nil
	}
	return document.Content[0]
}

// text reports whether data is UTF-8 and printable, as YAML 1.2 section 5.1 demands, and where it is not. yaml.v3 would
// refuse the same without a line.
func (d *Decoder) text(data []byte) bool {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		at := finding.Position{File: d.File, Line: line, Column: column}
		switch {
		case r == utf8.RuneError && size == 1:
			d.AddAt(at, "save the file as UTF-8", "the byte 0x%02x is not UTF-8", data[i])
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f, r > 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			d.AddAt(at, "remove it, or write it as an escape in double quotes", "control character %U", r)
			return false
		}
		if i, column = i+size, column+1; r == '\n' {
			line, column = line+1, 1
		}
	}
	return true
}

var (
	yamlLine      = regexp.MustCompile(`^line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// parserMessages begin the messages of yaml.v3's parser, which counts lines from 0 in them; its scanner counts from 1.
var parserMessages = []string{
	"did not find expected key", "did not find expected '-' indicator", "did not find expected ','",
	"did not find expected node content", "did not find expected <", "found undefined tag handle",
	"found duplicate", "found incompatible YAML document",
}

// syntax turns an error of yaml.v3 into a finding.
func (d *Decoder) syntax(data []byte, err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	at := finding.Position{File: d.File, Line: 1}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
		if hasAnyPrefix(message, parserMessages) {
			at.Line++
		}
	}
	lines := strings.Split(strings.TrimRight(string(data), "\r\n"), "\n")
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		at.Line, at.Column = find(lines, "*"+m[1])
	}
	at.Line = min(at.Line, len(lines))
	message, hint := explain(message, strings.TrimSuffix(lines[at.Line-1], "\r"))
	d.AddAt(at, hint, "%s", message)
}

// explain says what an error of yaml.v3 in a line means to somebody who does not know YAML's grammar.
func explain(message, line string) (text, hint string) {
	tabs := strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t")
	switch {
	case tabs:
		return "not valid YAML: a tab cannot indent", "use spaces"
	case message == "mapping values are not allowed in this context":
		return "not valid YAML: no `key:` is possible here",
			"check the indentation, and put a value that contains `: ` in quotes"
	case message == "found character that cannot start any token":
		return "not valid YAML: a value cannot begin with this character", "put the value in quotes"
	case message == "did not find expected key", message == "did not find expected '-' indicator":
		return "not valid YAML: " + message, "check the indentation here and in the lines before"
	case message == "could not find expected ':'":
		return "not valid YAML: `key: value` expected", ""
	case strings.HasPrefix(message, "did not find expected ',' or '"):
		bracket := strings.Trim(strings.TrimPrefix(message, "did not find expected ',' or "), "'")
		return "not valid YAML: what opens here lacks its `" + bracket + "`, or a comma", ""
	case unknownAnchor.MatchString(message): // its name is not shown: it may be a password
		return "not valid YAML: no anchor has the name that follows this `*`", "put the value in quotes if it begins with `*`"
	case message == "found unexpected end of stream":
		return "not valid YAML: the quote that opens here is not closed", ""
	default:
		return "not valid YAML: " + message, ""
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// find returns line and column of the first occurrence of a text.
func find(lines []string, text string) (line, column int) {
	for i, l := range lines {
		if j := strings.Index(l, text); j >= 0 {
			return i + 1, utf8.RuneCountInString(l[:j]) + 1
		}
	}
	return 1, 0
}
