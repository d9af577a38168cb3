// Package image reads what a build of the host image leaves in its output directory: which versions there are, what went
// into each, and whether the files are still what the build made.
//
// A manifest (NAME_VERSION.manifest) lists an image's packages and its files with size and SHA-256. It is parsed strictly:
// what is accepted is exactly what rendering it again gives. Verification compares the files with it, and the root hash
// that the kernel is told with the dm-verity tree behind the root. The package changes nothing and knows nothing of
// providers, nor of what an image does when it boots.
package image

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Manifest is what a build recorded.
type Manifest struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Suite    string    `json:"suite"` // of the distribution
	Epoch    int64     `json:"epoch"` // seconds since 1970 that stand for every file's time (SOURCE_DATE_EPOCH)
	Packages []Package `json:"packages"`
	Files    []File    `json:"files"`
}

// Package is a package that is installed in the image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// File is a file of the output directory.
type File struct {
	Name   string `json:"name"`             // without directory
	SHA256 string `json:"sha256,omitempty"` // lower-case hexadecimal
	Bytes  int64  `json:"bytes"`
}

// Base is what the names of the image's own files begin with: NAME_VERSION.
func (m Manifest) Base() string { return m.Name + "_" + m.Version }

// File finds a file by name.
func (m Manifest) File(name string) (File, bool) {
	for _, f := range m.Files {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}

// maxManifest is how many bytes a manifest may have.
const maxManifest = 1 << 20

// maxFields is how many words the longest record has.
const maxFields = 5

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~-]{0,62}$`)
	// Packages and their versions are Debian's (Debian Policy, sections 5.6.1 and 5.6.12).
	packageForm        = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]*$`)
	packageVersionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~:-]*$`)
	fileForm           = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}$`)
	sumForm            = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Parse reads a manifest: one record a line, its words apart by one space; first the image, then its packages, then its
// files.
//
//	image NAME VERSION SUITE EPOCH
//	package NAME VERSION
//	file NAME SHA256 BYTES
//
// The error names the line.
func Parse(data []byte) (Manifest, error) {
	if len(data) > maxManifest {
		return Manifest{}, fmt.Errorf("it has %d bytes, more than %d", len(data), maxManifest)
	}
	p := parser{seen: map[string]bool{}}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if err := p.line(string(line), number == 1); err != nil {
			return Manifest{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if number == 0 {
		return Manifest{}, fmt.Errorf("it is empty")
	}
	return p.manifest, nil
}

// parser holds what was read so far.
type parser struct {
	manifest Manifest
	seen     map[string]bool // "package NAME" and "file NAME"
}

func (p *parser) line(line string, first bool) error {
	text, ended := strings.CutSuffix(line, "\n")
	if !ended {
		return fmt.Errorf("it has no end: the manifest is cut off")
	}
	words := strings.SplitN(text, " ", maxFields+1)
	kind, words := words[0], words[1:]
	if first != (kind == "image") {
		return fmt.Errorf("the first line, and only that, says `image`")
	}
	if len(words) > 0 && !first && p.seen[kind+" "+words[0]] {
		return fmt.Errorf("%s %q is there twice", kind, words[0])
	}
	var err error
	switch {
	case kind == "image" && len(words) == 4:
		err = p.image(words)
	case kind == "package" && len(words) == 2:
		err = p.pkg(words)
	case kind == "file" && len(words) == 3:
		err = p.file(words)
	default:
		return fmt.Errorf("%q is none of `image NAME VERSION SUITE EPOCH`, `package NAME VERSION` and `file NAME SHA256 BYTES`", text)
	}
	if !first {
		p.seen[kind+" "+words[0]] = true
	}
	return err
}

func (p *parser) image(words []string) error {
	epoch, ok := decimal(words[3])
	switch {
	case !nameForm.MatchString(words[0]):
		return fmt.Errorf("%q is not the name of an image", words[0])
	case !versionForm.MatchString(words[1]):
		return fmt.Errorf("%q is not a version", words[1])
	case !nameForm.MatchString(words[2]):
		return fmt.Errorf("%q is not the name of a suite", words[2])
	case !ok:
		return fmt.Errorf("%q is not a number of seconds", words[3])
	}
	p.manifest = Manifest{Name: words[0], Version: words[1], Suite: words[2], Epoch: epoch}
	return nil
}

func (p *parser) pkg(words []string) error {
	switch {
	case !packageForm.MatchString(words[0]):
		return fmt.Errorf("%q is not the name of a package", words[0])
	case !packageVersionForm.MatchString(words[1]):
		return fmt.Errorf("%q is not the version of a package", words[1])
	case len(p.manifest.Files) > 0:
		return fmt.Errorf("package %s comes after a file", words[0])
	}
	p.manifest.Packages = append(p.manifest.Packages, Package{words[0], words[1]})
	return nil
}

func (p *parser) file(words []string) error {
	size, ok := decimal(words[2])
	switch {
	case !fileForm.MatchString(words[0]):
		return fmt.Errorf("%q is not the name of a file", words[0])
	case !sumForm.MatchString(words[1]):
		return fmt.Errorf("the SHA-256 of %s is not 64 hexadecimal digits in lower case", words[0])
	case !ok:
		return fmt.Errorf("%q is not the size of %s in bytes", words[2], words[0])
	}
	p.manifest.Files = append(p.manifest.Files, File{Name: words[0], SHA256: words[1], Bytes: size})
	return nil
}

// decimal reads a number as a program prints it: digits alone, none of them a leading zero.
func decimal(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
}

// String renders the manifest as Parse reads it.
func (m Manifest) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "image %s %s %s %d\n", m.Name, m.Version, m.Suite, m.Epoch)
	for _, p := range m.Packages {
		fmt.Fprintf(&b, "package %s %s\n", p.Name, p.Version)
	}
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file %s %s %d\n", f.Name, f.SHA256, f.Bytes)
	}
	return b.String()
}
