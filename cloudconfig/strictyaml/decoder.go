package strictyaml

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Bounds on an input. What is beyond them is a finding.
const (
	MaxBytes    = 1 << 20 // of a file
	MaxValues   = 100_000 // of a file, those of aliases counted every time
	MaxDepth    = 1_000   // of values in values
	MaxFindings = 100     // reported for one file
)

// Unmarshaler is implemented by types that decode themselves: with d.Node into something else, and d.Add for what is
// wrong. The node is no alias.
type Unmarshaler interface {
	UnmarshalStrict(d *Decoder, node *yaml.Node)
}

// Decoder decodes one file and collects its findings.
type Decoder struct {
	// File is named in findings; the relative paths of secrets start at its directory.
	File string
	// LookupEnv finds the environment variables of secrets. New sets os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// ReadFile reads the files of secrets. New sets the package's ReadFile.
	ReadFile func(path string, limit int64) ([]byte, error)

	findings finding.Findings
	values   int                 // decoded so far
	depth    int                 // of the value being decoded
	name     string              // of the value that an Unmarshaler decodes
	within   map[*yaml.Node]bool // containers that an alias led to and that are being decoded
	full     bool                // a bound was reached: stop
}

// New makes a Decoder for a file.
func New(file string) *Decoder {
	return &Decoder{File: file, LookupEnv: os.LookupEnv, ReadFile: ReadFile, within: map[*yaml.Node]bool{}}
}

// Decode decodes a file of one YAML document into the struct, map or slice that into points to.
func Decode(file string, data []byte, into any) finding.Findings {
	d := New(file)
	if root := d.Parse(data); root != nil {
		d.Node(root, into)
	}
	return d.Findings()
}

// DecodeNode decodes a part of a file.
func DecodeNode(file string, node *yaml.Node, into any) finding.Findings {
	d := New(file)
	d.Node(node, into)
	return d.Findings()
}

// Findings returns everything found so far, sorted by place.
func (d *Decoder) Findings() finding.Findings {
	_ = d.findings.Err() // sorts
	return d.findings
}

// Add reports something wrong with a node.
func (d *Decoder) Add(node *yaml.Node, hint, format string, args ...any) {
	d.AddAt(d.Position(node), hint, format, args...)
}

// AddAt reports something wrong at a place, in this file or another one, once: what an alias leads to is decoded again
// and again. Beyond MaxFindings it stops the decoder.
func (d *Decoder) AddAt(at finding.Position, hint, format string, args ...any) {
	f := finding.Finding{Position: at, Message: fmt.Sprintf(format, args...), Hint: hint}
	if d.full || slices.Contains(d.findings, f) {
		return
	}
	d.findings = append(d.findings, f)
	if len(d.findings) >= MaxFindings {
		d.stop(at, "mend these first", "more than %d findings", MaxFindings)
	}
}

// stop reports a last finding.
func (d *Decoder) stop(at finding.Position, hint, format string, args ...any) {
	if !d.full {
		d.full = true
		d.findings.Add(at, hint, format, args...)
	}
}

// Position is the place of a node.
func (d *Decoder) Position(node *yaml.Node) finding.Position {
	return finding.Position{File: d.File, Line: node.Line, Column: node.Column}
}

// Path makes a path of the file absolute or relative to the working directory: relative ones start at the directory of
// the decoder's file.
func (d *Decoder) Path(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.File), path)
}

// ReadFile reads a regular file of at most limit bytes. Devices, pipes and directories are refused, so that no input
// can make the reader wait.
func ReadFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}
