package strictyaml

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/secret"
)

// maxSecretBytes bounds the file of a secret: the largest are keys.
const maxSecretBytes = 64 << 10

// secretRef is a secret that stands elsewhere.
type secretRef struct {
	Env  *string `yaml:"env"`
	File *string `yaml:"file"`
}

// secret decodes a secret given literally, as {env: NAME} or as {file: path}.
func (d *Decoder) secret(node *yaml.Node, v reflect.Value, name string) {
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str":
		v.Set(reflect.ValueOf(secret.New(node.Value)))
	case node.Kind == yaml.ScalarNode && !isNull(node):
		// The hint for strings would show the value.
		d.Add(node, "put it in quotes", "%s must be %s, not %s", label(name, "the document"), want(secretType), got(node))
	case node.Kind != yaml.MappingNode:
		d.wrongType(node, secretType, name)
	case slices.ContainsFunc(d.entries(node), func(e Entry) bool { return !refersTo(e.Key.Value) }):
		d.Add(node, "put it in quotes if it is the secret itself", "%s must have either `env` or `file`", label(name, "the document"))
	default:
		var ref secretRef
		before := len(d.findings)
		d.structure(node, reflect.ValueOf(&ref).Elem(), name)
		if len(d.findings) > before || d.full {
			return
		}
		if value, ok := d.resolveSecret(node, ref, name); ok {
			v.Set(reflect.ValueOf(secret.New(value)))
		}
	}
}

// refersTo reports whether a key says where a secret stands, or was meant to. Others are not shown: a secret in braces is a
// mapping with itself as the key.
func refersTo(key string) bool {
	known := []string{"env", "file"}
	return slices.Contains(known, key) || finding.DidYouMean(key, known) != ""
}

func (d *Decoder) resolveSecret(node *yaml.Node, ref secretRef, name string) (string, bool) {
	switch {
	case (ref.Env == nil) == (ref.File == nil):
		d.Add(node, "", "%s must have either `env` or `file`", label(name, "the document"))
		return "", false
	case ref.Env != nil:
		return d.secretEnv(node, *ref.Env, name)
	default:
		return d.secretFile(node, *ref.File, name)
	}
}

func (d *Decoder) secretEnv(node *yaml.Node, variable, name string) (string, bool) {
	value, ok := d.LookupEnv(variable)
	at, hint := Locate(d.File, node, "env"), "export it before you call muster"
	switch {
	case !ok:
		d.AddAt(at, hint, "%s: the environment variable `%s` is not set", label(name, "secret"), variable)
	case value == "":
		d.AddAt(at, hint, "%s: the environment variable `%s` is empty", label(name, "secret"), variable)
	}
	return value, value != ""
}

func (d *Decoder) secretFile(node *yaml.Node, path, name string) (string, bool) {
	at := Locate(d.File, node, "file")
	data, err := d.ReadFile(d.Path(path), maxSecretBytes)
	value := strings.TrimRight(string(data), "\r\n")
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) && d.Path(path) != path {
			hint = "paths are relative to the directory of this file"
		}
		d.AddAt(at, hint, "%s: cannot read the secret: %v", label(name, "secret"), err)
		return "", false
	}
	if value == "" {
		d.AddAt(at, "", "%s: the file `%s` is empty", label(name, "secret"), path)
	}
	return value, value != ""
}
