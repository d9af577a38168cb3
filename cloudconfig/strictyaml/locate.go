package strictyaml

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// maxMerges bounds how many merge keys Locate follows in one another.
const maxMerges = 8

// Locate returns the place of a field below a node by its path: "network.name", "units[2].file". When the field is not
// in the file, it is the place of the key that should contain it, or of the node itself. A key that contains dots is
// found too.
func Locate(file string, node *yaml.Node, path string) finding.Position {
	at := node
	for path != "" {
		key, value, rest := step(node, path)
		if value == nil {
			break
		}
		at = value
		if rest != "" {
			at = key
		}
		node, path = value, rest
	}
	return finding.Position{File: file, Line: at.Line, Column: at.Column}
}

// LocateKey is Locate for the place of the field's key, or of a list's item.
func LocateKey(file string, node *yaml.Node, path string) finding.Position {
	at := node
	for path != "" && node != nil {
		key, value, rest := step(node, path)
		if key != nil {
			at = key
		}
		node, path = value, rest
	}
	return finding.Position{File: file, Line: at.Line, Column: at.Column}
}

// Find returns the node of a field below a node by its path, or nil. It is no alias.
func Find(node *yaml.Node, path string) *yaml.Node {
	for path != "" && node != nil {
		_, node, path = step(node, path)
	}
	if node != nil && node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// step finds the node that the beginning of path leads to, the key that it stands at, and what is left of the path.
func step(node *yaml.Node, path string) (key, value *yaml.Node, rest string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias // yaml.v3 makes no alias of an alias
	}
	path = strings.TrimPrefix(path, ".")
	if node.Kind == yaml.SequenceNode {
		number, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || i < 0 || i >= len(node.Content) {
			return nil, nil, ""
		}
		return node.Content[i], node.Content[i], rest
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil, ""
	}
	return longestKey(node, path, 0)
}

// longestKey finds the longest key of a mapping that path begins with, or looks into the mapping's merge keys.
func longestKey(node *yaml.Node, path string, depth int) (key, value *yaml.Node, rest string) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		k := node.Content[i]
		after, ok := strings.CutPrefix(path, k.Value)
		if !ok || k.Kind != yaml.ScalarNode || after != "" && after[0] != '.' && after[0] != '[' {
			continue
		}
		if key == nil || len(k.Value) > len(key.Value) {
			key, value, rest = k, node.Content[i+1], after
		}
	}
	for i := 0; i+1 < len(node.Content) && key == nil && depth < maxMerges; i += 2 {
		if merged := node.Content[i+1].Alias; node.Content[i].ShortTag() == "!!merge" && merged != nil {
			key, value, rest = longestKey(merged, path, depth+1)
		}
	}
	return key, value, rest
}
