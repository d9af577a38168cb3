package cloudconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	if !ok {
		d.Add(node, "there are `b64`, `gz+b64` and `text/plain`", "the encoding `%s` is not known", s)
	}
	*e = encoding
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
