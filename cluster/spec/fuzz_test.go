package spec

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
	"github.com/musterhq/muster/providers"
)

type fuzzConfig struct {
	Root  string            `yaml:"root"`
	Token secret.Secret     `yaml:"token"`
	Tags  map[string]string `yaml:"tags"`
	Free  any               `yaml:"free"`
}

func (c *fuzzConfig) Validate() []providers.Problem {
	if c.Root == "bad" {
		return []providers.Problem{{Field: "root[3].x", Message: "is bad"}}
	}
	return nil
}

// fuzzParse parses without touching the disk.
func fuzzParse(data []byte) (Spec, error) {
	d := strictyaml.New("dir/cluster.yaml")
	d.LookupEnv = func(name string) (string, bool) { return name, name != "NONE" }
	d.ReadFile = func(path string, _ int64) ([]byte, error) {
		if path == "dir/none.service" {
			return nil, fs.ErrNotExist
		}
		return []byte("#cloud-config\nruncmd: [a]\n"), nil
	}
	newConfig := func() any { return &fuzzConfig{Root: "/"} }
	return parse(d, data, providers.NewRegistry(
		providers.Driver{Name: "local", NewConfig: newConfig, NewSettings: newConfig}, providers.Driver{Name: "bare"}))
}

// FuzzParse looks for panics and hangs, and checks that a valid file is within the bounds, and means the same when YAML
// has read and written it.
func FuzzParse(f *testing.F) {
	const head = "version: 1\ncluster: demo\nproviders:\n  a: {driver: local, token: {env: X}}\n  b: {driver: bare}\n"
	for _, seed := range []string{
		head + "hosts: {node: {count: 3, spread: [a, b], labels: {x: y}, settings: {a: {root: /x}}}}\n",
		head + "hosts: {node: &n {names: [x, y], provider: a, voter: true, cloud_config: c}, m: {<<: *n, names: [z]}}\n",
		head + "hosts: {n: {provider: b}}\nvoters: 1\nlease: 2s\nunits: [{file: a.service}, {file: b@.service, instances: [1..3, x]}]\n",
		head + "hosts: {n: {provider: a, settings: {root: bad}}}\nunits: [{file: none.service, desired: up}]\n",
		string(Starter("demo")), "version: 2\n", "hosts: &a {b: *a}\n", head + "hosts: {n: {count: 10000, provider: a}, m: {count: 10000, provider: a}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := fuzzParse(data)
		if err != nil {
			var findings finding.Findings
			if !errors.As(err, &findings) || len(findings) == 0 || len(findings) > strictyaml.MaxFindings+1 {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, h := range got.Hosts() {
			if CheckName(h.Name) != nil || seen[h.Name] {
				t.Fatalf("host %s", h.Name)
			}
			seen[h.Name] = true
		}
		if n := len(seen); n == 0 || n > MaxHosts || got.VoterCount() > n || len(got.Units) > 2*MaxInstances {
			t.Fatalf("%d hosts, %d voters, %d units", n, got.VoterCount(), len(got.Units))
		}
		var node yaml.Node
		if err := yaml.Unmarshal(data, &node); err != nil {
			t.Fatal(err)
		}
		uncomment(&node)
		out, err := yaml.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		again, err := fuzzParse(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got.Warnings, again.Warnings = nil, nil // other lines
		if !cmp.Equal(got, again) {
			t.Fatalf("%s\n%s", cmp.Diff(got, again), out)
		}
	})
}

// uncomment removes comments, which yaml.v3 may write elsewhere.
func uncomment(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	for _, child := range node.Content {
		uncomment(child)
	}
}
