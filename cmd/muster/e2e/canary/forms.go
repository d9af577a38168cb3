package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"strconv"
	"strings"
)

// The forms in which a secret is found.
const (
	formPlain  = "as it is"
	formPart   = "in part"
	formJSON   = "in JSON"
	formGo     = "quoted by Go"
	formURL    = "in a URL"
	formXML    = "in XML"
	formHex    = "in hexadecimal"
	formBase64 = "in base64"
	formGzip   = "in gzip"
)

// partBytes is how much of an end of a secret counts as the secret.
const partBytes = 12

// needle is one form of one secret.
type needle struct {
	name string
	form string
	text []byte
}

// forms lists the ways in which a secret may be written.
func forms(secret named) []needle {
	var out []needle
	add := func(form string, texts ...string) {
		for _, text := range texts {
			if len(text) >= 4 {
				out = append(out, needle{secret.name, form, []byte(text)})
			}
		}
	}
	value := string(secret.value)
	add(formPlain, value)
	if len(value) >= 2*partBytes {
		add(formPart, value[:partBytes], value[len(value)-partBytes:])
	}
	add(formJSON, inJSON(value, true), inJSON(value, false))
	add(formGo, unquoted(strconv.Quote(value)), unquoted(strconv.QuoteToASCII(value)))
	add(formURL, bothCases(url.QueryEscape(value))...)
	add(formURL, bothCases(url.PathEscape(value))...)
	add(formXML, inXML(value))
	add(formHex, bothCases(hex.EncodeToString(secret.value))...)
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		add(formBase64, inBase64(secret.value, encoding)...)
	}
	return out
}

func unquoted(s string) string { return s[1 : len(s)-1] }

func bothCases(s string) []string { return []string{s, strings.ToLower(s), strings.ToUpper(s)} }

func inJSON(value string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	_ = e.Encode(value) // a string can be encoded, and a buffer takes everything
	return unquoted(strings.TrimSuffix(b.String(), "\n"))
}

func inXML(value string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(value)) // a buffer takes everything
	return b.String()
}

// inBase64 is the value where it begins at each of the three places in a group of three bytes: without the digits at its
// ends, which depend on its neighbours too.
func inBase64(value []byte, encoding *base64.Encoding) []string {
	var texts []string
	for before := range 3 {
		text := encoding.EncodeToString(append(make([]byte, before), value...))
		first := (before*8 + 5) / 6            // digits that hold a bit of what is before
		whole := (before + len(value)) * 8 / 6 // digits that hold no bit of what comes after
		texts = append(texts, text[first:whole])
	}
	return texts
}

// index finds needles by their first four bytes.
type index struct {
	maybe   [1 << 16 / 64]uint64 // bits, by hash
	needles map[uint32][]needle
}

func newIndex(secrets []named) *index {
	x := &index{needles: map[uint32][]needle{}}
	for _, secret := range secrets {
		for _, n := range forms(secret) {
			head := binary.LittleEndian.Uint32(n.text)
			x.maybe[hash(head)/64] |= 1 << (hash(head) % 64)
			x.needles[head] = append(x.needles[head], n)
		}
	}
	return x
}

func hash(head uint32) uint16 { return uint16(head * 2654435769 >> 16) }

// find calls yield with every needle that is in data.
func (x *index) find(data []byte, yield func(needle)) {
	for i := 0; i+4 <= len(data); i++ {
		head := binary.LittleEndian.Uint32(data[i:])
		if at := hash(head); x.maybe[at/64]&(1<<(at%64)) == 0 {
			continue
		}
		for _, n := range x.needles[head] {
			if bytes.HasPrefix(data[i:], n.text) {
				yield(n)
			}
		}
	}
}
