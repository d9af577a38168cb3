package cloudconfig

import (
	"bytes"
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// ReservedDir is where muster's own files are on every host. An operator's document cannot write there.
const ReservedDir = "/etc/muster"

// Parse reads a cloud-config. file is named in the findings, which are the error.
func Parse(file string, data []byte) (Document, error) {
	return parse(file, data, false)
}

// ParseOperator reads a cloud-config that is to be merged over a generated one: files in ReservedDir are findings too.
func ParseOperator(file string, data []byte) (Document, error) {
	return parse(file, data, true)
}

func parse(file string, data []byte, operator bool) (Document, error) {
	d := strictyaml.New(file)
	header, body, _ := bytes.Cut(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n"))
	if strings.TrimRight(string(header), " \t\r") != Header {
		d.AddAt(finding.Position{File: file, Line: 1, Column: 1}, "make `"+Header+"` its first line", "this is no cloud-config")
		return Document{}, d.Findings().Err()
	}
	var doc Document
	if onlyComments(body) {
		return doc, nil
	}
	if root := d.Parse(data); root != nil {
		d.Node(root, &doc)
		(&checker{Decoder: d, root: root, operator: operator}).document(doc)
	}
	if err := d.Findings().Err(); err != nil {
		return Document{}, err
	}
	return doc, nil
}

// onlyComments reports whether nothing but comments and blanks is in a body. Such a document is empty, but valid.
func onlyComments(body []byte) bool {
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// checker finds what is wrong with values of the right types.
type checker struct {
	*strictyaml.Decoder
	root     *yaml.Node
	operator bool
	bytes    int // of all files so far
}

func (c *checker) add(path, hint, format string, args ...any) {
	c.AddAt(strictyaml.Locate(c.File, c.root, path), hint, format, args...)
}

var (
	hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	account  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?$`)
	owner    = regexp.MustCompile(`^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?$`)
)

func (c *checker) document(doc Document) {
	if doc.Hostname != "" && (!hostname.MatchString(doc.Hostname) || len(doc.Hostname) > 253) {
		c.add("hostname", "use letters, digits and hyphens", "`%s` is no host name", doc.Hostname)
	}
	c.users(doc.Users)
	c.keys("ssh_authorized_keys", doc.SSHAuthorizedKeys)
	first := map[string]string{}
	for i, f := range doc.WriteFiles {
		at := "write_files[" + strconv.Itoa(i) + "]"
		c.file(at, f)
		if other, dup := first[f.Path]; dup && f.Path != "" {
			line := strictyaml.Locate(c.File, c.root, other).Line
			c.add(at+".path", "", "`%s` is written twice, first on line %d", f.Path, line)
			continue
		}
		first[f.Path] = at + ".path"
	}
}

func (c *checker) users(users []User) {
	seen := map[string]bool{}
	for i, u := range users {
		at := "users[" + strconv.Itoa(i) + "]"
		switch {
		case u.Name == "":
			c.add(at, "", "a user needs a `name`")
		case !account.MatchString(u.Name):
			c.add(at+".name", "", "`%s` is no user name", u.Name)
		case seen[u.Name]:
			c.add(at+".name", "", "a second user `%s`", u.Name)
		}
		seen[u.Name] = true
		for j, g := range u.Groups {
			if !account.MatchString(g) {
				c.add(at+".groups["+strconv.Itoa(j)+"]", "", "`%s` is no group name", g)
			}
		}
		c.keys(at+".ssh_authorized_keys", u.SSHAuthorizedKeys)
	}
}

func (c *checker) keys(at string, keys []string) {
	for i, key := range keys {
		if strings.TrimSpace(key) == "" || strings.ContainsAny(strings.TrimSpace(key), "\r\n") {
			c.add(at+"["+strconv.Itoa(i)+"]", "give one line of a .pub file", "this is no public key")
		}
	}
}

func (c *checker) file(at string, f File) {
	if f.Path == "" {
		c.add(at, "", "a file needs a `path`")
	} else if problem := checkPath(f.Path); problem != "" {
		c.add(at+".path", "", "`%s` %s", f.Path, problem)
	} else if c.operator && Reserved(f.Path) {
		c.add(at+".path", "write it elsewhere", "`%s` is in `%s`, which is muster's own", f.Path, ReservedDir)
	}
	if f.Owner != "" && !owner.MatchString(f.Owner) {
		c.add(at+".owner", "write user or user:group", "`%s` is no owner", f.Owner)
	}
	if c.bytes > MaxBytes {
		return
	}
	data, err := f.Bytes()
	if err != nil {
		c.add(at+".content", "", "%v", err)
	}
	if c.bytes += len(data); c.bytes > MaxBytes {
		c.add(at+".content", "", "the files have more than 64 MiB up to here")
	}
}

// checkPath says what is wrong with the path of a file, or "".
func checkPath(p string) string {
	switch {
	case !path.IsAbs(p):
		return "is not an absolute path"
	case path.Clean(p) != p:
		return "should be `" + path.Clean(p) + "`"
	case p == "/":
		return "is a directory"
	case strings.ContainsRune(p, 0) || len(p) > 4095:
		return "is no path"
	}
	return ""
}

// Reserved reports whether a path is ReservedDir or below it.
func Reserved(p string) bool {
	p = path.Clean("/" + p)
	return p == ReservedDir || strings.HasPrefix(p, ReservedDir+"/")
}
