package unitfile

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// HostSpecifiers are what specifiers say of the host. An empty field is not known where the text is expanded, and
// asking for it is an error.
type HostSpecifiers struct {
	MachineID string // %m
	BootID    string // %b
	Hostname  string // %H; %l up to its first dot
}

// SyntaxError is what is wrong with the text of a setting, and where.
type SyntaxError struct {
	Offset  int // in bytes from the beginning of the text
	Message string
	Hint    string // what to do, may be empty
}

// Error renders the message and the hint.
func (e *SyntaxError) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// known are the letters that systemd expands (systemd.unit(5), "Specifiers"). Those that Expand does not know say
// something of systemd's own directories or of the operating system.
const known = "aAbBCdDEfgGhHiIjJlLmMnNopPqsStTuUvVwWyY%"

// Expand replaces the specifiers %n %N %p %P %i %I %j %J, those of the host %m %b %H %l, and %% (systemd.unit(5)).
// Others are a *SyntaxError, because a half-expanded text would be taken for what was meant.
func Expand(s, unitName string, h HostSpecifiers) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) {
			return "", &SyntaxError{Offset: i, Message: "a lone % ends the text", Hint: "write %% for a percent sign"}
		}
		value, ok := specifier(s[i+1], unitName, h)
		if !ok {
			return "", &SyntaxError{
				Offset: i, Message: fmt.Sprintf("specifier %%%s has no value here", firstRune(s[i+1:])),
				Hint: "write %% for a percent sign",
			}
		}
		b.WriteString(value)
		i++
	}
	return b.String(), nil
}

func specifier(letter byte, unitName string, h HostSpecifiers) (string, bool) {
	n := parse(unitName)
	last := n.prefix[strings.LastIndexByte(n.prefix, '-')+1:]
	short, _, _ := strings.Cut(h.Hostname, ".")
	switch letter {
	case '%':
		return "%", true
	case 'n':
		return unitName, true
	case 'N':
		return strings.TrimSuffix(unitName, n.suffix), true
	case 'p':
		return n.prefix, true
	case 'P':
		return unit.UnitNameUnescape(n.prefix), true
	case 'i':
		return n.instance, true
	case 'I':
		return unit.UnitNameUnescape(n.instance), true
	case 'j':
		return last, true
	case 'J':
		return unit.UnitNameUnescape(last), true
	case 'm':
		return h.MachineID, h.MachineID != ""
	case 'b':
		return h.BootID, h.BootID != ""
	case 'H':
		return h.Hostname, h.Hostname != ""
	case 'l':
		return short, short != ""
	}
	return "", false
}

// strangeSpecifier returns the offset of the first specifier that not even systemd knows.
func strangeSpecifier(s string) (int, bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+1 == len(s) || !strings.Contains(known, s[i+1:i+2]) {
			return i, true
		}
		i++
	}
	return 0, false
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}
