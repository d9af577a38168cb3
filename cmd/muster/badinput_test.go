package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
	"github.com/musterhq/muster/providers/local"
)

const goodFile = `version: 1
cluster: demo
voters: 1
providers:
  a: {driver: fake}
hosts:
  node: {count: 2, provider: a}
`

// invoke runs muster in this process, in a directory of its own with the given files.
func invoke(t *testing.T, files map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("MUSTER_STATE_DIR", filepath.Join(dir, "state"))
	t.Setenv("MUSTER_FILE", "")
	return invokeHere(t, args...)
}

// invokeHere runs muster where invoke has been.
func invokeHere(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	known := providers.NewRegistry(local.Driver(), fake.Driver())
	status = runWith(t.Context(), known, args, strings.NewReader(""), &out, &err)
	return status, out.String(), err.String()
}

// replaced is the good cluster file with one part replaced.
func replaced(t *testing.T, old, with string) string {
	t.Helper()
	if !strings.Contains(goodFile, old) {
		t.Fatalf("%q is not in the cluster file", old)
	}
	return strings.Replace(goodFile, old, with, 1)
}

// TestBadInputs: whatever is wrong with what was typed or written is told clearly, with the right exit status, and
// nothing is changed.
func TestBadInputs(t *testing.T) {
	file := func(old, with string) map[string]string {
		return map[string]string{"cluster.yaml": replaced(t, old, with)}
	}
	with := func(extra map[string]string) map[string]string {
		extra["cluster.yaml"] = goodFile
		return extra
	}
	units := "units:\n  - "
	good := map[string]string{"cluster.yaml": goodFile}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		args   string
		status int
		want   string // in what goes to standard error
	}{
		{"unknown verb", nil, "pu", statusUsage, "did you mean `up`?"},
		{"unknown verb of a group", nil, "units lits", statusUsage, "did you mean `list`?"},
		{"unknown flag", good, "up --force", statusUsage, "unknown flag: --force"},
		{"flag without value", good, "up --timeout", statusUsage, "flag needs an argument"},
		{"bad duration", good, "up --timeout soon", statusUsage, "soon"},
		{"bad format", good, "plan -o xml", statusUsage, "choose table, json or yaml"},
		{"bad log level", good, "plan --log-level loud", statusUsage, "choose debug, info, warn or error"},
		{"argument too many", good, "plan now", statusUsage, "unexpected argument `now`"},
		{"argument too few", good, "why", statusUsage, "needs the name of a unit"},

		{"no cluster file", nil, "plan", statusUsage, "`muster init` writes one"},
		{"cluster file is a folder", map[string]string{"cluster.yaml/x": ""}, "plan", statusUsage, "cluster.yaml"},
		{"empty cluster file", map[string]string{"cluster.yaml": ""}, "plan", statusUsage, "cluster.yaml"},
		{"not YAML", map[string]string{"cluster.yaml": "a: [b"}, "plan", statusUsage, "cluster.yaml:"},
		{"not a mapping", map[string]string{"cluster.yaml": "- a\n"}, "plan", statusUsage, "cluster.yaml:1:"},
		{"unknown key", file("voters", "voter"), "plan", statusUsage, "cluster.yaml:3:1: unknown key `voter`; did you mean `voters`?"},
		{"unknown key of a group", file("count", "conut"), "plan", statusUsage, "did you mean `count`?"},
		{"wrong type", file("count: 2", "count: two"), "plan", statusUsage, "cluster.yaml:7:"},
		{"negative count", file("count: 2", "count: -1"), "plan", statusUsage, "cluster.yaml:7:"},
		{"key twice", file("voters: 1", "voters: 1\nvoters: 1"), "plan", statusUsage, "cluster.yaml:4:"},
		{"unknown version", file("version: 1", "version: 2"), "plan", statusUsage, "cluster.yaml:1:"},
		{"no version", file("version: 1\n", ""), "plan", statusUsage, "version"},
		{"name that is no DNS label", file("demo", "Demo_1"), "plan", statusUsage, "cluster.yaml:2:"},
		{"even voters", file("voters: 1", "voters: 2"), "plan", statusUsage, "cluster.yaml:3:"},
		{"more voters than hosts", file("voters: 1", "voters: 5"), "plan", statusUsage, "cluster.yaml:3:"},
		{"unknown driver", file("driver: fake", "driver: fack"), "plan", statusUsage, "did you mean `fake`?"},
		{"unknown provider", file("provider: a", "provider: b"), "plan", statusUsage, "cluster.yaml:7:"},
		{"unknown setting of a driver", file("provider: a", "provider: a, settings: {imgae: x}"), "plan", statusUsage, "did you mean `image`?"},
		{"bad value of a driver", file("driver: fake", "driver: fake, faults: {quota: -1}"), "plan", statusUsage, "must not be negative"},
		{"lease too short", file("voters: 1", "lease: 1ms"), "plan", statusUsage, "cluster.yaml:3:"},
		{"duplicate host", file("hosts:\n", "hosts:\n  x: {names: [node-1], provider: a}\n"), "plan", statusUsage, "node-1"},
		{"unit file that is not there", file("hosts:", units+"file: none.service\nhosts:"), "plan", statusUsage, "none.service"},
		{
			"several mistakes are told at once",
			map[string]string{"cluster.yaml": strings.NewReplacer("version", "vresion", "count", "conut").Replace(goodFile)},
			"plan", statusUsage, "did you mean `version`?",
		},

		{"no cluster to ask", good, "status", statusFailed, "no cluster `demo` on this machine"},
		{"no cluster to ask for hosts", good, "hosts", statusFailed, "muster up -f cluster.yaml"},
		{"no cluster for units", good, "units list", statusFailed, "no cluster `demo` on this machine"},
		{"no cluster for logs", good, "logs web", statusFailed, "no cluster `demo` on this machine"},
		{"unit file in a folder that is not there", good, "start units/web.service", statusUsage, "no file `units/web.service`"},
		{"submit a name", good, "submit web.service", statusUsage, "no file `web.service`"},
		{"name of no type", good, "stop web.exe", statusFailed, "no cluster"},
		{"unit type that does not exist", good, "start web.exe", statusUsage, "web.exe"},
		{"name with a space", good, "start web\u00a0site.service", statusUsage, "cannot use"},
		{"open brace", good, "start web@{1..3.service", statusUsage, "web@{1..6}.service"},
		{"range of too many", good, "start web@{1..99999999}.service", statusUsage, "cannot expand"},
		{"only a template", with(map[string]string{"web@.service": "[Service]\nExecStart=/bin/true\n"}), "start web@.service", statusUsage, "a template without replicas cannot be started"},
		{"unit file without sense", with(map[string]string{"web.service": "[Service\nExecStart"}), "start web.service", statusUsage, "web.service:1"},
		{"logs of two", good, "logs a b", statusUsage, "unexpected argument `b`"},
		{"cluster file after logs -f", good, "logs -f cluster.yaml web", statusUsage, "--file"},
		{"shell that does not exist", nil, "completion tcsh", statusUsage, "choose bash, zsh, fish or powershell"},
		{"progress as yaml", good, "up -o yaml", statusUsage, "choose -o json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := invoke(t, tt.files, strings.Split(tt.args, " ")...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			if !strings.Contains(stderr, tt.want) {
				t.Errorf("%q is not in what it says:\n%s", tt.want, stderr)
			}
			if !strings.Contains(stderr, "muster: ") || strings.Count(strings.TrimSpace(stderr), "\n") == 0 {
				t.Errorf("it does not say what to do next:\n%s", stderr)
			}
			if stdout != "" {
				t.Errorf("something on standard output:\n%s", stdout)
			}
			if _, err := os.Stat("state"); !os.IsNotExist(err) {
				t.Errorf("there is a state directory now (%v)", err)
			}
		})
	}
}
