package unitfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// word is one word of a list, with its quotes and escapes resolved.
type word struct {
	text   string
	raw    string // as written
	offset int    // of raw, in bytes
	// odd are the offsets of escapes that mean nothing and were kept as they are.
	odd []int
}

// splitWords cuts a text at white space. Quotes (' and ") keep words together and backslash escapes work as in C
// (systemd.syntax(7), "Quoting"). An unknown escape stays as it is, as in systemd, which only warns.
func splitWords(s string) ([]word, error) {
	var words []word
	for i := 0; ; {
		i += len(s[i:]) - len(strings.TrimLeft(s[i:], whitespace))
		if i == len(s) {
			return words, nil
		}
		w, err := oneWord(s, i)
		if err != nil {
			return nil, err
		}
		words = append(words, w)
		i += len(w.raw)
	}
}

func oneWord(s string, start int) (word, error) {
	w := word{offset: start}
	var text strings.Builder
	quote, opened := byte(0), 0
	i := start
	for ; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			n, err := w.escape(&text, s, i)
			if err != nil {
				return word{}, err
			}
			i += n - 1
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, opened = c, i
		case quote == 0 && strings.IndexByte(whitespace, c) >= 0:
			w.text, w.raw = text.String(), s[start:i]
			return w, nil
		default:
			text.WriteByte(c)
		}
	}
	if quote != 0 {
		return word{}, &SyntaxError{Offset: opened, Message: fmt.Sprintf("the quote %c is never closed", quote)}
	}
	w.text, w.raw = text.String(), s[start:i]
	return w, nil
}

// escapes of one letter (systemd.syntax(7)).
var escapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\', '"': '"', '\'': '\'', 's': ' ',
}

// escape resolves the escape at s[i] and returns how many bytes it takes.
func (w *word) escape(text *strings.Builder, s string, i int) (int, error) {
	if i+1 == len(s) {
		return 0, &SyntaxError{Offset: i, Message: "a backslash ends the text", Hint: `write \\ for a backslash`}
	}
	c := s[i+1]
	if plain, ok := escapes[c]; ok {
		text.WriteByte(plain)
		return 2, nil
	}
	base, digits, skip := 16, 0, 2
	switch {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		base, digits, skip = 8, 3, 1
	}
	end := i + skip + digits
	if digits > 0 && end <= len(s) {
		n, err := strconv.ParseUint(s[i+skip:end], base, 32)
		if err == nil && n == 0 {
			return 0, &SyntaxError{Offset: i, Message: "the escape makes a NUL byte", Hint: "no argument can hold one"}
		}
		if err == nil && writeEscaped(text, n, digits) {
			return end - i, nil
		}
	}
	w.odd = append(w.odd, i)
	text.WriteByte('\\')
	return 1, nil
}

// writeEscaped writes a byte (two hexadecimal or three octal digits) or a character. It is false for what is neither.
func writeEscaped(text *strings.Builder, n uint64, digits int) bool {
	if digits <= 3 {
		if n > 0xff {
			return false
		}
		text.WriteByte(byte(n))
		return true
	}
	if n > utf8.MaxRune || !utf8.ValidRune(rune(n)) {
		return false
	}
	text.WriteRune(rune(n))
	return true
}
