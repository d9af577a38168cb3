package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/cmd/muster/e2e/canary"
)

// TestSecretsStayWhereTheyBelong plants a canary in every field that may hold a secret, drives a cluster through its life and
// its failures as loudly as it can, and searches everything that is said and left behind: for the canaries, and for the
// real join tokens and private keys. The rules below are the only places where a secret may be.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	umask := syscall.Umask(0) // no mode may rely on the operator's
	t.Cleanup(func() { syscall.Umask(umask) })
	c := newCanaries(t)
	stop := c.watchCommandLines()

	c.verbs("before it is up", "plan", "plan -o json", "cloudconfig render node-1", "cloudconfig render node-1 --format ignition",
		"cloudconfig validate web.yaml", "providers check", "schema", "up --yes --no-wait -o json", "up --yes")
	c.eventually(30*time.Second, whole(3, 3, 2))
	c.verbs("in life", "status", "status -o json", "hosts -o yaml", "units list -o json", "units cat nap@.service",
		"why nap@1.service", "logs nap@1.service", "up --yes -o json", "plan -o yaml", "down --dry-run -o json")
	c.keepEnvironments()
	c.keepStore()
	c.keepAnswers()
	c.strayHost()
	c.wrongFiles()
	c.secretsOfDrivers()
	c.crashDaemon("node-3")
	c.crashCommand()
	stop()

	c.nameTokens()
	c.nameKeys()
	c.everyFieldHasACanary()
	c.judge()
}

// The places where a secret may be, each with its reason. What is not Public must be a file of its owner alone.
var secretsMayBe = []canary.Rule{
	{Place: "providers/*/*/user-data", Secret: "cloud-config *", Why: "it is what the host is told, until it is destroyed"},
	{Place: "providers/*/*/user-data", Secret: "join token of *", Why: "the host joins with it, once"},
	{Place: "providers/*/*/etc/muster/host.json", Secret: "join token of *", Why: "its user-data has it written there"},
	{Place: "providers/*/*/etc/app/*", Secret: "cloud-config write_files*", Why: "the operator's file, with the operator's mode"},
	{Place: "providers/*/*/tags.json", Secret: "setting env", Why: "the host is started again with the same environment"},
	{Place: "the environment of *", Secret: "setting env", Public: true, Why: "it is for the host's processes; only their user reads it"},

	{Place: "canaries/journal.jsonl", Secret: "join token of *", Why: "a repeated create carries the same bytes; forgotten when it is done"},
	{Place: "canaries/journal.jsonl", Secret: "cloud-config *", Why: "as above"},
	{Place: "*/ca.key", Secret: "key ca", Why: "the root is the operator's, and nowhere else"},
	{Place: "*/issuer.key", Secret: "key issuer", Why: "the operator signs the first hosts"},
	{Place: "*/operator.key", Secret: "key operator", Why: "it is the operator's own"},
	{Place: "providers/*/*/var/lib/muster/identity/issuer.key", Secret: "key issuer", Why: "voters sign later hosts"},
	{Place: "providers/*/*/var/lib/muster/identity/*", Secret: "key * of *", Why: "the host's own: its identity, and as a voter"},

	{Place: "stray/user-data", Secret: "join token, wrong", Why: "as of every host"},
	{Place: "stray/etc/muster/host.json", Secret: "join token, wrong", Why: "as of every host"},
	{Place: "stray/var/lib/muster/identity/host.key", Secret: "key of the stray", Why: "as of every host"},

	{
		Place: "what `muster cloudconfig render*` prints", Secret: "cloud-config command", Public: true,
		Why: "commands are shown to whoever asks for them; while they run, every process of the host sees them anyway",
	},
}

// canaries is a cluster with a canary in every field.
type canaries struct {
	*cluster
	set canary.Set

	mu   sync.Mutex
	kept map[string][]byte // what was said: place → everything
}

const canaryFile = `version: 1
cluster: canaries
voters: 3
lease: 5s
providers:
  cloud-a: {driver: local, musterd: ./musterd-debug}
hosts:
  node:
    count: 3
    provider: cloud-a
    settings: {env: {APP_SETTING: %s}}
    cloud_config: web.yaml
units:
  - file: units/nap@.service
    instances: [1..2]
`

// slowGroup is a host that never listens, so that `up` waits for it.
const slowGroup = `  slow:
    provider: cloud-b
    cloud_config: web.yaml
`

func newCanaries(t *testing.T) *canaries {
	t.Helper()
	c := &canaries{kept: map[string][]byte{}}
	c.cluster = newCluster(t, fmt.Sprintf(canaryFile, c.set.Plant("setting env")), map[string]string{"nap@.service": napUnit})
	t.Setenv("CANARY_OF_THE_OPERATOR", c.set.Plant("environment of the operator"))
	c.program("musterd-debug", `exec "$MUSTERD" --log-level debug "$@"`)
	c.program("musterd-never", `while :; do sleep 60; done`)
	c.writeFile("web.yaml", c.cloudConfig())
	return c
}

// program writes a script that is started in musterd's place.
func (c *canaries) program(name, line string) {
	c.t.Helper()
	line = strings.ReplaceAll(line, "$MUSTERD", filepath.Join(binDir, "musterd"))
	c.writeFile(name, "#!/bin/sh\n"+line+"\n")
	if err := os.Chmod(filepath.Join(c.dir, name), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

// cloudConfig is a document with a canary wherever a secret may be.
func (c *canaries) cloudConfig() string {
	plant := func(name string) string { return c.set.Plant("cloud-config " + name) }
	awkward := c.set.PlantAwkward("cloud-config write_files")
	doc := fmt.Sprintf(`#cloud-config
users:
  - {name: ops, passwd: %s}
write_files:
  - {path: /etc/app/encoded, permissions: "0600", encoding: b64, content: %s}
  - {path: /etc/app/owner, permissions: "0400", content: %s}
  - path: /etc/app/text
    permissions: "0600"
    content: |
      token: %s
bootcmd: [%s, [login, %s]]
runcmd: [%s, [login, %s]]
`, plant("users.passwd"), base64.StdEncoding.EncodeToString([]byte(plant("write_files, encoded"))), plant("write_files, read-only"), awkward,
		plant("command"), plant("command"), plant("command"), plant("command"))
	if options := c.daemonOptions(); options != "" {
		doc += "coreos:\n" + options
	}
	return doc
}

// keep adds to what is searched in the end, when every secret is known.
func (c *canaries) keep(place string, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept[place] = append(append(c.kept[place], text...), '\n')
}

// verbs runs muster, as loudly as it can, and keeps what it prints.
func (c *canaries) verbs(when string, lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if r := c.verb(line, nil); r.code != 0 {
			c.t.Fatalf("muster %s, %s: exit status %d\n%s", line, when, r.code, r.output())
		}
	}
}

func (c *canaries) verb(line string, env []string) result {
	c.t.Helper()
	r := c.run(2*time.Minute, env, append(strings.Fields(line), "--log-level", "debug")...)
	c.keep("what `muster "+line+"` prints", []byte(r.output()))
	return r
}

// watchCommandLines keeps every command line that any process has until stop is called.
func (c *canaries) watchCommandLines() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		seen := map[string]bool{}
		for ctx.Err() == nil {
			err := canary.CommandLines(func(place string, line []byte) {
				if !seen[string(line)] {
					seen[string(line)] = true
					c.keep(place, line)
				}
			})
			if err != nil {
				c.t.Errorf("cannot read command lines: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(25 * time.Millisecond):
			}
		}
		if len(seen) < 10 {
			c.t.Errorf("only %d command lines were seen", len(seen))
		}
	})
	return func() { cancel(); watching.Wait() }
}

// keepEnvironments keeps the environments of the hosts' processes.
func (c *canaries) keepEnvironments() {
	c.t.Helper()
	own := 0
	err := canary.Environments(func(place string, environment []byte) {
		if variable(environment, "MUSTER_INSTANCE") != "" && c.instances()[variable(environment, "MUSTER_INSTANCE")] {
			own++
			c.keep(place, environment)
		}
	})
	if err != nil || own < 5 {
		c.t.Errorf("the environments of %d processes were read, %v", own, err)
	}
}

// crashDaemon has a host's musterd print all of its goroutines and end, and starts it again.
func (c *canaries) crashDaemon(host string) {
	c.t.Helper()
	daemon := c.hostProcesses(host, true)
	c.signal(syscall.SIGQUIT, daemon)
	c.await("the end of musterd", func() bool {
		return !slices.ContainsFunc(c.processes(), func(p process) bool { return p.pid == daemon[0].pid })
	})
	log, err := os.ReadFile(filepath.Join(c.dirOf(host).path, "var/log/musterd.log"))
	if err != nil || !bytes.Contains(log, []byte("SIGQUIT: quit")) || !bytes.Contains(log, []byte("goroutine ")) {
		c.t.Errorf("musterd did not print its goroutines: %v", err)
	}
	c.verbs("after a crash of musterd", "up --yes")
	c.eventually(30*time.Second, whole(3, 3, 2))
}

// crashCommand has `muster up` print all of its goroutines and end while it waits for a host that never comes. What the
// journal holds then it holds when the test ends.
func (c *canaries) crashCommand() {
	c.t.Helper()
	file, err := os.ReadFile(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	more := strings.Replace(string(file), "units:\n", slowGroup+"units:\n", 1)
	more = strings.Replace(more, "hosts:\n", "  cloud-b: {driver: local, musterd: ./musterd-never}\nhosts:\n", 1)
	c.writeFile("cluster.yaml", more)
	var said lockedBuffer
	cmd := c.command(c.t.Context(), nil, "up", "--yes", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.await("a host that is waited for", func() bool { return strings.Contains(said.String(), "slow-1 (cloud-b): created") })
	_ = cmd.Process.Signal(syscall.SIGQUIT)
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "goroutine ") {
		c.t.Errorf("muster did not crash: %v\n%s", err, said.String())
	}
	c.keep("what `muster up` prints when it crashes", []byte(said.String()))
}

// lockedBuffer is a buffer that a process writes to while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until something is there.
func (c *canaries) await(what string, there func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !there(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("there is still no sign of %s", what)
		}
	}
}

// judge searches everything and fails the test for every secret that no rule allows, and every rule without a use.
func (c *canaries) judge() {
	c.t.Helper()
	hits, err := c.set.Tree(c.state)
	if err != nil {
		c.t.Fatal(err)
	}
	stray, err := c.set.Tree(filepath.Join(c.dir, "stray"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range stray {
		h.Place = "stray/" + h.Place
		hits = append(hits, h)
	}
	for place, text := range c.kept {
		hits = append(hits, c.set.Bytes(place, text)...)
	}
	leaks, idle := canary.Judge(hits, secretsMayBe)
	for _, h := range leaks {
		c.t.Errorf("leak: %s", h)
	}
	for _, r := range idle {
		c.t.Errorf("the rule that %q may be in %q allows nothing: remove it, or search there", r.Secret, r.Place)
	}
	c.t.Logf("%s, %d streams, %d hits where they belong", &c.set, len(c.kept), len(hits)-len(leaks))
}
