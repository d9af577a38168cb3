package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unitFiles makes a directory with some unit files and enters it.
func unitFiles(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"units/web@.service": "[Service]\nExecStart=/bin/web %i\n",
		"units/db.service":   "[Service]\nExecStart=/bin/db\n",
		"units/odd.service":  "[Service]\nExecStart=/bin/odd\n[X-Fleet]\nConflict=web@*\n",
		"units/both.service": "[Service]\nExecStart=/bin/both\n[X-Fleet]\nGlobal=true\nMachineOf=db.service\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnitVerbs(t *testing.T) {
	for _, tt := range []struct {
		name   string
		has    []string // units of the cluster before
		args   string
		status int
		want   map[string]string // desired states afterwards
		says   string            // all of standard output, or a part of standard error when the status is not 0
	}{
		{
			"submit", nil, "submit units/db.service units/web@.service", statusDone,
			map[string]string{"db": "inactive", "web@": "inactive"},
			"db.service: submitted\nweb@.service: submitted\n",
		},
		{
			"submit again",
			[]string{"db.service"},
			"submit units/db.service", statusDone,
			map[string]string{"db": "inactive"},
			"db.service: replaced\n",
		},
		{
			"start a file", nil, "start units/db.service", statusDone,
			map[string]string{"db": "launched"},
			"db.service: running on node-1\n",
		},
		{
			"start instances of a file", nil, "start units/web@{1..2}.service", statusDone,
			map[string]string{"web@": "inactive", "web@1": "launched", "web@2": "launched"},
			"web@1.service: running on node-1\nweb@2.service: running on node-1\n",
		},
		{
			"start a template's file and an instance by name", nil, "start units/web@.service web@7", statusDone,
			map[string]string{"web@": "inactive", "web@7": "launched"},
			"web@7.service: running on node-1\n",
		},
		{
			"start an instance of a template in the cluster",
			[]string{"web@.service"},
			"start web@1", statusDone,
			map[string]string{"web@": "inactive", "web@1": "launched"},
			"web@1.service: running on node-1\n",
		},
		{
			"start without waiting",
			[]string{"nowhere.service"},
			"start --no-block nowhere", statusDone,
			map[string]string{"nowhere": "launched"},
			"",
		},
		{
			"start what does not exist", nil, "start ghost", statusFailed,
			map[string]string{},
			"there is no unit ghost.service\n        `muster units list` shows them",
		},
		{
			"start what fails",
			[]string{"bad.service", "ok.service"},
			"start bad ok", statusPartial,
			map[string]string{"bad": "launched", "ok": "launched"},
			"`muster logs bad.service` shows what it printed",
		},
		{
			"start what finds no host",
			[]string{"nowhere.service"},
			"start --timeout 20ms nowhere", statusFailed,
			map[string]string{"nowhere": "launched"},
			"`muster why nowhere.service`",
		},
		{
			"load",
			[]string{"db.service"},
			"units load db", statusDone,
			map[string]string{"db": "loaded"},
			"db.service: loaded on node-1\n",
		},
		{
			"stop by pattern",
			[]string{"web@.service", "web@1.service launched", "web@2.service loaded", "web@3.service", "db.service launched"},
			"stop web@*", statusDone,
			map[string]string{"web@": "inactive", "web@1": "loaded", "web@2": "loaded", "web@3": "inactive", "db": "launched"},
			"web@1.service: stopped on node-1\nweb@2.service: stopped on node-1\n",
		},
		{
			"stop what has no host",
			[]string{"db.service", "web@1.service launched"},
			"stop db web@1", statusPartial,
			map[string]string{"db": "inactive", "web@1": "loaded"},
			"cannot stop db.service: it is inactive",
		},
		{
			"stop a template with replicas",
			[]string{"web@.service launched"},
			"stop web@.service", statusDone,
			map[string]string{"web@": "loaded"},
			"web@.service: stopped on node-1\n",
		},
		{
			"stop an instance that does not exist",
			[]string{"web@.service"},
			"stop web@1", statusFailed,
			map[string]string{"web@": "inactive"},
			"there is no unit web@1.service",
		},
		{
			"reload",
			[]string{"reloads.service launched", "db.service launched"},
			"units reload reloads", statusDone,
			map[string]string{"reloads": "launched", "db": "launched"},
			"reloads.service: reloaded on node-1\n",
		},
		{
			"reload what cannot be",
			[]string{"reloads.service launched", "db.service launched"},
			"units reload db reloads", statusPartial,
			map[string]string{"reloads": "launched", "db": "launched"},
			"db.service on node-1: it has no ExecReload=",
		},
		{
			"unload",
			[]string{"db.service launched"},
			"units unload db", statusDone,
			map[string]string{"db": "inactive"},
			"db.service: unloaded\n",
		},
		{
			"unload a template with replicas",
			[]string{"web@.service launched"},
			"units unload web@*", statusDone,
			map[string]string{"web@": "inactive"},
			"web@.service: unloaded\n",
		},
		{
			"wait as fleetctl does", nil, "start --block-attempts 400 units/db.service", statusDone,
			map[string]string{"db": "launched"},
			"db.service: running on node-1\n",
		},
		{
			"wait for as long as it takes", nil, "start --block-attempts=0 units/db.service", statusDone,
			map[string]string{"db": "launched"},
			"db.service: running on node-1\n",
		},
		{
			"wait in two ways", nil, "start --block-attempts 1 --timeout 1s units/db.service", statusUsage,
			map[string]string{},
			"both say how long",
		},
		{
			"wait for less than nothing", nil, "start --block-attempts=-1 units/db.service", statusUsage,
			map[string]string{},
			"less than nothing",
		},
		{
			"destroy",
			[]string{"db.service", "web@1.service"},
			"destroy db", statusDone,
			map[string]string{"web@1": "inactive"},
			"db.service: destroyed\n",
		},
		{
			"destroy a part",
			[]string{"db.service"},
			"destroy db ghost", statusPartial,
			map[string]string{},
			"cannot destroy ghost.service: there is no unit ghost.service",
		},
		{
			"a misspelt placement rule warns", nil, "start units/odd.service", statusDone,
			map[string]string{"odd": "launched"},
			"odd.service: running on node-1\n",
		},
		{
			"rules that exclude each other", nil, "start units/both.service units/db.service", statusUsage,
			map[string]string{},
			"units/both.service",
		},
		{
			"cat",
			[]string{"db.service"},
			"cat db", statusDone,
			map[string]string{"db": "inactive"},
			"[Service]\n# db.service\n",
		},
		{
			"logs",
			[]string{"db.service"},
			"logs -n 5 -f --host node-1 db", statusDone,
			map[string]string{"db": "inactive"},
			"db.service says hello, lines=5 follow=true host=node-1\n",
		},
		{
			"why",
			[]string{"nowhere.service"},
			"why nowhere", statusDone,
			map[string]string{"nowhere": "inactive"},
			"nowhere.service is inactive\n\nHOST    FITS  REASON\nnode-1  no    no label role\n",
		},
		{
			"list",
			[]string{"db.service"},
			"units list", statusDone,
			map[string]string{"db": "inactive"},
			"UNIT        HOST  ADDRESS  STATE     DESIRED   REASON\ndb.service  -     -        inactive  inactive  -\n",
		},
		{
			"status",
			[]string{"db.service"},
			"units status db", statusDone,
			map[string]string{"db": "inactive"},
			"db.service\n   State: inactive\n Desired: inactive\n",
		},
		{
			"status of none", nil, "units status ghost", statusFailed,
			map[string]string{},
			"there is no unit `ghost.service`",
		},
		{
			"hosts", nil, "hosts", statusDone,
			map[string]string{},
			"HOST    PROVIDER  ADDRESS    STATE  VOTER  UNITS  LABELS\nnode-1  a         127.0.0.9  ready  yes    0      -\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			unitFiles(t)
			f := newSmallFleet(tt.has...)
			status, stdout, stderr := asks(t, f, strings.Fields(tt.args)...)
			if status != tt.status {
				t.Errorf("exit status %d, want %d\n%s", status, tt.status, stderr)
			}
			if diff := cmp.Diff(tt.want, desiredOf(f)); diff != "" {
				t.Error(diff)
			}
			if status == statusDone {
				if diff := cmp.Diff(tt.says, stdout); diff != "" {
					t.Error(diff)
				}
			} else if !strings.Contains(stderr, tt.says) {
				t.Errorf("%q is not in what it says:\n%s", tt.says, stderr)
			}
		})
	}
}

func TestUnitWarnings(t *testing.T) {
	unitFiles(t)
	_, _, stderr := asks(t, newSmallFleet(), "submit", "units/odd.service")
	if !strings.Contains(stderr, "units/odd.service:4") || !strings.Contains(stderr, "Conflict") {
		t.Errorf("the misspelt rule is not told with its place:\n%s", stderr)
	}
}

func TestUnitsAsJSON(t *testing.T) {
	unitFiles(t)
	_, stdout, stderr := asks(t, newSmallFleet(), "start", "units/db.service", "-o", "json")
	want := `[
  {
    "name": "db.service",
    "host": "node-1",
    "state": "running",
    "desired": "launched",
    "reason": ""
  }
]
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(stderr, "db.service: running on node-1") {
		t.Errorf("progress: %q", stderr)
	}
}
