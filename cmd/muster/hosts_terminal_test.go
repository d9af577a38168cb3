package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// shownInParts is what plainText makes of text that comes in parts of a size.
func shownInParts(t *testing.T, text string, size int) string {
	t.Helper()
	var out bytes.Buffer
	p := &plainText{to: &out}
	for len(text) > 0 {
		n := min(size, len(text))
		if written, err := p.Write([]byte(text[:n])); written != n || err != nil {
			t.Fatalf("%d bytes written, want %d, %v", written, n, err)
		}
		text = text[n:]
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPlainText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"text", "a line\n\tand a tab\r\n", "a line\n\tand a tab\r\n"},
		{"letters of the world", "größer 日本 ✓ 🚀\n", "größer 日本 ✓ 🚀\n"},
		{"colours", "[\x1b[0;32m  OK  \x1b[0m] up", "[  OK  ] up"},
		{"cursor and screen", "\x1b[2J\x1b[H\x1b[?25lx", "x"},
		{"title", "\x1b]0;owned\x07x", "^[]0;owned^Gx"},
		{"device control string", "\x1bP+q544e\x1b\\x", `^[P+q544e^[\x`},
		{"reset", "\x1bcx", "^[cx"},
		{"escape twice", "\x1b\x1b[0mx", "^[x"},
		{"bell, backspace, delete, null", "\a\b\x7f\x00", "^G^H^?^@"},
		{"eight-bit control sequence", "\x9b31mx", `\x9b31mx`},
		{"the same in UTF-8", "\u009b31mx", `\u009b31mx`},
		{"text in the other direction", "a\u202eb\u200bc", `a\u202eb\u200bc`},
		{"tag characters", "\U000e0041", `\U000e0041`},
		{"no UTF-8", "a\xffb\xe2\x82", `a\xffb\xe2\x82`},
		{"sequence that is cut off", "a\x1b[31", "a^[[31"},
		{"sequence with a line in it", "\x1b[3\n1mx", "^[[3\n1mx"},
		{"sequence that is too long", "\x1b[" + strings.Repeat("1;", 40) + "mx", "^[[" + strings.Repeat("1;", 40) + "mx"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 1 << 20} {
				if got := shownInParts(t, tt.text, size); got != tt.want {
					t.Errorf("in parts of %d: %q, want %q", size, got, tt.want)
				}
			}
		})
	}
}

// FuzzPlainText: whatever comes, and however it is cut, only visible text and line ends reach the terminal.
func FuzzPlainText(f *testing.F) {
	for _, seed := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07", "\x9b2J", "\xe2\x82", "\x1b[" + strings.Repeat("0", 40)} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		whole := shownInParts(t, text, len(text)+1)
		if parts := shownInParts(t, text, max(1, size)); parts != whole {
			t.Errorf("in parts of %d: %q, at once: %q", size, parts, whole)
		}
		if !utf8.ValidString(whole) {
			t.Errorf("%q is not UTF-8", whole)
		}
		for _, r := range whole {
			if !unicode.IsGraphic(r) && r != '\n' && r != '\t' && r != '\r' {
				t.Errorf("%q reaches the terminal", r)
			}
		}
	})
}
