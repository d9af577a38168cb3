//go:build lab

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/providertest"
)

func TestConformance(t *testing.T) { providertest.Run(t, fixture("defined")) }

// TestConformanceOfCrashes ends a create after each step.
func TestConformanceOfCrashes(t *testing.T) {
	for _, step := range []string{"image", "uploaded", "network", "reserved", "cloned", "volumes", "started"} {
		t.Run(step, func(t *testing.T) { providertest.RunCrash(t, fixture(step)) })
	}
}

// TestConformanceOfCutUploads ends an upload after each step.
func TestConformanceOfCutUploads(t *testing.T) {
	for _, step := range []string{"image", "uploaded", "unkept"} {
		t.Run(step, func(t *testing.T) { providertest.RunUploadCrash(t, fixture(step)) })
	}
}

func labConfig(pool string) Config {
	config := NewConfig()
	config.URI = "qemu:///system?socket=" + daemon.socket
	config.DomainType = typeQEMU
	config.Grace = 0 // what runs on the hosts knows no power button
	if pool != "" {
		config.Pool = pool
	}
	return *config
}

func labEnvironment(t *testing.T) providers.Environment {
	env := providers.Environment{Now: time.Now}
	if t != nil && testing.Verbose() {
		env.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return env
}

var labs atomic.Int32

// labProvider is a provider with a pool of its own.
func labProvider(t *testing.T, change ...func(*Config)) *Provider {
	t.Helper()
	n := labs.Add(1)
	config := labConfig(filepath.Join(daemon.dir, "pools", fmt.Sprint(n)))
	for _, each := range change {
		each(&config)
	}
	p, err := New(fmt.Sprintf("cloud-%d", n), config, labEnvironment(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func again(t *testing.T, p *Provider) *Provider {
	t.Helper()
	other, err := New(p.name, p.config, labEnvironment(t))
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// tinySettings is a host that needs no operating system.
func tinySettings(t *testing.T) *Settings {
	s := NewSettings()
	s.Image, s.Memory, s.Disk = bootImage(t), 64<<20, 4<<20
	return s
}

// greeting is what a tiny host says on its console.
const greeting = "MUSTER HOST IS UP\r\n"

// bootImage is a disk whose boot sector says something on the first serial port and halts.
func bootImage(t *testing.T) string {
	t.Helper()
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xbe, 0x22, 0x7c, // si = text
		0xac, 0x84, 0xc0, 0x74, 0x12, // next: al = *si++; at the end: halt
		0x88, 0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // until the port is ready
		0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9, // out, next
		0xfa, 0xf4, 0xeb, 0xfc, // halt
	}
	image := make([]byte, 1<<20)
	copy(image, code)
	copy(image[len(code):], greeting)
	copy(image[510:], "\x55\xaa")
	path := filepath.Join(t.TempDir(), "boot.img")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fixture(step string) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		p := labProvider(t)
		settings := tinySettings(t)
		t.Cleanup(func() { removeAll(t, p) })
		return providertest.Fixture{
			Provider: p,
			Settings: settings,
			Reopen:   func(t *testing.T) providers.Provider { return again(t, p) },
			Stop: func(ctx context.Context, instance providers.Instance) error {
				return p.session(ctx, func(_ context.Context, c *client) error {
					d, _, err := c.find(p, instance.Identity)
					return errors.Join(err, c.DomainDestroy(d.handle))
				})
			},
			Plant:       func(t *testing.T, tags map[string]string) func() bool { return plant(t, p, tags) },
			Crash:       func(t *testing.T, req providers.CreateRequest) { crash(t, p, step, req) },
			CrashUpload: func(t *testing.T, image providers.Image) { crashUpload(t, p, step, image) },
			Leftovers:   func(t *testing.T, cluster string) []string { return leftovers(t, p, cluster) },
			Errors:      errorCases(p, settings),
		}
	}
}

var errCrash = errors.New("crash")

// crash ends a create by another process after a step.
func crash(t *testing.T, p *Provider, step string, req providers.CreateRequest) {
	t.Helper()
	if _, err := crashing(t, p, step).Create(t.Context(), req); !errors.Is(err, errCrash) {
		t.Fatalf("create was to crash after %q: %v", step, err)
	}
}

// crashUpload ends an upload by another process after a step.
func crashUpload(t *testing.T, p *Provider, step string, image providers.Image) {
	t.Helper()
	if step == "defined" {
		step = "image" // the suite as a whole crashes elsewhere
	}
	if _, err := crashing(t, p, step).UploadImage(t.Context(), image, nil); !errors.Is(err, errCrash) {
		t.Fatalf("upload was to crash after %q: %v", step, err)
	}
}

// crashing is p in another process that ends after a step.
func crashing(t *testing.T, p *Provider, step string) *Provider {
	t.Helper()
	other := again(t, p)
	other.interrupt = func(at string) error {
		if at == step {
			return errCrash
		}
		return nil
	}
	return other
}

// with runs something in a session of a context that outlives the test's.
func with(t *testing.T, p *Provider, do func(*client) error) {
	t.Helper()
	err := p.session(context.WithoutCancel(t.Context()), func(_ context.Context, c *client) error { return do(c) })
	if err != nil {
		t.Error(err)
	}
}

// plant defines a domain of somebody else.
func plant(t *testing.T, p *Provider, tags map[string]string) (untouched func() bool) {
	t.Helper()
	r := record{tags: tags, provider: p.name, phase: phaseLaunched, created: time.Now()}
	id := uuid.New()
	var metadata string
	if tags != nil {
		text, err := r.marshal(true)
		if err != nil {
			t.Fatal(err)
		}
		metadata = "<metadata>" + text + "</metadata>"
	}
	text := fmt.Sprintf(`<domain type='qemu'><name>planted-%s</name><uuid>%s</uuid>%s<memory>65536</memory>
		<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>`, id, id, metadata)
	var before string
	with(t, p, func(c *client) error {
		handle, err := c.DomainDefineXML(text)
		if err == nil {
			before, err = c.DomainGetXMLDesc(handle, 0)
		}
		return err
	})
	t.Cleanup(func() {
		with(t, p, func(c *client) error {
			handle, err := c.DomainLookupByUUID(golibvirt.UUID(id))
			if err == nil {
				err = c.DomainUndefine(handle)
			}
			return ignoreGone(err)
		})
	})
	return func() bool {
		var now string
		with(t, p, func(c *client) error {
			handle, err := c.DomainLookupByUUID(golibvirt.UUID(id))
			if err == nil {
				now, err = c.DomainGetXMLDesc(handle, 0)
			}
			return ignoreGone(err)
		})
		return now == before
	}
}

// leftovers are the domains, networks, pools, volumes and files of a provider's cluster, and everything in its pool.
func leftovers(t *testing.T, p *Provider, cluster string) []string {
	t.Helper()
	network, _, _ := p.owner(cluster).network()
	pool, _ := ownPool(p.config.Pool)
	var left []string
	with(t, p, func(c *client) error {
		domains, err := c.domains()
		for _, each := range domains {
			if each.ours(p.owner(cluster)) {
				left = append(left, "domain "+each.handle.Name)
			}
		}
		_, netErr := c.NetworkLookupByName(network)
		_, poolErr := c.StoragePoolLookupByName(pool)
		for name, err := range map[string]error{"network " + network: netErr, "pool " + pool: poolErr} {
			if err == nil {
				left = append(left, name)
			}
		}
		return errors.Join(err, ignoreGone(netErr), ignoreGone(poolErr))
	})
	err := filepath.WalkDir(daemon.dir, func(path string, entry os.DirEntry, err error) error {
		ours := strings.HasPrefix(path, p.config.Pool+"/") || path == p.config.Pool || strings.Contains(path, network+".") ||
			strings.Contains(path, "muster-"+cluster[:8]+"-web")
		// Logs and process IDs of what ended are the daemon's to keep.
		if err == nil && ours && !strings.Contains(path, "/log/") && !strings.Contains(path, "/run/") {
			left = append(left, path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return left
}

// removeAll destroys what a test left, whatever its clusters are.
func removeAll(t *testing.T, p *Provider) {
	ctx := context.WithoutCancel(t.Context())
	var all []domain
	with(t, p, func(c *client) (err error) {
		all, err = c.domains()
		return err
	})
	clusters := map[string]bool{labCluster: true}
	for _, d := range all {
		if d.record.provider == p.name && d.ours(p.owner(d.id.Cluster)) {
			clusters[d.id.Cluster] = true
			if err := p.Destroy(ctx, providers.Instance{Identity: d.id}); err != nil {
				t.Error(err)
			}
		}
	}
	for cluster := range clusters {
		if err := p.Cleanup(ctx, cluster); err != nil {
			t.Error(err)
		}
	}
}

func errorCases(p *Provider, settings *Settings) []providertest.ErrorCase {
	create := func(change func(*Settings), host string) func(t *testing.T) error {
		return func(t *testing.T) error {
			s := *settings
			change(&s)
			_, err := p.Create(t.Context(), labRequest(host, &s))
			return err
		}
	}
	return []providertest.ErrorCase{
		{Name: "start of a host that is not there", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			return p.Start(t.Context(), providers.Instance{Identity: labRequest("web-9", nil).Identity})
		}},
		{Name: "no such file", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image = "./nowhere.img" }, "web-8")},
		{Name: "no such volume", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image = "nowhere" }, "web-7")},
		{Name: "another sum", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.SHA256 = strings.Repeat("0", 64) }, "web-6")},
		{Name: "more memory than there is", Want: providers.ErrQuota, Call: create(func(s *Settings) { s.Memory = 32 << 40 }, "web-5")},
		{Name: "clean-up while a host lives", Want: providers.ErrConflict, Call: func(t *testing.T) error {
			if _, err := p.Create(t.Context(), labRequest("web-4", settings)); err != nil {
				t.Fatal(err)
			}
			return p.Cleanup(t.Context(), labCluster)
		}},
		{Name: "no daemon", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			config := p.config
			config.URI = "qemu:///system?socket=/nowhere"
			other, err := New(p.name, config, labEnvironment(t))
			if err != nil {
				t.Fatal(err)
			}
			return other.Check(t.Context(), nil)
		}},
	}
}

const labCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

func labRequest(host string, settings *Settings) providers.CreateRequest {
	req := providers.CreateRequest{
		Identity: providers.Identity{Cluster: labCluster, Host: host, Generation: 1},
		UserData: []byte("#cloud-config\n"),
	}
	if settings != nil {
		req.Settings = settings
	}
	return req
}
