package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/providers"
)

// TestMain is also the hosts' musterd: the tests start their own binary, which then is called as musterd would be.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "--root" && os.Getenv(instanceVariable) != "" {
		standIn(os.Args[2])
		return
	}
	if len(os.Args) == 7 && os.Args[1] == "crash" {
		crashing(os.Args[2:])
		return
	}
	goleak.VerifyTestMain(m)
}

// standIn is a musterd that has units: a process that carries the host's mark, one in its own session that does not
// heed SIGTERM, and one that forgot its environment. It writes its own environment to ready.json.
func standIn(root string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Getenv("STANDIN_DEAF") != "" {
		ctx = context.Background()
	}
	if os.Getenv("STANDIN_UNITS") != "" {
		for _, script := range []string{
			"exec sleep 600",
			"trap '' TERM; while :; do sleep 600; done",
			"exec env -i sleep 600",
		} {
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: strings.HasPrefix(script, "trap")}
			if err := cmd.Start(); err != nil {
				log.Fatal(err)
			}
		}
	}
	data, err := json.Marshal(os.Environ())
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "ready.tmp"), data, 0o600)
	}
	if err == nil {
		err = os.Rename(filepath.Join(root, "ready.tmp"), filepath.Join(root, "ready.json"))
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stand-in is ready")
	<-ctx.Done()
}

// crash lets another process create or destroy a host, and end after a step as kill -9 ends it.
func crash(t *testing.T, dir, step string, id providers.Identity) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "crash", dir, step, id.Cluster, id.Host, strconv.Itoa(id.Generation))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the process did not crash: %v\n%s", err, out)
	}
}

// crashing is the process of crash.
func crashing(args []string) {
	generation, err := strconv.Atoi(args[4])
	if err != nil {
		log.Fatal(err)
	}
	id := providers.Identity{Cluster: args[2], Host: args[3], Generation: generation}
	p, err := openTest(args[0])
	if err != nil {
		log.Fatal(err)
	}
	p.interrupt = func(step string) error {
		if step == args[1] {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
	ctx := context.Background()
	if slices.Contains([]string{"ended", "renamed"}, args[1]) {
		err = p.Destroy(ctx, providers.Instance{Identity: id})
	} else {
		_, err = p.Create(ctx, providers.CreateRequest{Identity: id, UserData: []byte("#cloud-config\n")})
	}
	log.Fatalf("no crash after %s: %v", args[1], err)
}

// testCluster is the cluster of tests that need only one.
const testCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

func request(host string, env map[string]string) providers.CreateRequest {
	return providers.CreateRequest{
		Identity: providers.Identity{Cluster: testCluster, Host: host, Generation: 1},
		UserData: []byte("#cloud-config\nhostname: " + host + "\n"),
		Settings: &Settings{Env: env},
	}
}

// testProvider opens a provider below a directory of the test's own whose musterd is the test binary. Everything that
// it leaves running is ended.
func testProvider(t testing.TB, dir string, change ...func(*Config, *providers.Environment)) *Provider {
	t.Helper()
	p, err := openTest(dir, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		endAllBelow(t, p)
		if p.container == nil {
			return
		}
		if err := p.leases.bridgeOf(p.container.Network, false).remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// With these set, every provider of the tests has containers: of an image, with a musterd.
const (
	imageVariable   = "MUSTER_TEST_CONTAINER_IMAGE"
	musterdVariable = "MUSTER_TEST_CONTAINER_MUSTERD"
)

func openTest(dir string, change ...func(*Config, *providers.Environment)) (*Provider, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, env := Config{}, providers.Environment{StateDir: filepath.Join(dir, "state"), Musterd: binary}
	if image := os.Getenv(imageVariable); image != "" {
		config = *NewConfig()
		config.Boot, config.Image, env.Musterd = bootNspawn, image, os.Getenv(musterdVariable)
	}
	for _, c := range change {
		c(&config, &env)
	}
	p, err := New("cloud-a", config, env)
	if err != nil {
		return nil, err
	}
	p.leases.dir = filepath.Join(dir, "leases")
	p.grace = 100 * time.Millisecond
	return p, nil
}

// shortDir is a temporary directory whose path leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// endAllBelow ends the processes of every directory below p's root.
func endAllBelow(t testing.TB, p *Provider) {
	entries, _ := os.ReadDir(p.root)
	for _, entry := range entries {
		h, err := readHost(filepath.Join(p.root, entry.Name()))
		if err != nil {
			continue
		}
		if err := errors.Join(p.endProcesses(context.Background(), h), h.clear(context.Background())); err != nil {
			t.Error(err)
		}
	}
}

// create makes a host and waits until its stand-in is ready.
func create(t testing.TB, p *Provider, req providers.CreateRequest) (providers.Instance, host) {
	t.Helper()
	instance, err := p.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	h, found, err := p.find(req.Identity)
	if err != nil || !found {
		t.Fatalf("no directory of %v: %v", req.Identity, err)
	}
	await(t, "the stand-in to be ready", func() bool {
		_, err := os.Stat(h.path("ready.json"))
		return err == nil
	})
	return instance, h
}

// await waits until ok.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// hostProcesses are the live processes of a host, as the driver sees them.
func hostProcesses(t testing.TB, h host) []process {
	t.Helper()
	all, err := thisMachine().all()
	if err != nil {
		t.Fatal(err)
	}
	return newKin(h.InstanceID).live(all)
}

// awaitUnits waits until a host has its daemon, three units and the sleep of the one that heeds no signal, and until
// the forgetful one has forgotten its environment.
func awaitUnits(t testing.TB, h host) []process {
	t.Helper()
	var list []process
	await(t, "the units", func() bool {
		list = hostProcesses(t, h)
		return len(list) == 5 && slices.ContainsFunc(list, func(p process) bool { return p.instance() == "" })
	})
	return list
}

// stop ends a host's musterd alone, as a crash would.
func stop(t testing.TB, p *Provider, h host) {
	t.Helper()
	daemon, running, err := p.look().keeper(h)
	if err != nil || !running {
		t.Fatalf("host %s does not run: %v", h.dir, err)
	}
	if err := sendSignal(p.processes, daemon, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "musterd to end", func() bool {
		_, running, err := p.look().keeper(h)
		return err == nil && !running
	})
}
