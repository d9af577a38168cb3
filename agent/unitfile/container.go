package unitfile

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// xContainer is the section of Quadlet's container units (podman-systemd.unit(5)). A service with one has no commands of
// its own: the package quadlet makes them, for the engine of the host. What the section says is none of this package's
// business.
const xContainer = "Container"

// containerSuffix is that of the file of a container unit. Its unit is a service, as with Quadlet.
const containerSuffix = ".container"

// UnitName is the name of the unit that a file is about: web.service for web.container, else the file's own name.
func UnitName(file string) string {
	if base, ok := strings.CutSuffix(file, containerSuffix); ok {
		return base + ".service"
	}
	return file
}

// ContainerFile is the name of the file that a service has if it is a container: web.container for web.service. It is false
// for units of other types.
func ContainerFile(unitName string) (string, bool) {
	base, ok := strings.CutSuffix(unitName, ".service")
	return base + containerSuffix, ok
}

// IsContainer says whether the unit is a container.
func (f File) IsContainer() bool {
	return slices.ContainsFunc(f.Options, func(o Option) bool { return o.Section == xContainer })
}

// Section returns the assignments of a section, in order. Their values are in one line, and of the same length.
func (f File) Section(section string) []Option {
	var options []Option
	for _, o := range f.Options {
		if o.Section == section {
			o.Value = join(o.Value)
			options = append(options, o)
		}
	}
	return options
}

// Finding tells what is wrong with an option of a file, at the place in its value that a *SyntaxError knows. Without a hint
// it is the error's.
func (o Option) Finding(file string, err error, hint string) finding.Finding {
	return explain(o, file, err, hint)
}

// SplitWords cuts a text at white space, with quotes and escapes resolved (systemd.syntax(7), "Quoting"). Errors are
// *SyntaxError.
func SplitWords(s string) ([]string, error) {
	words, err := splitWords(s)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	return texts, nil
}

// QuoteWord writes a word so that SplitWords, and systemd, read it as one. Specifiers and variables in it stay what they
// are.
func QuoteWord(word string) string {
	if word != "" && word != ";" && strings.IndexFunc(word, needsQuotes) < 0 {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c > '~':
			b.WriteString(`\x` + string(hexadecimal[c>>4]) + string(hexadecimal[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

const hexadecimal = "0123456789abcdef"

// needsQuotes says whether a character means something between words, or is none that everybody can read.
func needsQuotes(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"'\`, r)
}
