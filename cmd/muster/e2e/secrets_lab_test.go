//go:build lab

package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cmd/muster/e2e/canary"
)

// onGuests are the places of a host that is a whole system where a secret may be, below what the host may write to: its
// /etc and its /var. at is where those two are.
func onGuests(etc, variable string) []canary.Rule {
	return []canary.Rule{
		{Place: etc + "/muster/host.json", Secret: "join token of *", Why: "its user-data has it written there"},
		{Place: etc + "/app/*", Secret: "cloud-config write_files*", Why: "the operator's file, with the operator's mode"},
		{Place: etc + "/shadow", Secret: "cloud-config users.passwd", Public: true, Why: "root and its group alone read it, see keepModes"},
		{
			Place: etc + "/systemd/system/*.service.d/*", Secret: "cloud-config coreos.*", Why: "a daemon of 2014 takes its options there",
		},
		{Place: variable + "/lib/muster/user-data", Secret: "*", Why: "for boots at which the data source is away"},
		{Place: variable + "/lib/muster/firstboot.out", Secret: "cloud-config command, printed", Why: "root may read what commands said"},
		{Place: etc + "/ssh/ssh_host_*_key", Secret: "key ssh of *", Why: "the host's own"},
		{Place: variable + "/lib/muster/identity/issuer.key", Secret: "key issuer", Why: "voters sign later hosts"},
		{Place: variable + "/lib/muster/identity/*", Secret: "key * of *", Why: "the host's own: its identity, and as a voter"},
	}
}

// ofOperators are the places on the operator's machine.
var ofOperators = []canary.Rule{
	{Place: "state/*/ca.key", Secret: "key ca", Why: "the root is the operator's, and nowhere else"},
	{Place: "state/*/issuer.key", Secret: "key issuer", Why: "the operator signs the first hosts"},
	{Place: "state/*/operator.key", Secret: "key operator", Why: "it is the operator's own"},
	{
		Place: "what `muster cloudconfig render*` prints", Secret: "cloud-config command*", Public: true,
		Why: "commands are shown to whoever asks for them",
	},
}

// guests is a lab's example with a canary in every field that it can carry.
type guests struct {
	*canaries
	found []canary.Hit
}

// plantGuests changes the example's cloud-config. Hosts run the command before theirs, and with debug musterd tells all that
// it can.
func plantGuests(t testing.TB, c *cluster, command string, debug bool) *guests {
	t.Helper()
	g := &guests{canaries: &canaries{cluster: c, kept: map[string][]byte{}}}
	path := filepath.Join(c.dir, "cloud-config.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, more := map[string]any{}, map[string]any{}
	for into, from := range map[*map[string]any]string{&doc: string(text), &more: g.cloudConfig(command)} {
		if err := yaml.Unmarshal([]byte(from), into); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range more {
		if list, ok := value.([]any); ok {
			had, _ := doc[key].([]any)
			value = append(had, list...)
		}
		doc[key] = value
	}
	if debug {
		file := map[string]any{"path": "/etc/systemd/system/musterd.service.d/60-debug.conf", "content": debugUnit}
		doc["write_files"] = append(doc["write_files"].([]any), file)
	}
	if text, err = yaml.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	c.writeFile("cloud-config.yaml", "#cloud-config\n"+string(text))
	return g
}

// debugUnit has musterd tell all that it can, once systemd has read its units anew.
const debugUnit = "[Service]\nExecStart=\nExecStart=/usr/bin/musterd --root / --log-level debug\n"

// cloudConfig has a canary wherever a secret may be, and commands that a host really runs.
func (g *guests) cloudConfig(command string) string {
	plant := func(name string) string { return g.set.Plant("cloud-config " + name) }
	return fmt.Sprintf(`users:
  - {name: ops, passwd: %s, lock_passwd: false}
write_files:
  - {path: /etc/app/encoded, permissions: "0600", encoding: b64, content: %s}
  - {path: /etc/app/owner, permissions: "0400", content: %s}
  - path: /etc/app/text
    permissions: "0600"
    content: |
      token: %s
bootcmd: [": %s", ["true", %s], "echo %s"]
runcmd: [%q, ": %s", ["true", %s], "echo %s"]
`, plant("users.passwd"), base64.StdEncoding.EncodeToString([]byte(plant("write_files, encoded"))),
		plant("write_files, read-only"), g.set.PlantAwkward("cloud-config write_files"),
		plant("command"), plant("command"), plant("command, printed"), command, plant("command"), plant("command"), plant("command, printed")) +
		"coreos:\n" + g.daemonOptions()
}

// journal keeps what a host's journal holds, which is binary and compressed in part.
func (g *guests) journal(host, dir string) (text string) {
	g.t.Helper()
	out, err := exec.Command("journalctl", "--directory", dir, "--output", "export", "--no-pager").Output()
	if err != nil || strings.Count(string(out), "\nMESSAGE") < 100 || !strings.Contains(string(out), "joined the cluster") {
		g.t.Errorf("the journal of %s has %d bytes, and too little of musterd: %v", host, len(out), err)
	}
	g.keep("the journal of a host", out)
	return string(out)
}

// tree searches a directory, and checks that passwords are for root and its group alone.
func (g *guests) tree(prefix, dir string) {
	g.t.Helper()
	hits, err := g.set.Tree(dir)
	if err != nil {
		g.t.Error(err)
	}
	for _, h := range hits {
		if strings.HasSuffix(h.Place, "/etc/shadow") {
			info, err := os.Stat(filepath.Join(dir, h.Place))
			if err != nil || info.Mode().Perm()&0o137 != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
				g.t.Errorf("%s is for others to read: %v, %v", h.Place, info.Mode(), err)
			}
		}
		h.Place = prefix + h.Place
		g.found = append(g.found, h)
	}
}

// nameOperatorKeys names the keys of the cluster itself.
func (g *guests) nameOperatorKeys() {
	g.t.Helper()
	for _, name := range []string{"ca", "issuer", "operator"} {
		paths, _ := filepath.Glob(filepath.Join(g.state, "*", name+".key"))
		if len(paths) != 1 {
			g.t.Errorf("%d keys are called %s", len(paths), name)
		}
		for _, path := range paths {
			g.nameKey("key "+name, path)
		}
	}
}

// nameHostKeys names the keys of one host, whose /etc and /var are directories here.
func (g *guests) nameHostKeys(host, etc, variable string) {
	g.t.Helper()
	for _, name := range []string{"host.key", "peer.pem", "control.pem"} {
		g.nameKey(fmt.Sprintf("key %s of %s", name, host), filepath.Join(variable, strings.TrimPrefix(join.StoragePath, "/var"), name))
	}
	text, err := os.ReadFile(filepath.Join(etc, "ssh/ssh_host_ed25519_key"))
	if err != nil {
		g.t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.set.Add("key ssh of "+host, string(key.(*ed25519.PrivateKey).Seed())); err != nil {
		g.t.Fatal(err)
	}
}

// verdict fails the test for every secret that no rule allows, and every rule that nothing needs.
func (g *guests) verdict(rules ...[]canary.Rule) {
	g.t.Helper()
	hits := g.found
	for place, text := range g.kept {
		hits = append(hits, g.set.Bytes(place, text)...)
	}
	leaks, idle := canary.Judge(hits, slices.Concat(rules...))
	for _, h := range leaks {
		g.t.Errorf("leak: %s", h)
	}
	for _, r := range idle {
		g.t.Errorf("the rule that %q may be in %q allows nothing: remove it, or search there", r.Secret, r.Place)
	}
	g.t.Logf("%s, %d streams, %d hits where they belong", &g.set, len(g.kept), len(hits)-len(leaks))
}

// crashGuest has a host's musterd print all of its goroutines and end, and waits until systemd has started it again.
func (g *guests) crashGuest(host string) {
	g.t.Helper()
	pid := func() string {
		return g.inGuest(host, "systemctl", "show", "--value", "-p", "MainPID", "musterd.service")
	}
	before := pid()
	g.inGuest(host, "systemctl", "kill", "--signal", "QUIT", "--kill-whom", "main", "musterd.service")
	g.await("another musterd", func() bool { now := pid(); return now != "0" && now != before })
	if said := g.inGuest(host, "journalctl", "--no-pager", "--unit", "musterd.service", "_PID="+before); !strings.Contains(said, "goroutine ") {
		g.t.Errorf("musterd did not print its goroutines:\n%s", said)
	}
	g.eventually(time.Minute, whole(3, 3, 3))
}

// nameContainers names the tokens and the keys of hosts whose files are here.
func (g *guests) nameContainers() {
	g.t.Helper()
	g.nameOperatorKeys()
	for _, d := range g.hostDirs() {
		if err := g.set.Add("join token of "+d.host, g.configOf(filepath.Join(d.path, "user-data")).Token); err != nil {
			g.t.Fatal(err)
		}
		g.nameHostKeys(d.host, filepath.Join(d.path, "upper/etc"), filepath.Join(d.path, "var"))
	}
	g.noKeyIsForgotten()
}

// ofContainers are the places where hosts that are containers have secrets.
var ofContainers = slices.Concat(onGuests("state/providers/*/*/upper/etc", "state/providers/*/*/var"), ofOperators, []canary.Rule{
	{Place: "state/providers/*/*/user-data", Secret: "*", Why: "it is what the host is told, until it is destroyed"},
	{Place: "state/providers/*/*/seed/user-data", Secret: "*", Why: "the host's data source"},
})

// TestNspawnSecrets plants canaries in what containers are told, has their musterd tell and write all that it can, and
// searches consoles, journals, environments, command lines, and every file that a host or the operator has.
func TestNspawnSecrets(t *testing.T) {
	umask := syscall.Umask(0) // no mode may rely on the operator's
	t.Cleanup(func() { syscall.Umask(umask) })
	n := newNetwork(t)
	g := plantGuests(t, nspawnLab(t, n), "systemctl daemon-reload", true)
	stop := g.watchCommandLines()
	g.verbs("before it is up", "plan", "cloudconfig render box-1", "cloudconfig validate cloud-config.yaml", "up --yes")
	g.eventually(time.Minute, whole(3, 3, 3))
	g.crashGuest("box-1")
	g.verbs("in life", "up --yes -o json", "status -o json", "units list", "logs clock.service", "hosts console box-1")
	g.keepEnvironments()
	stop()

	g.nameContainers()
	for _, d := range g.hostDirs() {
		if said := g.journal(d.host, filepath.Join(d.path, "var/log/journal")); !strings.Contains(said, "level=DEBUG") {
			t.Errorf("musterd on %s does not tell all that it can", d.host)
		}
		g.tree("run/", fmt.Sprintf("/proc/%d/root/run", g.guestInit(d.host)))
	}
	g.tree("state/", g.state)
	g.verdict(ofContainers)
}
