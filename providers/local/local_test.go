package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/providertest"
)

func TestConformance(t *testing.T) { providertest.Run(t, fixture("written")) }

// TestConformanceOfCrashes ends a process that creates a host after each step.
func TestConformanceOfCrashes(t *testing.T) {
	for _, step := range []string{"tagged", "leased", "written", "launched"} {
		t.Run(step, func(t *testing.T) { providertest.RunCrash(t, fixture(step)) })
	}
}

// fixture is a provider whose creates crash after a step.
func fixture(step string) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		dir := shortDir(t)
		p := testProvider(t, dir)
		return providertest.Fixture{
			Provider: p,
			Settings: &Settings{Env: map[string]string{"GOMAXPROCS": "1"}},
			Reopen:   func(t *testing.T) providers.Provider { return testProvider(t, dir) },
			Stop: func(_ context.Context, instance providers.Instance) error {
				h, _, err := p.find(instance.Identity)
				if err == nil {
					stop(t, p, h)
				}
				return err
			},
			Plant:     func(t *testing.T, tags map[string]string) func() bool { return plant(t, p, tags) },
			Crash:     func(t *testing.T, req providers.CreateRequest) { crash(t, dir, step, req.Identity) },
			Leftovers: func(t *testing.T, cluster string) []string { return leftovers(t, p, cluster) },
			Errors:    errorCases(p),
		}
	}
}

func errorCases(p *Provider) []providertest.ErrorCase {
	return []providertest.ErrorCase{
		{Name: "start of a host that is not there", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			return p.Start(t.Context(), providers.Instance{Identity: request("web-9", nil).Identity})
		}},
		{Name: "musterd is missing", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			other := *p
			other.musterd = filepath.Join(p.root, "missing", "musterd")
			_, err := other.Create(t.Context(), request("web-9", nil))
			return err
		}},
		{Name: "something else has the directories", Want: providers.ErrConflict, Call: func(t *testing.T) error {
			req := request("web-8", nil)
			for _, name := range p.dirNames(req.Identity) {
				if err := os.MkdirAll(filepath.Join(p.root, name, "photos"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			_, err := p.Create(t.Context(), req)
			return err
		}},
		{Name: "clean-up while a host lives", Want: providers.ErrConflict, Call: func(t *testing.T) error {
			if _, err := p.Create(t.Context(), request("web-7", nil)); err != nil {
				t.Fatal(err)
			}
			return p.Cleanup(t.Context(), testCluster)
		}},
	}
}

// plant makes a directory with tags as somebody else would who uses the same files.
func plant(t *testing.T, p *Provider, tags map[string]string) (untouched func() bool) {
	t.Helper()
	if err := os.MkdirAll(p.root, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(p.root, "theirs-")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(record{Version: recordVersion, Provider: p.name, InstanceID: "theirs", Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{tagsFile: string(data), pidFile: fmt.Sprintf("%d %q\n", os.Getpid(), "0")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() bool {
		now, err := os.ReadFile(filepath.Join(dir, tagsFile))
		return err == nil && string(now) == string(data)
	}
}

// leftovers are the cluster's directories and processes, and leases, locks and scratch of anybody.
func leftovers(t *testing.T, p *Provider, cluster string) []string {
	t.Helper()
	var left []string
	entries, err := os.ReadDir(p.root)
	for _, entry := range entries {
		left = append(left, filepath.Join(p.root, entry.Name()))
	}
	leases, leasesErr := os.ReadDir(p.leases.dir)
	for _, entry := range leases {
		left = append(left, filepath.Join(p.leases.dir, entry.Name()))
	}
	for _, dir := range []error{err, leasesErr} {
		if !errors.Is(dir, os.ErrNotExist) {
			left = append(left, fmt.Sprintf("a directory (%v)", dir))
		}
	}
	all, err := thisMachine().all()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		if slices.ContainsFunc(q.args, func(arg string) bool { return strings.HasPrefix(arg, p.root) }) {
			left = append(left, fmt.Sprintf("process %d of cluster %s", q.pid, cluster))
		}
	}
	return left
}

func TestDestroyEndsEveryProcess(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"polite": {"STANDIN_UNITS": "1"},
		"deaf":   {"STANDIN_UNITS": "1", "STANDIN_DEAF": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := testProvider(t, shortDir(t))
			instance, h := create(t, p, request("web-1", env))
			_, other := create(t, p, request("web-2", env))
			before, others := awaitUnits(t, h), awaitUnits(t, other)
			if err := p.Destroy(t.Context(), instance); err != nil {
				t.Fatal(err)
			}
			for _, old := range before {
				if now, ok := p.processes.one(old.pid); ok && now.started == old.started && !now.zombie {
					t.Errorf("process %d survives: %v", old.pid, old.args)
				}
			}
			if _, err := os.Stat(h.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("directory %s is left: %v", h.dir, err)
			}
			if now := hostProcesses(t, other); len(now) != len(others) {
				t.Errorf("the other host has %d processes, want %d", len(now), len(others))
			}
		})
	}
}

// TestDestroyWhenMusterdIsGone ends units that nobody supervises.
func TestDestroyWhenMusterdIsGone(t *testing.T) {
	p := testProvider(t, shortDir(t))
	instance, h := create(t, p, request("web-1", map[string]string{"STANDIN_UNITS": "1"}))
	before := awaitUnits(t, h)
	stop(t, p, h)
	if list, err := p.List(t.Context(), testCluster); err != nil || list[0].State != providers.StateStopped {
		t.Errorf("after kill -9: %v, %v", list, err)
	}
	if err := p.Destroy(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	if left := hostProcesses(t, h); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	endNameless(t, p, before)
}

// endNameless ends the unit without an environment: once its musterd is gone, nothing proves it to be the host's.
func endNameless(t *testing.T, p *Provider, units []process) {
	t.Helper()
	for _, q := range units {
		if q.instance() == "" {
			if err := sendSignal(p.processes, q, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBoots starts a host again: while a unit runs it is the same boot, and when nothing is left it is another.
func TestBoots(t *testing.T) {
	p := testProvider(t, shortDir(t))
	for units, same := range map[string]bool{"1": true, "": false} {
		instance, h := create(t, p, request("boots"+units, map[string]string{"STANDIN_UNITS": units}))
		var running []process
		if same {
			running = awaitUnits(t, h)
		}
		before, err := h.metaData()
		if err != nil {
			t.Fatal(err)
		}
		stop(t, p, h)
		if err := p.Start(t.Context(), instance); err != nil {
			t.Fatal(err)
		}
		after, err := h.metaData()
		if err != nil {
			t.Fatal(err)
		}
		if (before.BootID == after.BootID) != same {
			t.Errorf("units %q: boot %s, then %s", units, before.BootID, after.BootID)
		}
		endNameless(t, p, running)
		if err := p.Destroy(t.Context(), instance); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecycledPID puts the pid of a process that is not the host's into the pid file.
func TestRecycledPID(t *testing.T) {
	p := testProvider(t, shortDir(t))
	instance, h := create(t, p, request("web-1", nil))
	_, other := create(t, p, request("web-2", nil))
	stop(t, p, h)
	theirs, _, err := p.look().keeper(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, recycled := range []process{{pid: theirs.pid, started: "1"}, theirs} {
		if err := h.writePID(recycled); err != nil {
			t.Fatal(err)
		}
		if _, running, err := p.look().keeper(h); err != nil || running {
			t.Errorf("process %d %s passes for the host's (%v)", recycled.pid, recycled.started, err)
		}
	}
	if err := p.Destroy(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	if _, running, err := p.look().keeper(other); err != nil || !running {
		t.Errorf("the other host was ended (%v)", err)
	}
}

func TestHostDirectory(t *testing.T) {
	t.Setenv("TZ", "Europe/Vienna")
	t.Setenv("SECRET_OF_THE_OPERATOR", "x")
	dir := shortDir(t)
	p := testProvider(t, dir, func(c *Config, env *providers.Environment) {
		c.Path, env.Dir = []string{"bin", "/opt/tools"}, filepath.Join(dir, "files")
	})
	req := request("web-1", map[string]string{"COLOUR": "red"})
	instance, h := create(t, p, req)
	if want := filepath.Join(dir, "state", "providers", "cloud-a", "web-1-1"); h.dir != want {
		t.Errorf("directory %s, want %s", h.dir, want)
	}
	if data, _ := os.ReadFile(h.path(userDataFile)); string(data) != string(req.UserData) {
		t.Errorf("user-data %q", data)
	}
	var meta map[string]any
	data, _ := os.ReadFile(h.path(metaDataFile))
	if err := json.Unmarshal(data, &meta); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"instance_id": instance.ID, "local_hostname": "web-1", "local_ipv4": instance.Addresses[0].String(),
		"ports":   map[string]any{"api": 0.0, "client": float64(ownPorts.Client), "peer": 0.0},
		"boot_id": meta["boot_id"],
	}
	if id, _ := meta["boot_id"].(string); uuid.Validate(id) != nil {
		t.Errorf("boot ID %q", id)
	}
	if fmt.Sprint(meta) != fmt.Sprint(want) {
		t.Errorf("meta-data %v, want %v", meta, want)
	}
	var env []string
	data, _ = os.ReadFile(h.path("ready.json"))
	if err := json.Unmarshal(data, &env); err != nil {
		t.Fatal(err)
	}
	wantEnv := []string{
		"COLOUR=red", "HOME=" + h.dir, "MUSTER_INSTANCE=" + instance.ID,
		"PATH=" + filepath.Join(dir, "files", "bin") + ":/opt/tools:" + filepath.Dir(p.musterd) + ":" + systemPath, "TZ=Europe/Vienna",
	}
	if lang := os.Getenv("LANG"); lang != "" {
		wantEnv = append(wantEnv, "LANG="+lang)
	}
	slices.Sort(env)
	slices.Sort(wantEnv)
	if !slices.Equal(env, wantEnv) {
		t.Errorf("environment\n%v\nwant\n%v", env, wantEnv)
	}
	await(t, "the log", func() bool {
		data, _ := os.ReadFile(h.path(logFile))
		return string(data) == "stand-in is ready\n"
	})
}

// TestProvidersShareRoot lets two clouds and two clusters have hosts of one name in one directory.
func TestProvidersShareRoot(t *testing.T) {
	dir := shortDir(t)
	share := func(c *Config, _ *providers.Environment) { c.Root = filepath.Join(dir, "hosts") }
	a, b := testProvider(t, dir, share), testProvider(t, dir, share)
	b.name = "cloud-b"
	elsewhere := request("web-1", nil)
	elsewhere.Cluster = strings.Replace(testCluster, "6f1c", "7a2b", 1)
	made := map[string]providers.Instance{}
	for name, create := range map[string]func() (providers.Instance, error){
		"a":                  func() (providers.Instance, error) { return a.Create(t.Context(), request("web-1", nil)) },
		"b":                  func() (providers.Instance, error) { return b.Create(t.Context(), request("web-1", nil)) },
		"a of other cluster": func() (providers.Instance, error) { return a.Create(t.Context(), elsewhere) },
	} {
		instance, err := create()
		if err != nil {
			t.Fatal(err)
		}
		made[name] = instance
	}
	addresses := map[string]bool{}
	for _, instance := range made {
		addresses[instance.Addresses[0].String()] = true
	}
	if len(addresses) != 3 {
		t.Errorf("addresses %v are not three", slices.Collect(maps.Keys(addresses)))
	}
	for p, want := range map[*Provider]string{a: made["a"].ID, b: made["b"].ID} {
		if list, err := p.List(t.Context(), testCluster); err != nil || len(list) != 1 || list[0].ID != want {
			t.Errorf("%s lists %v, %v", p.name, list, err)
		}
	}
	if err := a.Destroy(t.Context(), made["a"]); err != nil {
		t.Fatal(err)
	}
	if list, err := b.List(t.Context(), testCluster); err != nil || len(list) != 1 || list[0].State != providers.StateRunning {
		t.Errorf("destroying a's host touched b's: %v, %v", list, err)
	}
}

// TestDestroyInterrupted ends a process that destroys a host at each of its steps, after which the next one goes on.
func TestDestroyInterrupted(t *testing.T) {
	for _, step := range []string{"ended", "renamed"} {
		t.Run(step, func(t *testing.T) {
			dir := shortDir(t)
			p := testProvider(t, dir)
			req := request("web-1", nil)
			instance, _ := create(t, p, req)
			crash(t, dir, step, req.Identity)
			if err := errors.Join(p.Destroy(t.Context(), instance), p.Cleanup(t.Context(), testCluster)); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, p, testCluster); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestCleanupWasKilled cleans up after a Cleanup that had removed the provider's directory and no more.
func TestCleanupWasKilled(t *testing.T) {
	p := testProvider(t, shortDir(t))
	parent := filepath.Dir(p.root)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Cleanup(t.Context(), testCluster); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(parent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", parent, err)
	}
}

func TestCheck(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"no musterd", func(c *Config) { c.Musterd = "nowhere/musterd" }, "run `make build` or set `musterd:`"},
		{"musterd is not executable", func(c *Config) { c.Musterd = file }, "run `make build` or set `musterd:`"},
		{"root is a file", func(c *Config) { c.Root = file }, "not a directory"},
		{"root is below a file", func(c *Config) { c.Root = filepath.Join(file, "hosts") }, "not a directory"},
		{"path is missing", func(c *Config) { c.Path = []string{"nowhere"} }, "`path:` names " + filepath.Join(dir, "nowhere")},
	} {
		p := testProvider(t, dir, func(c *Config, env *providers.Environment) {
			env.Dir = dir
			tt.change(c)
		})
		err := p.Check(t.Context(), []any{new(Settings)})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if _, err := os.Stat(p.root); tt.name == "good" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Check made %s (%v)", p.root, err)
		}
	}
}

func TestLongPathIsRefused(t *testing.T) {
	dir := shortDir(t)
	p := testProvider(t, dir, func(c *Config, _ *providers.Environment) { c.Root = filepath.Join(dir, strings.Repeat("x", 100)) })
	_, err := p.Create(t.Context(), request("web-1", nil))
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "set `root:` to a shorter directory") {
		t.Errorf("create: %v", err)
	}
	if _, err := os.Stat(p.root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused create made %s (%v)", p.root, err)
	}
}

func TestValidate(t *testing.T) {
	config := &Config{Path: []string{"bin", "", "a:b"}}
	settings := &Settings{Env: map[string]string{"GOOD": "1", "PATH": "/bin", "MUSTER_HOST": "x", "bad-name": "x", "NUL": "\x00"}}
	var fields []string
	for _, p := range append(config.Validate(), settings.Validate()...) {
		fields = append(fields, p.Field)
	}
	if want := []string{"path[1]", "path[2]", "env.MUSTER_HOST", "env.NUL", "env.PATH", "env.bad-name"}; !slices.Equal(fields, want) {
		t.Errorf("problems in %v, want %v", fields, want)
	}
}

func TestDriverOpens(t *testing.T) {
	d := Driver()
	if _, err := d.Open("cloud-a", d.NewConfig(), providers.Environment{StateDir: t.TempDir()}); err != nil {
		t.Error(err)
	}
	for name, config := range map[string]any{"another driver's": new(int), "no directory": new(Config)} {
		if _, err := d.Open("cloud-a", config, providers.Environment{}); !errors.Is(err, providers.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLogPath asks as cluster/apply does, through the decorators.
func TestLogPath(t *testing.T) {
	p := testProvider(t, shortDir(t))
	made, h := create(t, p, request("a", nil))
	locator, ok := providers.As[interface {
		LogPath(instance providers.Instance) string
	}](providers.Stack(p, providers.StackOptions{}))
	if !ok {
		t.Fatal("the decorators hide it")
	}
	path := locator.LogPath(providers.Instance{Identity: made.Identity})
	if _, err := os.Stat(path); err != nil || path != h.path(logFile) {
		t.Errorf("the log is at %q: %v", path, err)
	}
	if path := locator.LogPath(providers.Instance{Identity: providers.Identity{Cluster: made.Cluster, Host: "b", Generation: 1}}); path != "" {
		t.Errorf("a host that does not exist has its log at %q", path)
	}
}
