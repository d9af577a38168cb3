package unitfile

import (
	"fmt"
	"strings"
)

// ParseEnvironment reads a value of Environment=: NAME=VALUE words, quoted where they hold white space
// (systemd.exec(5)).
func ParseEnvironment(s string) ([]string, error) {
	words, err := splitWords(s)
	if err != nil {
		return nil, err
	}
	var env []string
	for _, w := range words {
		name, _, ok := strings.Cut(w.text, "=")
		if !ok || !isVariable(name) {
			return nil, &SyntaxError{
				Offset: w.offset, Message: fmt.Sprintf("%q is no assignment", w.text),
				Hint: `write NAME=value, or "NAME=two words"`,
			}
		}
		env = append(env, w.text)
	}
	return env, nil
}

// ParseEnvironmentFile reads the contents of a file that EnvironmentFile= names (systemd.exec(5)): a line NAME=VALUE
// each, empty lines and comments skipped. Values may be quoted; in double quotes a backslash keeps its meaning for
// " \ ` $ and a newline. Lines that are no assignment are skipped, as systemd does.
func ParseEnvironmentFile(content []byte) []string {
	var env []string
	rest := strings.ReplaceAll(string(content), "\r\n", "\n")
	for rest != "" {
		trimmed := strings.TrimLeft(rest, whitespace)
		if isComment(trimmed) {
			_, rest, _ = strings.Cut(trimmed, "\n")
			continue
		}
		line, _, _ := strings.Cut(trimmed, "\n")
		name, _, ok := strings.Cut(line, "=")
		if !ok {
			_, rest, _ = strings.Cut(trimmed, "\n")
			continue
		}
		var value string
		value, rest = fileValue(trimmed[len(name)+1:])
		name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
		if isVariable(name) && !strings.ContainsRune(value, 0) {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// fileValue reads a value up to the end of its line, which quotes and backslashes move. Quotes count only where the
// value begins: {"a": 1} keeps its own.
func fileValue(s string) (value, rest string) {
	var b strings.Builder
	quote, plain := byte(0), false
	solid := 0 // length of the value without the white space at its end
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			if quote == '"' && strings.IndexByte("\"\\`$\n", s[i]) < 0 {
				b.WriteByte('\\')
			}
			if s[i] != '\n' {
				b.WriteByte(s[i])
			}
			plain = plain || quote == 0
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\n':
			return b.String()[:solid], s[i+1:]
		case !plain && (c == '"' || c == '\''):
			quote = c
		case c == ' ' || c == '\t':
			if plain {
				b.WriteByte(c)
			}
			continue
		default:
			b.WriteByte(c)
			plain = true
		}
		solid = b.Len()
	}
	return b.String()[:solid], ""
}
