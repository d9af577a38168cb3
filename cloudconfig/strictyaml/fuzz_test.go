package strictyaml_test

import (
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// FuzzDecode looks for panics and hangs, and checks that what decodes without a finding encodes to something that
// decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: a\ncount: 1\nlease: 5s\naddress: ::1\ndisks: [{size: 1}]\nany: {a: [1, 0x2, .inf, ~, 2024-01-01]}\n",
		"root: &r {size: 1}\nby_name: {a: *r, b: {<<: *r}}\n",
		"by_name: &a {b: *a}\n", "a: b: c\n", "%YAML 1.1\n---\n!!str a\n--- b\n", "token: {env: HOME}\n", "\"\\0\": '\t'\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		d := strictyaml.New("f")
		d.ReadFile = func(string, int64) ([]byte, error) { return []byte("secret"), nil }
		if root := d.Parse(data); root != nil {
			d.Node(root, &c)
		}
		if fs := d.Findings(); len(fs) > 0 {
			if len(fs) > strictyaml.MaxFindings+1 || fs[0].Message == "" {
				t.Fatalf("%d findings: %v", len(fs), fs)
			}
			return
		}
		var tree, again map[string]any
		if strictyaml.Decode("f", data, &tree) != nil {
			return // names what an `any` cannot take and a typed field can
		}
		out, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		if fs := strictyaml.Decode("f", out, &again); fs != nil && len(tree) > 0 {
			t.Fatalf("%v\n%s", fs, out)
		} else if !equal(reflect.ValueOf(tree), reflect.ValueOf(again)) {
			t.Fatalf("%#v\n%#v\n%s", tree, again, out)
		}
	})
}

// equal is reflect.DeepEqual, but for floating point numbers (8.0 is written as 8) and for an empty document.
func equal(a, b reflect.Value) bool {
	if a.Kind() == reflect.Map && a.Len() == 0 {
		return b.Len() == 0
	}
	return reflect.DeepEqual(a.Interface(), b.Interface()) || hasFloat(a)
}

func hasFloat(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Interface:
		return !v.IsNil() && hasFloat(v.Elem())
	case reflect.Float64:
		return true
	case reflect.Slice:
		for i := range v.Len() {
			if hasFloat(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if hasFloat(v.MapIndex(k)) {
				return true
			}
		}
	}
	return false
}
