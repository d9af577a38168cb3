package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf8"
)

// plainText passes text from somebody who is not trusted on to a terminal. Line ends, tabs and carriage returns stay.
// Control sequences, such as colours and moves of the cursor, are left out; every other control character and everything
// that is no visible text is written in letters: ^[ for ESC, \x9b for a byte, \u202e for a character. So nothing can be
// hidden but short sequences that hold no text. What a Write cuts in two is held back; Flush writes it.
type plainText struct {
	to   io.Writer
	held []byte
}

// Write writes data in harmless form.
func (p *plainText) Write(data []byte) (int, error) {
	if err := p.pass(data, false); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Flush writes what was held back.
func (p *plainText) Flush() error { return p.pass(nil, true) }

// pass writes what is held and data, as far as they are known to be complete.
func (p *plainText) pass(data []byte, last bool) error {
	rest := slices.Concat(p.held, data)
	var out bytes.Buffer
	for len(rest) > 0 {
		shown, size := harmless(rest)
		if size == 0 && !last {
			break
		}
		if size == 0 {
			shown, size = spelled(rest[0]), 1
		}
		out.WriteString(shown)
		rest = rest[size:]
	}
	p.held = rest
	_, err := p.to.Write(out.Bytes())
	return err
}

// harmless is what stands for the first character or sequence of text, and how many bytes that has; 0 when text ends
// within it.
func harmless(text []byte) (shown string, size int) {
	switch first := text[0]; {
	case first == '\n' || first == '\t' || first == '\r':
		return string(first), 1
	case first == '\x1b':
		size, whole := controlSequence(text)
		if whole && size == 0 {
			return spelled(first), 1
		}
		return "", size
	case !utf8.FullRune(text):
		return "", 0
	}
	r, size := utf8.DecodeRune(text)
	switch {
	case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && unicode.IsControl(r):
		return spelled(text[0]), 1
	case unicode.IsGraphic(r):
		return string(r), size
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r), size
	default:
		return fmt.Sprintf(`\u%04x`, r), size
	}
}

// maxSequence is how long a control sequence may be. Longer ones could hide text.
const maxSequence = 32

// controlSequence is the length of the control sequence that text begins with (ECMA-48, section 5.4: ESC [, parameters,
// intermediates, one final byte), 0 when it begins with none. whole is false when text ends before that is known.
func controlSequence(text []byte) (size int, whole bool) {
	for i, b := range text[1:min(len(text), maxSequence)] {
		switch {
		case i == 0 && b == '[':
		case i > 0 && 0x20 <= b && b <= 0x3f:
		case i > 0 && 0x40 <= b && b <= 0x7e:
			return i + 2, true
		default:
			return 0, true
		}
	}
	return 0, len(text) >= maxSequence
}

// spelled writes a byte in letters.
func spelled(b byte) string {
	if b < utf8.RuneSelf {
		return "^" + string(rune(b^0x40)) // caret notation
	}
	return fmt.Sprintf(`\x%02x`, b)
}
