package strictyaml_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

type common struct {
	Region string `yaml:"region"`
}

type disk struct {
	Size   int      `yaml:"size"`
	Labels []string `yaml:"labels"`
}

// upper reads itself from a string or a list of strings.
type upper string

func (u *upper) UnmarshalStrict(d *strictyaml.Decoder, node *yaml.Node) {
	if node.Kind == yaml.SequenceNode {
		var all []string
		d.Node(node, &all)
		*u = upper(strings.ToUpper(strings.Join(all, "+")))
		return
	}
	var s string
	d.Node(node, &s)
	if s == "wrong" {
		d.Add(node, "write right", "wrong is not right")
	}
	*u = upper(strings.ToUpper(s))
}

type config struct {
	common `yaml:",inline"`

	Name    string          `yaml:"name"`
	Count   int             `yaml:"count"`
	Small   int8            `yaml:"small"`
	Size    uint16          `yaml:"size"`
	Ratio   float64         `yaml:"ratio"`
	On      bool            `yaml:"enabled"`
	Maybe   *bool           `yaml:"maybe"`
	Lease   time.Duration   `yaml:"lease"`
	Address netip.Addr      `yaml:"address"`
	Token   secret.Secret   `yaml:"token"`
	Disks   []disk          `yaml:"disks"`
	Root    *disk           `yaml:"root"`
	ByName  map[string]disk `yaml:"by_name"`
	Upper   upper           `yaml:"upper"`
	Raw     yaml.Node       `yaml:"raw"`
	Any     any             `yaml:"any"`
	Plain   string
	Skipped string `yaml:"-"`
}

func TestDecode(t *testing.T) {
	t.Setenv("MUSTER_TEST_SECRET", "from env")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yes, day := true, "2024-01-02"
	for name, tc := range map[string]struct {
		in   string
		want config
	}{
		"scalars": {
			"name: a\ncount: -0x10\nsmall: -128\nsize: 65535\nratio: 2\nenabled: true\nmaybe: true\nlease: 1m30s\naddress: 127.0.0.1\nregion: eu\nplain: p\n",
			config{
				Name: "a", Count: -16, Small: -128, Size: 65535, Ratio: 2, On: true, Maybe: &yes, Lease: 90 * time.Second,
				Address: netip.MustParseAddr("127.0.0.1"), common: common{"eu"}, Plain: "p",
			},
		},
		"strings that look otherwise": {
			"name: 2024-01-02\nplain: no\nregion: \"7\"\nupper: <<\n",
			config{Name: day, Plain: "no", common: common{"7"}, Upper: "<<"},
		},
		"containers": {
			"disks: [{size: 1}, {size: 2, labels: [x]}]\nroot: {size: 3}\nby_name: {a.b: {size: 4}}\nupper: [a, b]\nany: {a: [1, x, null, 2.5, true]}\n",
			config{
				Disks: []disk{{Size: 1}, {Size: 2, Labels: []string{"x"}}}, Root: &disk{Size: 3},
				ByName: map[string]disk{"a.b": {Size: 4}}, Upper: "A+B",
				Any: map[string]any{"a": []any{1, "x", nil, 2.5, true}},
			},
		},
		"empty containers": {"disks:\nroot:\nby_name:\nname: a\n", config{Name: "a"}},
		"aliases and merges": {
			"root: &r {size: 1, labels: &l [x]}\ndisks: [*r, {<<: *r, size: 2}]\nby_name: {a: {<<: [{size: 5}, *r]}, b: {labels: *l}}\n",
			config{
				Root:  &disk{1, []string{"x"}},
				Disks: []disk{{1, []string{"x"}}, {2, []string{"x"}}},
				ByName: map[string]disk{
					"a": {5, []string{"x"}}, "b": {0, []string{"x"}},
				},
			},
		},
		"secret": {"token: abc\n", config{Token: secret.New("abc")}},
		"secret of the environment": {
			"token: {env: MUSTER_TEST_SECRET}\n", config{Token: secret.New("from env")},
		},
		"secret of a file": {"token:\n  file: token\n", config{Token: secret.New("from file")}},
		"byte order mark, carriage returns, end of document": {
			"\ufeffname: a\r\ncount: 1\r\n...\r\n", config{Name: "a", Count: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got config
			if fs := strictyaml.Decode(filepath.Join(dir, "f.yaml"), []byte(tc.in), &got); fs != nil {
				t.Fatal(fs)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	got := config{
		Name: "default", Count: 7, Root: &disk{Size: 10, Labels: []string{"a", "b"}}, Disks: []disk{{Size: 1}, {Size: 2}},
		ByName: map[string]disk{"a": {Size: 1}},
	}
	before := got.Root
	fs := strictyaml.Decode("f", []byte("name: set\nroot: {labels: [c]}\ndisks: [{}]\nby_name: {b: {}}\n"), &got)
	if fs != nil {
		t.Fatal(fs)
	}
	want := config{
		Name: "set", Count: 7, Root: &disk{Size: 10, Labels: []string{"c"}}, Disks: []disk{{}},
		ByName: map[string]disk{"b": {}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !reflect.DeepEqual(before, &disk{Size: 10, Labels: []string{"a", "b"}}) {
		t.Error("what a default pointed to was changed")
	}
}

func TestDecodeFindings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_TEST_EMPTY", "")
	for name, tc := range map[string]struct{ in, want string }{
		"unknown keys": {
			"conut: 1\nroot:\n  sizes: 2\n  x: 3\nregoin: eu\n",
			"f:1:1: unknown key `conut`; did you mean `count`?\n" +
				"f:3:3: unknown key `sizes`; did you mean `size`?\n" +
				"f:4:3: unknown key `x`; there are `size` and `labels`\n" +
				"f:5:1: unknown key `regoin`; did you mean `region`?",
		},
		"wrong types": {
			"name: 1\ncount: \"3\"\nenabled: yes\nlease: 5\ndisks: x\nroot: 1\nby_name: [a]\nratio: x\nregion: [a]\nplain: {a: b}\nmaybe: 1.5\nsize: {}\n",
			"f:1:7: `name` must be a string, not a whole number; put it in quotes: \"1\"\n" +
				"f:2:8: `count` must be a whole number, not a string; remove the quotes\n" +
				"f:3:10: `enabled` must be true or false, not a string; write true\n" +
				"f:4:8: `lease` must be a duration such as 5s, not a whole number; add a unit: 5s\n" +
				"f:5:8: `disks` must be a list, not a string; write [x]\n" +
				"f:6:7: `root` must be a mapping, not a whole number; write `key: value` in the lines below\n" +
				"f:7:10: `by_name` must be a mapping, not a list\n" +
				"f:8:8: `ratio` must be a number, not a string\n" +
				"f:9:9: `region` must be a string, not a list\n" +
				"f:10:8: `plain` must be a string, not a mapping\n" +
				"f:11:8: `maybe` must be true or false, not a decimal number\n" +
				"f:12:7: `size` must be a whole number, not a mapping",
		},
		"wrong items": {
			"disks: [{size: x}, 1, {labels: [a, 1]}]\nupper: wrong\n",
			"f:1:16: `size` must be a whole number, not a string\n" +
				"f:1:20: `disks[1]` must be a mapping, not a whole number; write `key: value` in the lines below\n" +
				"f:1:36: `labels[1]` must be a string, not a whole number; put it in quotes: \"1\"\n" +
				"f:2:8: wrong is not right; write right",
		},
		"numbers out of range": {
			"small: 128\nsize: 65536\ncount: 99999999999999999999\nratio: .inf\n",
			"f:1:8: `small` is out of range\n" +
				"f:2:7: `size` is out of range\n" +
				"f:3:8: `count` must be a whole number, not a decimal number",
		},
		"negative":         {"size: -1\n", "f:1:7: `size` must not be negative"},
		"no duration":      {"lease: soon\n", "f:1:8: `lease` is no duration; write for example 500ms, 5s, 10m or 1h30m"},
		"text":             {"address: 300.1.1.1\n", "f:1:10: `address`: ParseAddr(\"300.1.1.1\"): IPv4 field has value >255"},
		"text of a list":   {"address: []\n", "f:1:10: `address` must be a single value, not a list"},
		"no value":         {"count:\nname: ~\nmaybe: null\n", "f:1:7: `count` has no value; give it a whole number, or remove the key\nf:2:7: `name` has no value; give it a string, or remove the key\nf:3:8: `maybe` has no value; give it true or false, or remove the key"},
		"duplicate":        {"name: a\ncount: 1\nname: b\nroot: {size: 1, size: 2}\n", "f:3:1: duplicate key `name`, first on line 1\nf:4:17: duplicate key `size`, first on line 4"},
		"key is no string": {"by_name: {1: {}, ~: {}, [a]: {}}\n", "f:1:11: a key must be a string, not a whole number; put it in quotes if it is meant\nf:1:18: a key must be a string, not empty; put it in quotes if it is meant\nf:1:25: a key must be a string, not a list; put it in quotes if it is meant"},
		"foreign tag": {"name: !vault x\nroot: !!set {}\n", "f:1:7: the tag is not known; remove the tag, or put the value in quotes if it begins with `!`\n" +
			"f:2:7: the tag is not known; remove the tag, or put the value in quotes if it begins with `!`"},
		"tag does not suit":    {"count: !!int x\nany: !!float y\n", "f:1:8: `count` is out of range\nf:2:6: `any` does not suit its tag !!float"},
		"anchor in itself":     {"any: &c [*c]\nraw: &a {b: *a}\nby_name: {a: &d {labels: *d}}\n", "f:1:10: the anchor `c` contains itself\nf:3:14: `labels` must be a list, not a mapping"},
		"once for all aliases": {"root: &r {size: x, sizes: 1}\ndisks: [*r, *r, {<<: *r}]\n", "f:1:17: `size` must be a whole number, not a string\nf:1:20: unknown key `sizes`; did you mean `size`?"},
		"merge of a word":      {"root: {<<: a}\n", "f:1:12: `<<` must be a mapping or a list of mappings, not a string; write `<<: *anchor`"},
		"secrets": {
			"token: {env: MUSTER_TEST_EMPTY}\n", "f:1:14: `token`: the environment variable `MUSTER_TEST_EMPTY` is empty; export it before you call muster",
		},
		"secret: variable": {
			"token:\n  env: MUSTER_TEST_NONE\n", "f:2:8: `token`: the environment variable `MUSTER_TEST_NONE` is not set; export it before you call muster",
		},
		"secret: no file": {
			"token: {file: none}\n", "f:1:15: `token`: cannot read the secret: stat DIR/none: no such file or directory; paths are relative to the directory of this file",
		},
		"secret: directory":  {"token: {file: .}\n", "f:1:15: `token`: cannot read the secret: DIR is not a regular file"},
		"secret: empty file": {"token: {file: empty}\n", "f:1:15: `token`: the file `empty` is empty"},
		"secret: both":       {"token: {file: a, env: b}\n", "f:1:8: `token` must have either `env` or `file`"},
		"secret: neither":    {"token: {}\n", "f:1:8: `token` must have either `env` or `file`"},
		"secret: other key":  {"token: {vault: a}\n", "f:1:8: `token` must have either `env` or `file`; put it in quotes if it is the secret itself"},
		"secret: number":     {"token: 123456\n", "f:1:8: `token` must be a string, {env: NAME} or {file: path}, not a whole number; put it in quotes"},
		"secret: list":       {"token: [x]\n", "f:1:8: `token` must be a string, {env: NAME} or {file: path}, not a list"},
		"secret: none":       {"token:\n", "f:1:7: `token` has no value; give it a string, {env: NAME} or {file: path}, or remove the key"},
		"empty file":         {"", "f:1:1: the file is empty"},
		"only comments":      {"# nothing\n---\n# here\n", "f:1:1: the file is empty"},
		"document: list":     {"- a\n", "f:1:1: the document must be a mapping, not a list"},
		"two documents":      {"name: a\n---\nname: b\n", "f:2:1: a second document begins here, one is read; remove this `---` and what follows it"},
		"junk afterwards":    {"name: a\n---\n[\n", "f:3: not valid YAML: did not find expected node content"},
	} {
		t.Run(name, func(t *testing.T) {
			var c config
			file := filepath.Join(dir, "f")
			fs := strictyaml.Decode(file, []byte(tc.in), &c)
			got := strings.ReplaceAll(strings.ReplaceAll(fs.Error(), file+":", "f:"), dir, "DIR")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSyntaxFindings(t *testing.T) {
	for in, want := range map[string]string{
		"a: 1\nb: [1, 2\nc: 3\n": "f:2: not valid YAML: what opens here lacks its `]`, or a comma",
		"a: 1\nb: {x: 1\nc: 2\n": "f:2: not valid YAML: what opens here lacks its `}`, or a comma",
		"a: 1\nb: \"x\nc: 3\n":   "f:2: not valid YAML: the quote that opens here is not closed",
		"a: 1\n\tb: 2\n":         "f:2: not valid YAML: a tab cannot indent; use spaces",
		"a: 1\nb:\n\tc: 2\n":     "f:3: not valid YAML: a tab cannot indent; use spaces",
		"a: b: c\n":              "f:1: not valid YAML: no `key:` is possible here; check the indentation, and put a value that contains `: ` in quotes",
		"a: 1\n b: 2\n":          "f:2: not valid YAML: no `key:` is possible here; check the indentation, and put a value that contains `: ` in quotes",
		"a: 1\nb: @x\n":          "f:2: not valid YAML: a value cannot begin with this character; put the value in quotes",
		"a: 1\nb: *nope\n":       "f:2:4: not valid YAML: no anchor has the name that follows this `*`; put the value in quotes if it begins with `*`",
		"a:\n  b: 1\n c: 2\n":    "f:3: not valid YAML: did not find expected key; check the indentation here and in the lines before",
		"a: 1\njunk\nb: 2\n":     "f:2: not valid YAML: `key: value` expected",
		"a: 1\nb: x\x01\n":       "f:2:5: control character U+0001; remove it, or write it as an escape in double quotes",
		"a: 1\nb: 'é\xff'\n":     "f:2:6: the byte 0xff is not UTF-8; save the file as UTF-8",
		"%FOO\n---\na: 1\n":      "f:1: not valid YAML: found unknown directive name",
	} {
		if got := strictyaml.Decode("f", []byte(in), &map[string]any{}).Error(); got != want {
			t.Errorf("%q\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10))
	}
	merges := "a0: &a0 {k: v}\n"
	for i := 1; i < 40; i++ {
		merges += fmt.Sprintf("a%d: &a%d {<<: [*a%d, *a%d]}\n", i, i, i-1, i-1)
	}
	var unknown strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&unknown, "k%d: x\n", i)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"aliases":  {bomb, "more than 100000 values, those of aliases counted every time"},
		"merges":   {merges, "more than 100000 values, those of aliases counted every time"},
		"depth":    {"a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "more than 1000 values in one another"},
		"size":     {strings.Repeat("#\n", strictyaml.MaxBytes/2+1), "the file has 1048578 bytes, at most 1048576 are read"},
		"findings": {unknown.String(), "more than 100 findings; mend these first"},
	} {
		t.Run(name, func(t *testing.T) {
			var into any = &map[string]any{}
			if name == "findings" {
				into = &config{}
			}
			fs := strictyaml.Decode("f", []byte(tc.in), into)
			if len(fs) == 0 || len(fs) > strictyaml.MaxFindings+1 || !strings.Contains(fs.Error(), tc.want) {
				t.Errorf("%d findings, want one %q: %.300s", len(fs), tc.want, fs.Error())
			}
		})
	}
}

func TestLocate(t *testing.T) {
	var root yaml.Node
	in := `providers:
  cloud-a:
    region: eu
    network: {name: x}
hosts:
  node:
    labels:
      example.com/role: web
      example.com: site
units:
  - file: a
  - &u
    file: b
base: &base
  size: 1
derived:
  <<: *base
again: *u
`
	if err := yaml.Unmarshal([]byte(in), &root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                                   "f:1:1",
		"providers.cloud-a.region":           "f:3:13",
		"providers.cloud-a.network.name":     "f:4:21",
		"providers.cloud-a.network.missing":  "f:4:5",
		"providers.cloud-a.missing.deep":     "f:2:3",
		"missing":                            "f:1:1",
		"hosts.node.labels.example.com":      "f:9:20",
		"hosts.node.labels.example.com/role": "f:8:25",
		"units[0].file":                      "f:11:11",
		"units[1].file":                      "f:13:11",
		"units[2].file":                      "f:10:1",
		"units[x]":                           "f:10:1",
		"units.file":                         "f:10:1",
		"derived.size":                       "f:15:9",
		"again.file":                         "f:13:11",
	} {
		if got := strictyaml.Locate("f", root.Content[0], path).String(); got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
	if strictyaml.Find(root.Content[0], "units[1].file").Value != "b" || strictyaml.Find(root.Content[0], "units[1].x") != nil {
		t.Error("Find does not find")
	}
}

// TestNodesOfADecoderShareItsBounds decodes the parts of a file one by one, as the cluster file does with settings.
func TestNodesOfADecoderShareItsBounds(t *testing.T) {
	d := strictyaml.New("f")
	root := d.Parse([]byte("a: &a [" + strings.Repeat("x, ", 60_000) + "]\nb: *a\n"))
	var parts map[string]yaml.Node
	d.Node(root, &parts)
	for _, key := range []string{"a", "b"} {
		part, list := parts[key], []string{}
		d.Node(&part, &list)
	}
	want := finding.Finding{Position: finding.Position{File: "f", Line: 1}}
	if fs := d.Findings(); len(fs) != 1 || fs[0].Line != want.Line || !strings.Contains(fs[0].Message, "more than 100000") {
		t.Errorf("findings %v", fs)
	}
}

func TestKeys(t *testing.T) {
	if got := strings.Join(strictyaml.Keys(&disk{}), " "); got != "size labels" {
		t.Errorf("keys %s", got)
	}
}
