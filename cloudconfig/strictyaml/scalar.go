package strictyaml

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// scalar decodes strings, booleans and numbers.
func (d *Decoder) scalar(node *yaml.Node, v reflect.Value, name string) {
	tag := node.ShortTag()
	switch kind := v.Kind(); {
	case node.Kind != yaml.ScalarNode:
		d.wrongType(node, v.Type(), name)
	case kind == reflect.String && (tag == "!!str" || tag == "!!timestamp" || tag == "!!merge"):
		v.SetString(node.Value)
	case kind == reflect.Bool && tag == "!!bool":
		var b bool
		d.resolve(node, &b, name)
		v.SetBool(b)
	case v.CanInt() && tag == "!!int":
		d.integer(node, v, name)
	case v.CanUint() && tag == "!!int":
		d.unsigned(node, v, name)
	case v.CanFloat() && (tag == "!!float" || tag == "!!int"):
		var f float64
		d.resolve(node, &f, name)
		v.SetFloat(f)
	case kind == reflect.String, kind == reflect.Bool, v.CanInt(), v.CanUint(), v.CanFloat():
		d.wrongType(node, v.Type(), name)
	default:
		panic("strictyaml: cannot decode into " + v.Type().String())
	}
}

func (d *Decoder) integer(node *yaml.Node, v reflect.Value, name string) {
	var n int64
	if !d.resolve(node, &n, name) {
		return
	}
	if v.OverflowInt(n) {
		d.Add(node, "", "%s is out of range", label(name, node.Value))
		return
	}
	v.SetInt(n)
}

func (d *Decoder) unsigned(node *yaml.Node, v reflect.Value, name string) {
	if strings.HasPrefix(node.Value, "-") {
		d.Add(node, "", "%s must not be negative", label(name, node.Value))
		return
	}
	var n uint64
	if !d.resolve(node, &n, name) {
		return
	}
	if v.OverflowUint(n) {
		d.Add(node, "", "%s is out of range", label(name, node.Value))
		return
	}
	v.SetUint(n)
}

// resolve reads a scalar as yaml.v3 does. It fails on numbers beyond 64 bits and on explicit tags that do not suit.
func (d *Decoder) resolve(node *yaml.Node, into any, name string) bool {
	if node.Decode(into) != nil {
		d.Add(node, "", "%s is out of range", label(name, node.Value))
		return false
	}
	return true
}

func (d *Decoder) duration(node *yaml.Node, v reflect.Value, name string) {
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
		d.wrongType(node, v.Type(), name)
		return
	}
	duration, err := time.ParseDuration(node.Value)
	if err != nil {
		d.Add(node, "write for example 500ms, 5s, 10m or 1h30m", "%s is no duration", label(name, node.Value))
		return
	}
	v.SetInt(int64(duration))
}

// textValue gives any scalar's text, as it is written, to a type that reads itself.
func (d *Decoder) textValue(node *yaml.Node, u encoding.TextUnmarshaler, name string) {
	if node.Kind != yaml.ScalarNode || isNull(node) {
		d.wrongType(node, reflect.TypeOf(u).Elem(), name)
		return
	}
	if err := u.UnmarshalText([]byte(node.Value)); err != nil {
		d.Add(node, "", "%s: %v", label(name, node.Value), err)
	}
}

// wrongType reports that a node cannot be a value of type t.
func (d *Decoder) wrongType(node *yaml.Node, t reflect.Type, name string) {
	if isNull(node) {
		d.Add(node, "give it "+want(t)+", or remove the key", "%s has no value", label(name, "the document"))
		return
	}
	d.Add(node, typeHint(node, t), "%s must be %s, not %s", label(name, "the document"), want(t), got(node))
}

// label is how messages call a value: by its key, else by what it is.
func label(name, otherwise string) string {
	if name == "" {
		name = otherwise
	}
	if name == "the document" {
		return name
	}
	return "`" + short(name) + "`"
}

// want says what a Go type takes, in words of the file.
func want(t reflect.Type) string {
	switch {
	case t == secretType:
		return "a string, {env: NAME} or {file: path}"
	case t == durationType:
		return "a duration such as 5s"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "a single value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	default:
		return "a whole number"
	}
}

// got says what a node is, in words of the file.
func got(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int":
		return "a whole number"
	case "!!float":
		return "a decimal number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	default:
		return "a string"
	}
}

// typeHint guesses how the right type would be written.
func typeHint(node *yaml.Node, t reflect.Type) string {
	if node.Kind != yaml.ScalarNode || short(node.Value) != node.Value {
		return ""
	}
	_, notNumber := strconv.ParseFloat(node.Value, 64)
	quoted := node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
	switch want(t) {
	case "a string":
		return "put it in quotes: \"" + node.Value + "\""
	case "a whole number", "a number":
		if quoted && notNumber == nil {
			return "remove the quotes"
		}
	case "a duration such as 5s":
		return "add a unit: " + node.Value + "s"
	case "true or false":
		if yes, known := spokenBool[strings.ToLower(node.Value)]; known {
			return "write " + strconv.FormatBool(yes)
		}
	case "a list":
		return "write [" + node.Value + "]"
	case "a mapping":
		return "write `key: value` in the lines below"
	}
	return ""
}

// spokenBool are the booleans of YAML 1.1 that YAML 1.2 has no more, and quoted ones.
var spokenBool = map[string]bool{
	"yes": true, "y": true, "on": true, "true": true, "no": false, "n": false, "off": false, "false": false,
}
