package strictyaml

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Entry is one key of a mapping with its value.
type Entry struct{ Key, Value *yaml.Node }

// Entries returns the keys of the mapping that stands at a key, in their order, then those that merge keys (`<<`) add to
// it. It reports what is no mapping, keys that are no strings, and duplicates. The zero node has no entries.
func (d *Decoder) Entries(key string, node *yaml.Node) (entries []Entry) {
	if node.IsZero() {
		return nil
	}
	d.enter(node, func(node *yaml.Node) {
		switch {
		case isNull(node):
		case node.Kind != yaml.MappingNode:
			d.wrongType(node, mapType, key)
		default:
			entries = d.entries(node)
		}
	})
	return entries
}

func (d *Decoder) entries(node *yaml.Node) []Entry {
	var own, merged []Entry
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch {
		case key.ShortTag() == "!!merge":
			merged = append(merged, d.merge(value)...)
		case key.Kind != yaml.ScalarNode, key.ShortTag() != "!!str" && key.ShortTag() != "!!timestamp":
			d.Add(key, "put it in quotes if it is meant", "a key must be a string, not %s", gotKey(key))
		case first[key.Value] != nil:
			d.Add(key, "", "duplicate key `%s`, first on line %d", short(key.Value), first[key.Value].Line)
		default:
			first[key.Value] = key
			own = append(own, Entry{key, value})
		}
	}
	for _, e := range merged {
		if first[e.Key.Value] == nil {
			first[e.Key.Value] = e.Key
			own = append(own, e)
		}
	}
	return own
}

// merge returns what a merge key adds: the keys of one mapping, or of a list of them, earlier ones first
// (https://yaml.org/type/merge.html).
func (d *Decoder) merge(node *yaml.Node) (entries []Entry) {
	d.enter(node, func(node *yaml.Node) {
		switch node.Kind {
		case yaml.MappingNode:
			d.values += len(node.Content) / 2
			entries = d.entries(node)
		case yaml.SequenceNode:
			for _, item := range node.Content {
				entries = append(entries, d.merge(item)...)
			}
		default:
			d.Add(node, "write `<<: *anchor`", "`<<` must be a mapping or a list of mappings, not %s", got(node))
		}
	})
	return entries
}

// short shortens what messages quote.
func short(s string) string {
	const longest = 80
	if runes := []rune(s); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return s
}

func gotKey(key *yaml.Node) string {
	if isNull(key) {
		return "empty"
	}
	return got(key)
}

// fields are the keys that a struct takes: where each goes, and all names in the order of the struct.
type fields struct {
	index map[string][]int
	names []string
}

// fieldsOf reads the yaml tags of a struct, by the rules of yaml.v3.
func fieldsOf(t reflect.Type) fields {
	fs := fields{index: map[string][]int{}}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		inline := slices.Contains(strings.Split(options, ","), "inline")
		switch {
		case name == "-", !f.IsExported() && !inline:
		case inline:
			if f.Type.Kind() != reflect.Struct {
				panic("strictyaml: only a struct can be inline, not " + f.Type.String())
			}
			inner := fieldsOf(f.Type)
			for _, name := range inner.names {
				fs.add(name, append([]int{i}, inner.index[name]...))
			}
		case name == "":
			fs.add(strings.ToLower(f.Name), []int{i})
		default:
			fs.add(name, []int{i})
		}
	}
	return fs
}

func (fs *fields) add(name string, index []int) {
	if _, dup := fs.index[name]; dup {
		panic("strictyaml: two fields for the key " + name)
	}
	fs.index[name] = index
	fs.names = append(fs.names, name)
}

// Keys returns the keys that the struct which v is, or points to, takes.
func Keys(v any) []string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return fieldsOf(t).names
}

// unknownHint guesses which key was meant, or lists those that there are.
func unknownHint(key string, names []string) string {
	if hint := finding.DidYouMean(key, names); hint != "" {
		return hint
	}
	switch len(names) {
	case 0:
		return "no key is taken here"
	case 1:
		return "only `" + names[0] + "` is taken here"
	}
	return "there are `" + strings.Join(names[:len(names)-1], "`, `") + "` and `" + names[len(names)-1] + "`"
}
