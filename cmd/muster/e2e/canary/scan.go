package canary

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	window   = 4 << 20   // bytes that are searched at once
	overlap  = 256 << 10 // bytes that two windows share: what is encoded and longer may be missed where they meet
	maxDepth = 4         // of encodings in one another
	maxFlat  = 16 << 20  // bytes that are read of one gzip
	minRun   = 24        // digits of base64 that are decoded
)

// Hit is a secret in a place.
type Hit struct {
	Place   string // file, or what the caller called a stream
	Secret  string // its name in the Set
	Form    string // how it is written there: "as it is", "in gzip, in base64"
	Private bool   // the place is a file that its owner alone may read
}

// String names the secret and never shows it.
func (h Hit) String() string {
	where := h.Place
	if h.Private {
		where += " (its owner's alone)"
	}
	return fmt.Sprintf("%s is in %s, %s", h.Secret, where, h.Form)
}

// Scan searches a stream to its end.
func (s *Set) Scan(place string, r io.Reader) ([]Hit, error) {
	buffer := make([]byte, window)
	kept := 0
	var hits []Hit
	for {
		n, err := io.ReadFull(r, buffer[kept:])
		data := buffer[:kept+n]
		if !blank(data) {
			hits = append(hits, s.Bytes(place, data)...)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return sorted(hits), nil
		case err != nil:
			return sorted(hits), fmt.Errorf("cannot search %s: %w", place, err)
		}
		kept = copy(buffer, data[len(data)-overlap:])
	}
}

// blank reports whether there is nothing but zeros, as in files that are made larger than their contents.
func blank(data []byte) bool { return len(bytes.TrimLeft(data, "\x00")) == 0 }

// Bytes searches what is at hand. A secret that is there in several ways is told once.
func (s *Set) Bytes(place string, data []byte) []Hit {
	if s.index == nil {
		s.index = newIndex(s.secrets)
	}
	var hits []Hit
	found := map[string]bool{}
	s.search(data, nil, func(n needle, around []string) {
		if found[n.name] {
			return
		}
		found[n.name] = true
		hits = append(hits, Hit{Place: place, Secret: n.name, Form: strings.Join(append(slices.Clone(around), n.form), ", ")})
	})
	return sorted(hits)
}

func sorted(hits []Hit) []Hit {
	slices.SortFunc(hits, func(a, b Hit) int {
		return strings.Compare(a.Place+"\x00"+a.Secret+"\x00"+a.Form, b.Place+"\x00"+b.Secret+"\x00"+b.Form)
	})
	return slices.Compact(hits)
}

// search looks for needles in data, without its line breaks, and in what is encoded in it. around is how data itself was
// encoded.
func (s *Set) search(data []byte, around []string, yield func(needle, []string)) {
	found := func(n needle) { yield(n, around) }
	s.index.find(data, found)
	joined := join(data)
	s.index.find(joined, found)
	if len(around) == maxDepth {
		return
	}
	for rest := data; ; {
		at := bytes.Index(rest, gzipMagic)
		if at < 0 {
			break
		}
		if flat := inflate(rest[at:]); len(flat) > 0 {
			s.search(flat, append(slices.Clone(around), formGzip), yield)
		}
		rest = rest[at+len(gzipMagic):]
	}
	for _, run := range runs(joined) {
		for shift := range 4 {
			if inside := decode(run[shift:]); bytes.Contains(inside, gzipMagic) || printable(inside) {
				s.search(inside, append(slices.Clone(around), formBase64), yield)
			}
		}
	}
}

// gzipMagic begins a gzip (RFC 1952 section 2.3.1): the two bytes of its ID, and deflate.
var gzipMagic = []byte{0x1f, 0x8b, 8}

// inflate returns what can be read of a gzip, nothing when there is none.
func inflate(data []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	r.Multistream(false)
	flat, _ := io.ReadAll(io.LimitReader(r, maxFlat)) // one that is cut off gives what it has
	return flat
}

// join removes what encoded text is wrapped and indented with: white space, and the escapes of line breaks.
func join(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
		case c == '\\' && i+1 < len(data) && (data[i+1] == 'n' || data[i+1] == 'r' || data[i+1] == 't'):
			i++
		case c == '\\' && i+1 < len(data) && data[i+1] == '/': // as some write it in JSON
		default:
			out = append(out, c)
		}
	}
	return out
}

// digit maps the digits of base64 to those of its standard alphabet (RFC 4648 sections 4 and 5), all else to 0.
var digit = func() (table [256]byte) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		table[c] = byte(c)
	}
	table['-'], table['_'] = '+', '/'
	return table
}()

// runs lists the parts of data that may be base64, long enough to hold something.
func runs(data []byte) [][]byte {
	var found [][]byte
	for start := 0; start < len(data); {
		end := start
		for end < len(data) && digit[data[end]] != 0 {
			end++
		}
		if end-start >= minRun {
			found = append(found, data[start:end])
		}
		start = end + 1
	}
	return found
}

// printable reports whether most of what was decoded is text. What was no base64 becomes noise, and a secret that is in
// base64 once is found without decoding it.
func printable(data []byte) bool {
	n := 0
	for _, c := range data {
		if c >= ' ' && c <= '~' || c == '\n' {
			n++
		}
	}
	return n*10 > len(data)*8
}

// decode decodes as many whole groups of digits as there are.
func decode(run []byte) []byte {
	text := make([]byte, len(run)/4*4)
	for i := range text {
		text[i] = digit[run[i]]
	}
	out := make([]byte, len(text)/4*3)
	n, _ := base64.RawStdEncoding.Decode(out, text) // digits alone are always right
	return out[:n]
}
