package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
	"github.com/musterhq/muster/providers/local"
)

// talking is the simulated cloud with consoles. What is followed goes on until the context ends.
type talking struct {
	*fake.Provider
	began chan<- struct{} // told when a console is followed
	err   error           // instead of a console
}

func (p talking) Console(ctx context.Context, instance providers.Instance, follow bool, w io.Writer) error {
	if p.err != nil {
		return p.err
	}
	if _, err := fmt.Fprintf(w, "\x1b[1m%s/%d\x1b[0m boots\r\n", instance.Host, instance.Generation); err != nil || !follow {
		return err
	}
	p.began <- struct{}{}
	<-ctx.Done()
	return context.Cause(ctx)
}

// talkingDriver is the driver of clouds with consoles.
func talkingDriver(began chan<- struct{}, err error) providers.Driver {
	d := fake.Driver()
	open := d.Open
	d.Name = "talking"
	d.Open = func(name string, config any, env providers.Environment) (providers.Provider, error) {
		p, openErr := open(name, config, env)
		if openErr != nil {
			return nil, openErr
		}
		return talking{p.(*fake.Provider), began, err}, nil
	}
	return d
}

const talkingFile = `version: 1
cluster: demo
voters: 1
providers:
  a: {driver: talking}
  b: {driver: fake}
hosts:
  node: {count: 1, provider: a}
  other: {count: 1, provider: b}
`

// talk runs muster with clouds that keep consoles.
func talk(ctx context.Context, d providers.Driver, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = runWith(ctx, providers.NewRegistry(d, fake.Driver(), local.Driver()), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

func inTalkingCluster(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("MUSTER_STATE_DIR", filepath.Join(dir, "state"))
	t.Setenv("MUSTER_FILE", "")
	if err := os.WriteFile("cluster.yaml", []byte(talkingFile), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConsole(t *testing.T) {
	inTalkingCluster(t)
	began := make(chan struct{}, 1)
	d := talkingDriver(began, nil)
	expect := func(want int, part string, args ...string) {
		t.Helper()
		status, stdout, stderr := talk(t.Context(), d, args...)
		if status != want || !strings.Contains(stdout+stderr, part) {
			t.Errorf("`muster %s`: exit status %d, want %d with %q\n%s%s", strings.Join(args, " "), status, want, part, stdout, stderr)
		}
	}
	expect(statusFailed, "no cluster `demo` on this machine", "hosts", "console", "node-1")
	expect(statusUsage, "that keep consoles: a\n", "hosts", "console", "other-1")
	expect(statusDone, "", "up", "--no-wait")
	// Nobody sees it: byte for byte.
	expect(statusDone, "\x1b[1mnode-1/1\x1b[0m boots\r\n", "hosts", "console", "node-1")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-began
		cancel()
	}()
	if status, stdout, stderr := talk(ctx, d, "hosts", "console", "-f", "node-1"); status != statusDone || !strings.Contains(stdout, "boots") || stderr != "" {
		t.Errorf("followed: exit status %d\n%s%s", status, stdout, stderr)
	}

	grown := strings.Replace(talkingFile, "count: 1, provider: a", "count: 2, provider: a", 1)
	if err := os.WriteFile("cluster.yaml", []byte(grown), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(statusFailed, "host `node-2` has not been made yet\n        run `muster up`", "hosts", "console", "node-2")
	d = talkingDriver(nil, fmt.Errorf("host node-1 has no console log: %w", providers.ErrNotFound))
	expect(statusFailed, "cannot show the console of host node-1 at a: host node-1 has no console log: not found", "hosts", "console", "node-1")
	d = talkingDriver(nil, errors.Join(providers.ErrAuth))
	expect(statusFailed, "check the provider's credentials", "hosts", "console", "node-1")
}
