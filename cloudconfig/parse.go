package cloudconfig

import (
	"bytes"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// ReservedDir is where muster's own files are on every host. An operator's document cannot write there.
const ReservedDir = "/etc/muster"

// Parse reads a cloud-config. file is named in the findings, which are the error. Hyphens in keys stand for underscores,
// as coreos-cloudinit had it. Variables of addresses are noted, to be filled in by ExpandAddresses.
func Parse(file string, data []byte) (Document, error) {
	return parse(file, data, false)
}

// ParseOperator reads a cloud-config that is to be merged over a generated one: files in ReservedDir and a unit of
// musterd's name are findings too. Variables of the cluster are noted, to be filled in by Expand.
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
		underscores(root)
		d.Node(root, &doc)
		c := checker{Decoder: d, root: root, operator: operator}
		c.document(doc)
		c.findUses(&doc)
	}
	if err := d.Findings().Err(); err != nil {
		return Document{}, err
	}
	return doc, nil
}

// underscores spells all keys with underscores.
func underscores(node *yaml.Node) {
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode {
			child.Value = strings.ReplaceAll(child.Value, "-", "_")
		}
		underscores(child)
	}
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

// checkPath says what is wrong with the path of a file, or "".
func checkPath(p string) string {
	switch {
	case strings.ContainsAny(p, "\r\n"):
		return "has more than one line"
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
