package main

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/musterhq/muster/"

// direction is a rule about what a part of the house may not link, directly or through others.
type direction struct {
	from      string   // package or, with a final slash, everything below
	forbidden []string // in the same notation
}

// sdks are the libraries that talk to clouds and hypervisors, and those that draw on the operator's terminal. Neither
// belongs on a host.
var sdks = []string{
	"github.com/aws/", "github.com/gophercloud/", "github.com/vmware/", "github.com/digitalocean/", "libvirt.org/",
	"github.com/hetznercloud/", "github.com/stmcginnis/", "github.com/bougou/", "cloud.google.com/", "github.com/Azure/",
	"charm.land/",
}

// directions is the house: cmd → cluster, agent, providers, cloudconfig, and never back. What is for tests is in no program.
var directions = []direction{
	{module, []string{module + "cloudconfig/golden/"}},
	{module + "cloudconfig/", []string{module + "agent/", module + "cluster/", module + "cmd/", module + "providers/"}},
	{module + "providers/", []string{module + "agent/", module + "cluster/", module + "cmd/"}},
	{module + "cluster/", []string{module + "agent/", module + "cmd/"}},
	{module + "agent/", append([]string{module + "providers/", module + "cmd/"}, sdks...)},
	{module + "cmd/muster-installer/", append([]string{module + "agent/", module + "cluster/", module + "cmd/muster/"}, sdks...)},
	{module + "cmd/musterd/", append([]string{module + "providers/", module + "cmd/muster/", module + "cloudconfig/ignition/"}, sdks...)},
}

// within tells whether a package is part or lies below it.
func within(pkg, part string) bool { return strings.HasPrefix(pkg+"/", part) }

// violations lists "package links package" for every broken rule.
func violations(links map[string][]string, rules []direction) []string {
	var broken []string
	for pkg, deps := range links {
		for _, rule := range rules {
			if !within(pkg, rule.from) {
				continue
			}
			for _, dep := range deps {
				if slices.ContainsFunc(rule.forbidden, func(part string) bool { return within(dep, part) }) {
					broken = append(broken, pkg+" links "+dep)
				}
			}
		}
	}
	slices.Sort(broken)
	return broken
}

func TestImportsPointOneWay(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	} else if err != nil {
		t.Fatalf("go list: %v", err)
	}
	links := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			links[fields[0]] = fields[1:]
		}
	}
	if len(links) < 10 {
		t.Fatalf("go list knows only %d packages", len(links))
	}
	for _, v := range violations(links, directions) {
		t.Error(v)
	}
	// Hosts' images may lack the time zones that windows for updates are in.
	for _, program := range []string{"muster", "musterd"} {
		if !slices.Contains(links[module+"cmd/"+program], "time/tzdata") {
			t.Errorf("%s does not bring the database of time zones along", program)
		}
	}
}

func TestImportsRulesCatch(t *testing.T) {
	for _, tt := range []struct{ pkg, dep string }{
		{"cloudconfig", "agent"},
		{"providers", "cluster/roster"},
		{"providers/local", "agent/api"},
		{"cluster/apply", "agent/api"},
		{"cluster/plan", "cmd/muster/output"},
		{"agent", "providers"},
		{"agent/runtime/process", "providers/local"},
		{"cmd/musterd", "providers/local"},
		{"cmd/muster-installer", "cluster/join"},
		{"cmd/musterd", "cloudconfig/ignition"},
	} {
		links := map[string][]string{module + tt.pkg: {"fmt", module + tt.dep}}
		if got := violations(links, directions); len(got) != 1 {
			t.Errorf("%s may link %s: %v", tt.pkg, tt.dep, got)
		}
	}
	for _, sdk := range []string{"github.com/aws/aws-sdk-go-v2/service/ec2", "charm.land/bubbletea/v2"} {
		if got := violations(map[string][]string{module + "cmd/musterd": {sdk}}, directions); len(got) != 1 {
			t.Errorf("musterd may link %s: %v", sdk, got)
		}
	}
	allowed := map[string][]string{
		module + "cmd/muster": {module + "providers/local", module + "agent/api", module + "cluster/apply", "charm.land/bubbletea/v2"},
		module + "agent":      {module + "cluster/store", module + "cloudconfig", "go.etcd.io/etcd/client/v3"},
	}
	if got := violations(allowed, directions); len(got) != 0 {
		t.Errorf("refused: %v", got)
	}
}
