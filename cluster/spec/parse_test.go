package spec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/spec"
)

// whole uses everything that a cluster file can say.
const whole = `-- token --
canary
-- web.yaml --
#cloud-config
runcmd: [echo web]
-- units/lb.service --
[Service]
ExecStart=/bin/lb
-- units/api@.service --
[Service]
ExecStart=/bin/api %i
-- units/work@.service --
[X-Muster]
Replicas=3
-- cluster.yaml --
version: 1
cluster: demo
voters: 5
lease: 1m30s
network: {mode: direct}
fleet: {listen: "127.0.0.1:49153", hosts_command: true}
keys: {bridge: podman0, grants: {/services: write, /a/b: write}}
providers:
  far: {driver: remote, region: eu, token: {file: token}, network: {name: net}}
  cloud-a: {driver: local, slots: 3}
  cloud-b:
    driver: local
hosts:
  web: &web
    count: 3
    spread: [cloud-a, far, cloud-b]
    labels: {role: web}
    settings:
      far: {image: debian, disks: [{size: 5}]}
      cloud-a: {image: tiny}
    cloud_config: web.yaml
  db:
    names: [anna, bert]
    provider: cloud-b
    voter: false
    settings: {image: big}
  twin:
    <<: *web
    count: 1
    labels: {role: twin}
  none: {count: 0, provider: cloud-a}
  same: {spread: [cloud-a, cloud-b], settings: {image: both}}
units:
  - {file: units/lb.service, desired: loaded}
  - {file: units/api@.service, instances: [9..10, blue, 007]}
  - {file: units/work@.service, desired: loaded}
`

func load(t *testing.T, archive string) (spec.Spec, string) {
	t.Helper()
	dir := t.TempDir()
	if err := txtar.Write(txtar.Parse([]byte(archive)), dir); err != nil {
		t.Fatal(err)
	}
	s, err := spec.Load(filepath.Join(dir, "cluster.yaml"), registry())
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestParse(t *testing.T) {
	got, dir := load(t, whole)
	no := false
	web := map[string]any{
		"cloud-a": &localSettings{Image: "tiny"}, "cloud-b": &localSettings{Image: "default"},
		"far": &remoteSettings{Image: "debian", Size: 1, Disks: []disk{{5}}},
	}
	webConfig := cloudconfig.Document{RunCmd: []cloudconfig.Command{{Shell: "echo web"}}}
	webPlaces := []string{"cloud-a", "far", "cloud-b"}
	both := &localSettings{Image: "both"}
	lb, api := filepath.Join(dir, "units/lb.service"), filepath.Join(dir, "units/api@.service")
	apiText := []byte("[Service]\nExecStart=/bin/api %i\n")
	want := spec.Spec{
		File: filepath.Join(dir, "cluster.yaml"), Cluster: "demo", Voters: 5, VoterGrace: spec.DefaultVoterGrace, Lease: 90 * time.Second, Rebalance: spec.DefaultRebalance, Backups: backup.DefaultSchedule(),
		Network: spec.Network{Mode: "direct"}, Fleet: join.Fleet{Listen: "127.0.0.1:49153", HostsCommand: true},
		Keys: join.Keys{Bridge: "podman0", Grants: []string{"/a/b", "/services"}},
		Providers: []spec.Provider{
			{Name: "cloud-a", Driver: "local", Config: &localConfig{Root: "/var/lib/muster", Slots: 3}},
			{Name: "cloud-b", Driver: "local", Config: &localConfig{Root: "/var/lib/muster", Slots: 10}},
			{Name: "far", Driver: "remote", Config: &remoteConfig{Region: "eu", Token: secret.New("canary"), Network: network{"net", 1500}}},
		},
		Groups: []spec.Group{
			{
				Name: "web", Hosts: []string{"web-1", "web-2", "web-3"}, Providers: webPlaces, Labels: map[string]string{"role": "web"},
				Settings: web, CloudConfig: webConfig,
			},
			{
				Name: "db", Hosts: []string{"anna", "bert"}, Providers: []string{"cloud-b"}, Voter: &no,
				Settings: map[string]any{"cloud-b": &localSettings{Image: "big"}},
			},
			{
				Name: "twin", Hosts: []string{"twin-1"}, Providers: webPlaces, Labels: map[string]string{"role": "twin"},
				Settings: web, CloudConfig: webConfig,
			},
			{Name: "none", Hosts: []string{}, Providers: []string{"cloud-a"}, Settings: map[string]any{"cloud-a": &localSettings{Image: "default"}}},
			{Name: "same", Hosts: []string{"same-1"}, Providers: []string{"cloud-a", "cloud-b"}, Settings: map[string]any{"cloud-a": both, "cloud-b": both}},
		},
		Units: []spec.Unit{
			{Name: "lb.service", File: lb, Content: []byte("[Service]\nExecStart=/bin/lb\n"), Desired: "loaded"},
			{Name: "api@.service", File: api, Content: apiText, Desired: "inactive"},
			{Name: "api@9.service", File: api, Content: apiText, Desired: "launched"},
			{Name: "api@10.service", File: api, Content: apiText, Desired: "launched"},
			{Name: "api@blue.service", File: api, Content: apiText, Desired: "launched"},
			{Name: "api@007.service", File: api, Content: apiText, Desired: "launched"},
			{Name: "work@.service", File: filepath.Join(dir, "units/work@.service"), Content: []byte("[X-Muster]\nReplicas=3\n"), Desired: "loaded"},
		},
	}
	if at := got.Units[len(got.Units)-1].At; at.File != got.File || at.Line == 0 || at.Column == 0 {
		t.Errorf("the last unit is at %+v", at)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(spec.Unit{}, "At")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, got.Providers[2].Config); strings.Contains(text, "canary") {
		t.Errorf("the secret is printed: %s", text)
	}
	var places []string
	for _, h := range got.Hosts() {
		places = append(places, h.Name+"@"+h.Provider)
	}
	wantPlaces := "web-1@cloud-a web-2@far web-3@cloud-b anna@cloud-b bert@cloud-b twin-1@cloud-a same-1@cloud-a"
	if got := strings.Join(places, " "); got != wantPlaces {
		t.Errorf("hosts %s", got)
	}
	if h := got.Hosts()[1]; h.Settings != got.Groups[0].Settings["far"] || h.Group != "web" || h.Labels["role"] != "web" {
		t.Errorf("host %+v", h)
	}
	if p, ok := got.Provider("far"); !ok || p.Driver != "remote" {
		t.Errorf("provider far is %+v", p)
	}
	if _, ok := got.Provider("near"); ok {
		t.Error("a provider near is found")
	}
}

func TestDefaultsAndWarnings(t *testing.T) {
	got, dir := load(t, `-- cluster.yaml --
version: 1
cluster: demo
fleet: {listen: "[::]:49153"}
providers:
  cloud-a: {driver: local}
  spare:
    driver: bare
hosts:
  node: {provider: cloud-a}
`)
	if got.Voters != 0 || got.VoterCount() != 1 || got.Lease != spec.DefaultLease || got.Network.Mode != "direct" || len(got.Hosts()) != 1 {
		t.Errorf("defaults: %+v", got)
	}
	want := "cluster.yaml:3:9: who reaches port 49153 of a host commands the cluster: fleet's API asks nobody who they are; " +
		"\":49153\" is for programs on the host itself; fleetctl --tunnel goes through SSH\n" +
		"cluster.yaml:6:3: no host is at the provider `spare`; remove it, or give it hosts"
	if text := strings.ReplaceAll(got.Warnings.Error(), dir+"/", ""); text != want {
		t.Errorf("warnings %s", text)
	}
}

func TestVoterCount(t *testing.T) {
	yes, no := true, false
	group := func(n int, voter *bool) spec.Group {
		return spec.Group{Hosts: spec.NumberedHosts("x", n), Providers: []string{"a"}, Voter: voter}
	}
	for name, tc := range map[string]struct {
		voters int
		groups []spec.Group
		want   int
	}{
		"one host":       {0, []spec.Group{group(1, nil)}, 1},
		"two hosts":      {0, []spec.Group{group(2, nil)}, 1},
		"three hosts":    {0, []spec.Group{group(3, nil)}, 3},
		"many hosts":     {0, []spec.Group{group(30, nil)}, 3},
		"as the file":    {5, []spec.Group{group(30, nil)}, 5},
		"chosen":         {0, []spec.Group{group(1, &yes), group(30, nil)}, 1},
		"chosen, many":   {0, []spec.Group{group(5, &yes), group(2, &yes), group(30, nil)}, 7},
		"few may":        {0, []spec.Group{group(2, nil), group(30, &no)}, 1},
		"enough may yet": {0, []spec.Group{group(3, nil), group(30, &no)}, 3},
	} {
		if got := (spec.Spec{Voters: tc.voters, Groups: tc.groups}).VoterCount(); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// BenchmarkParse reads the largest cluster file: 10,000 groups.
func BenchmarkParse(b *testing.B) {
	var file strings.Builder
	file.WriteString("version: 1\ncluster: c\nproviders: {a: {driver: local}, b: {driver: local}}\nhosts:\n")
	for i := range spec.MaxHosts {
		fmt.Fprintf(&file, "  g%d: {spread: [a, b]}\n", i)
	}
	for b.Loop() {
		if s, err := spec.Parse("f", []byte(file.String()), registry()); err != nil || len(s.Hosts()) != spec.MaxHosts {
			b.Fatalf("%.300v", err)
		}
	}
}

// TestScalingMovesNoHost changes the count of a group: every host that is in both has the same place.
func TestScalingMovesNoHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.SliceOfN(rapid.SampledFrom([]string{"cloud-a", "cloud-b", "far"}), 1, 5).Draw(t, "spread")
		at := func(count int) []spec.Host {
			file := fmt.Sprintf("version: 1\ncluster: c\nproviders: {cloud-a: {driver: local}, cloud-b: {driver: local}, far: {driver: bare}}\n"+
				"hosts: {node: {count: %d, spread: [%s]}}\n", count, strings.Join(places, ", "))
			s, err := spec.Parse("f", []byte(file), registry())
			if err != nil {
				t.Fatal(err)
			}
			return s.Hosts()
		}
		before, after := at(rapid.IntRange(1, 40).Draw(t, "before")), at(rapid.IntRange(1, 40).Draw(t, "after"))
		n := min(len(before), len(after))
		if !slices.EqualFunc(before[:n], after[:n], func(a, b spec.Host) bool { return a.Name == b.Name && a.Provider == b.Provider }) {
			t.Fatalf("hosts moved: %v, %v", before, after)
		}
		for i, h := range after {
			if h.Name != fmt.Sprintf("node-%d", i+1) || h.Provider != places[i%len(places)] {
				t.Fatalf("host %d is %s at %s", i, h.Name, h.Provider)
			}
		}
	})
}

const withMusterd = `-- cluster.yaml --
version: 1
cluster: demo
musterd: {serve: "10.0.0.1:8123"}
providers:
  all: {driver: remote, region: eu, token: t}
  empty: {driver: remote, region: eu, token: t, musterd: }
  image: {driver: remote, region: eu, token: t, musterd: {ready: true}}
  here: {driver: local}
  plain: {driver: remote, region: eu, token: t, musterd: {push: {}}}
  keys: {driver: remote, region: eu, token: t, musterd: {push: {user: admin, identity: ~/.ssh/id_x, known_hosts: known, port: 2222}}}
  six: {driver: remote, region: eu, token: t, musterd: {serve: "[2001:db8::1]:80"}}
  mirror:
    driver: remote
    region: eu
    token: t
    musterd:
      fetch:
        - {arch: arm64, sha256: 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f, urls: [https://a.example/m, http://b/m]}
hosts:
  a: {provider: here}
`

func TestMusterd(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	s, dir := load(t, withMusterd)
	got := map[string]spec.Musterd{}
	for _, p := range s.Providers {
		got[p.Name] = p.Musterd
	}
	want := map[string]spec.Musterd{
		"all": {Serve: "10.0.0.1:8123"}, "empty": {Serve: "10.0.0.1:8123"}, "image": {}, "here": {}, "six": {Serve: "[2001:db8::1]:80"},
		"plain": {Push: &spec.Push{User: "root", Port: 22}},
		"keys": {Push: &spec.Push{
			User: "admin", Port: 2222, Identity: "/home/me/.ssh/id_x", KnownHosts: filepath.Join(dir, "known"),
		}},
		"mirror": {Fetch: []cloudconfig.Download{
			{Architecture: "arm64", SHA256: strings.Repeat("0f", 32), URLs: []string{"https://a.example/m", "http://b/m"}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestStarter(t *testing.T) {
	for _, name := range []string{"demo", strings.Repeat("x", 63)} {
		s, err := spec.Parse("cluster.yaml", spec.Starter(name), registry())
		if err != nil {
			t.Fatal(err)
		}
		if s.Cluster != name || len(s.Hosts()) != 3 || len(s.Providers) != 2 || s.VoterCount() != 3 || len(s.Warnings) != 0 {
			t.Errorf("starter: %+v", s)
		}
	}
	// What the starter offers in comments works too.
	dir := t.TempDir()
	text := strings.NewReplacer("    # voter", "    voter", "    # settings", "    settings", "    # cloud_config", "    cloud_config",
		"# units:", "units:", "#   - file", "  - file", "#     instances", "    instances").Replace(string(spec.Starter("demo")))
	for name, content := range map[string]string{
		"node.yaml": "#cloud-config\n", "units/web.service": "", "units/api@.service": "", "units/work@.service": "", "cluster.yaml": text,
	} {
		if err := os.MkdirAll(filepath.Join(dir, "units"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := spec.Load(filepath.Join(dir, "cluster.yaml"), registry())
	if err != nil || len(s.Units) != 9 || s.Groups[0].Voter == nil {
		t.Errorf("with its comments: %+v, %v\n%s", s, err, text)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "web-1": true, "1": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, strings.Repeat("x", 64): false, "a\n": false,
	} {
		if err := spec.CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
