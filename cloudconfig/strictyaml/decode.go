package strictyaml

import (
	"encoding"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/secret"
)

var (
	nodeType     = reflect.TypeFor[yaml.Node]()
	secretType   = reflect.TypeFor[secret.Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	mapType      = reflect.TypeFor[map[string]any]()
)

// Node decodes a node into what into points to. Several calls share the decoder's bounds. Messages call the node what
// the Unmarshaler that asks was called.
func (d *Decoder) Node(node *yaml.Node, into any) {
	d.Field(d.name, node, into)
}

// Field is Node for a node that stands at a key, by which messages call it.
func (d *Decoder) Field(key string, node *yaml.Node, into any) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic("strictyaml: into is not a pointer")
	}
	d.value(node, v.Elem(), key)
}

// value decodes a node into v. name is the key or index it stands at, for messages; "" at the root.
func (d *Decoder) value(node *yaml.Node, v reflect.Value, name string) {
	d.enter(node, func(node *yaml.Node) {
		if v.Type() == nodeType {
			v.Set(reflect.ValueOf(*node))
			return
		}
		if d.coreTag(node) {
			d.tagged(node, v, name)
		}
	})
}

// enter follows aliases, counts the value, and calls fn unless a bound is reached.
func (d *Decoder) enter(node *yaml.Node, fn func(*yaml.Node)) {
	if d.full {
		return
	}
	if d.values++; d.values > MaxValues {
		d.stop(d.Position(node), "", "more than %d values, those of aliases counted every time", MaxValues)
		return
	}
	if d.depth++; d.depth > MaxDepth {
		d.stop(d.Position(node), "", "more than %d values in one another", MaxDepth)
		return
	}
	defer func() { d.depth-- }()
	if node.Kind != yaml.AliasNode {
		fn(node)
		return
	}
	target := node.Alias
	if d.within[target] {
		d.Add(node, "", "the anchor `%s` contains itself", node.Value)
		return
	}
	d.within[target] = true
	defer delete(d.within, target)
	fn(target)
}

// coreTag refuses tags that stand for types of other programs.
func (d *Decoder) coreTag(node *yaml.Node) bool {
	switch node.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!timestamp", "!!merge":
		return true
	}
	// It is not shown: what looks like a tag may be a password.
	d.Add(node, "remove the tag, or put the value in quotes if it begins with `!`", "the tag is not known")
	return false
}

// tagged decodes by the type of v.
func (d *Decoder) tagged(node *yaml.Node, v reflect.Value, name string) {
	if v.Kind() == reflect.Pointer {
		d.pointer(node, v, name)
		return
	}
	if u, ok := v.Addr().Interface().(Unmarshaler); ok {
		outer := d.name
		d.name = name
		u.UnmarshalStrict(d, node)
		d.name = outer
		return
	}
	switch v.Type() {
	case secretType:
		d.secret(node, v, name)
		return
	case durationType:
		d.duration(node, v, name)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.textValue(node, u, name)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(node, v, name)
	case reflect.Map:
		d.mapping(node, v, name)
	case reflect.Slice:
		d.slice(node, v, name)
	case reflect.Interface:
		d.anything(node, v, name)
	default:
		d.scalar(node, v, name)
	}
}

// pointer makes what v points to. An empty value and a wrong one leave it as it is.
func (d *Decoder) pointer(node *yaml.Node, v reflect.Value, name string) {
	if isNull(node) {
		if isScalar(v.Type().Elem()) {
			d.wrongType(node, v.Type().Elem(), name)
		}
		return
	}
	target := reflect.New(v.Type().Elem())
	if !v.IsNil() {
		target.Elem().Set(v.Elem())
	}
	before := len(d.findings)
	d.tagged(node, target.Elem(), name)
	if len(d.findings) == before || !isScalar(v.Type().Elem()) {
		v.Set(target)
	}
}

func (d *Decoder) slice(node *yaml.Node, v reflect.Value, name string) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.SequenceNode {
		d.wrongType(node, v.Type(), name)
		return
	}
	if len(node.Content) == 0 {
		v.SetZero()
		return
	}
	items := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		d.value(item, items.Index(i), name+"["+strconv.Itoa(i)+"]")
	}
	v.Set(items)
}

func (d *Decoder) mapping(node *yaml.Node, v reflect.Value, name string) {
	if v.Type().Key().Kind() != reflect.String {
		panic("strictyaml: cannot decode into " + v.Type().String())
	}
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.wrongType(node, v.Type(), name)
		return
	}
	entries := d.entries(node)
	m := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, e := range entries {
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(e.Value, value, e.Key.Value)
		m.SetMapIndex(reflect.ValueOf(e.Key.Value).Convert(v.Type().Key()), value)
	}
	v.Set(m)
}

// structure decodes the keys of a mapping into the fields of a struct.
func (d *Decoder) structure(node *yaml.Node, v reflect.Value, name string) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.wrongType(node, v.Type(), name)
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range d.entries(node) {
		index, ok := fields.index[e.Key.Value]
		if !ok {
			d.Add(e.Key, unknownHint(e.Key.Value, fields.names), "unknown key `%s`", short(e.Key.Value))
			continue
		}
		d.value(e.Value, v.FieldByIndex(index), e.Key.Value)
	}
}

// anything decodes into an interface without methods: nil, bool, int, uint64, float64, string, []any or map[string]any.
func (d *Decoder) anything(node *yaml.Node, v reflect.Value, name string) {
	if v.NumMethod() != 0 {
		panic("strictyaml: cannot decode into " + v.Type().String())
	}
	switch node.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.mapping(node, reflect.ValueOf(&m).Elem(), name)
		v.Set(reflect.ValueOf(m))
	case yaml.SequenceNode:
		s := []any{}
		d.slice(node, reflect.ValueOf(&s).Elem(), name)
		v.Set(reflect.ValueOf(s))
	default:
		if node.ShortTag() == "!!timestamp" {
			v.Set(reflect.ValueOf(node.Value))
			return
		}
		var scalar any
		if err := node.Decode(&scalar); err != nil {
			d.Add(node, "", "%s does not suit its tag %s", label(name, "the document"), node.Tag)
			return
		}
		if n, ok := scalar.(int64); ok { // yaml.v3 does so for octal and binary numbers
			scalar = int(n)
		}
		if scalar != nil {
			v.Set(reflect.ValueOf(scalar))
		}
	}
}

// isScalar reports whether a type takes one word of the file.
func isScalar(t reflect.Type) bool {
	if t == durationType || t == secretType || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Interface, reflect.Pointer:
		return false
	}
	return true
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }
