package cloudconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// Bounds on what the contents of files may decode to.
const (
	MaxFileBytes = 16 << 20 // of one
	MaxBytes     = 64 << 20 // of all in a document
)

// UnmarshalStrict reads a mapping, or a name alone.
func (u *User) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind == yaml.ScalarNode {
		d.Node(node, &u.Name)
		return
	}
	type plain User
	d.Node(node, (*plain)(u))
}

// UnmarshalStrict reads a list, or names with commas between them.
func (g *Groups) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind != yaml.ScalarNode {
		d.Node(node, (*[]string)(g))
		return
	}
	var names string
	d.Node(node, &names)
	for name := range strings.SplitSeq(names, ",") {
		*g = append(*g, strings.TrimSpace(name))
	}
}

// UnmarshalStrict reads a list, or one rule.
func (r *Rules) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind != yaml.ScalarNode {
		d.Node(node, (*[]string)(r))
		return
	}
	*r = make(Rules, 1)
	d.Node(node, &(*r)[0])
}

// MarshalYAML writes one rule as a string: older schemas of cloud-init know no list.
func (r Rules) MarshalYAML() (any, error) {
	if len(r) == 1 {
		return r[0], nil
	}
	return []string(r), nil
}

// UnmarshalStrict reads a line for the shell, or a list of a program and its arguments.
func (c *Command) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind == yaml.ScalarNode {
		d.Node(node, &c.Shell)
	} else {
		d.Node(node, &c.Args)
	}
	empty := strings.TrimSpace(c.Shell) == "" && (len(c.Args) == 0 || c.Args[0] == "")
	if empty && (node.Kind == yaml.SequenceNode || node.ShortTag() == "!!str") {
		d.Add(node, "remove it", "the command is empty")
	}
}

// String is the command as a person would write it.
func (c Command) String() string {
	if len(c.Args) > 0 {
		return strings.Join(c.Args, " ")
	}
	return c.Shell
}

// Script is one shell script of all commands, as cloud-init makes it: what one sets the next finds, and a failure stops
// nothing.
func Script(commands []Command) []byte {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, c := range commands {
		line := strings.TrimSuffix(c.Shell, "\n")
		if len(c.Args) > 0 {
			line = quoteAll(c.Args)
		}
		b.WriteString(line + "\n")
	}
	return []byte(b.String())
}

// UnmarshalStrict reads octal digits. A number without quotes must begin with 0: YAML and cloud-init would take another
// one for decimal.
func (p *Permissions) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!int" {
		var s string
		d.Node(node, &s)
		if s == "" {
			return
		}
	}
	digits := strings.TrimPrefix(node.Value, "0o")
	mode, err := strconv.ParseUint(digits, 8, 32)
	quoted := node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	switch {
	case err != nil || mode > 0o7777:
		d.Add(node, "write four octal digits in quotes, such as \"0644\"", "`%s` is no file mode", node.Value)
	case !quoted && !strings.HasPrefix(node.Value, "0"):
		d.Add(node, fmt.Sprintf("write %q", fmt.Sprintf("%04o", mode)), "the mode `%s` would be read as a decimal number", node.Value)
	default:
		*p = Permissions(fmt.Sprintf("%04o", mode))
	}
}

// Mode returns the permissions as a mode, 0644 for none.
func (p Permissions) Mode() (fs.FileMode, error) {
	if p == "" {
		return 0o644, nil
	}
	bits, err := strconv.ParseUint(string(p), 8, 32)
	if err != nil || bits > 0o7777 {
		return 0, fmt.Errorf("`%s` is no file mode", string(p))
	}
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

// encodings are cloud-init's spellings.
var encodings = map[string]Encoding{
	"": Plain, "text/plain": Plain, "b64": Base64, "base64": Base64,
	"gz+b64": Gzip64, "gzip+b64": Gzip64, "gz+base64": Gzip64, "gzip+base64": Gzip64,
}

// UnmarshalStrict reads any of cloud-init's spellings.
func (e *Encoding) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	var s string
	d.Node(node, &s)
	encoding, ok := encodings[s]
	switch {
	case s == "gz" || s == "gzip":
		d.Add(node, "write the content as `!!binary`, or the encoding as `gz+b64`", "no text is gzip")
	case !ok:
		d.Add(node, "there are `b64`, `gz+b64` and `text/plain`", "the encoding `%s` is not known", s)
	}
	*e = encoding
}

// UnmarshalStrict reads a mapping. Content may be `!!binary`, which is YAML's own base64 and so becomes an encoding.
func (f *File) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	type plain File
	node, binary := text(d, node, "content"), strictyaml.Find(node, "content")
	if binary == nil || binary.ShortTag() != "!!binary" {
		d.Node(node, (*plain)(f))
		return
	}
	encoding := strictyaml.Find(node, "encoding")
	if encoding != nil && (encoding.Value == "gz" || encoding.Value == "gzip") {
		encoding.Value = string(Gzip64)
	} else if encoding != nil && encodings[encoding.Value] != Plain {
		d.Add(encoding, "remove the encoding", "the content is `!!binary`, and so base64 already")
	}
	if d.Node(node, (*plain)(f)); f.Encoding == Plain {
		f.Encoding = Base64
	}
}

// UnmarshalStrict reads a mapping.
func (u *Unit) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	type plain Unit
	d.Node(text(d, node, "content"), (*plain)(u))
}

// UnmarshalStrict reads a mapping.
func (i *DropIn) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	type plain DropIn
	d.Node(text(d, node, "content"), (*plain)(i))
}

// text reports a value of a mapping that is a scalar but no string, without quoting it: contents may be secret. It
// returns the mapping with a string in its place. The values of a copy may be changed.
func text(d *strictyaml.Decoder, node *yaml.Node, key string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return node
	}
	mapping := *node
	mapping.Content = slices.Clone(node.Content)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		value := mapping.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value.Kind != yaml.ScalarNode {
			continue
		}
		own := *value
		if mapping.Content[i].Value == key {
			switch own.ShortTag() {
			case "!!int", "!!float", "!!bool":
				d.Add(value, "put it in quotes", "`%s` must be a string", key)
				fallthrough
			case "!!binary", "!!timestamp":
				own.Tag = "!!str"
			}
		}
		mapping.Content[i+1] = &own
	}
	return &mapping
}

// UnmarshalStrict reads true, false or localhost; template is cloud-init's old word for true.
func (h *EtcHosts) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!bool":
		var whole bool
		if d.Node(node, &whole); whole {
			*h = HostsWhole
		}
		return
	case node.Kind == yaml.ScalarNode && (node.Value == "localhost" || node.Value == "template"):
		*h = map[string]EtcHosts{"localhost": HostsLocalhost, "template": HostsWhole}[node.Value]
		return
	}
	var word string
	if d.Node(node, &word); word != "" {
		d.Add(node, "write true, false or localhost", "`%s` is no way to manage /etc/hosts", word)
	}
}

// MarshalYAML writes what UnmarshalStrict reads.
func (h EtcHosts) MarshalYAML() (any, error) {
	if h == HostsWhole {
		return true, nil
	}
	return string(h), nil
}

// UnmarshalStrict reads a mapping of scalars of any type, as they are written.
func (o *Options) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	var values map[string]option
	d.Node(node, &values)
	if len(values) > 0 {
		*o = make(Options, len(values))
	}
	for name, value := range values {
		(*o)[name] = string(value)
	}
}

// option is the value of one of Options.
type option string

func (o *option) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.ShortTag() != "!!null" {
		*o = option(node.Value)
		return
	}
	d.Node(node, (*string)(o))
}

// NewFile makes a file of any bytes, in the encoding that they need.
func NewFile(path string, data []byte, permissions Permissions) File {
	f := File{Path: path, Permissions: permissions, Content: string(data)}
	if !utf8.Valid(data) {
		f.Encoding, f.Content = Base64, base64.StdEncoding.EncodeToString(data)
	}
	return f
}

// Bytes decodes the content. More than MaxFileBytes is an error.
func (f File) Bytes() ([]byte, error) {
	if f.Encoding == Plain {
		return []byte(f.Content), nil
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.Content), ""))
	if err != nil {
		return nil, fmt.Errorf("the content is not base64: %w", err)
	}
	if f.Encoding == Base64 {
		return data, nil
	}
	data, err = gunzip(data)
	if err != nil {
		return nil, fmt.Errorf("the content is not gzip: %w", err)
	}
	return data, nil
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err == nil && len(out) > MaxFileBytes {
		err = errors.New("it has more than 16 MiB")
	}
	return out, err
}
