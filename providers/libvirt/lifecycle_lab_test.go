//go:build lab

package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
)

// labCreate makes a host and cleans up after it at the end of the test.
func labCreate(t *testing.T, p *Provider, host string, settings *Settings) providers.Instance {
	t.Helper()
	t.Cleanup(func() { removeAll(t, p) })
	made, err := p.Create(t.Context(), labRequest(host, settings))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// transcript is a console that is being followed.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(data)
}

func (s *transcript) greetings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), greeting)
}

func awaitLab(t *testing.T, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); {
		if time.Since(began) > time.Minute {
			t.Fatalf("no %s after a minute", what)
		}
		if err := providers.Pause(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConsole follows a host's console through a stop and a start until the host is gone.
func TestConsole(t *testing.T) {
	p := labProvider(t)
	made := labCreate(t, p, "web-1", tinySettings(t))
	console, ok := providers.As[providers.Consoler](p)
	if !ok {
		t.Fatal("the provider keeps no consoles")
	}
	var seen transcript
	followed := make(chan error, 1)
	go func() { followed <- console.Console(t.Context(), made, true, &seen) }()
	awaitLab(t, "greeting", func() bool { return seen.greetings() == 1 })
	with(t, p, func(c *client) error {
		d, _, err := c.find(p, made.Identity)
		return errors.Join(err, c.DomainDestroy(d.handle))
	})
	if err := p.Start(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	awaitLab(t, "second greeting", func() bool { return seen.greetings() == 2 })
	var once bytes.Buffer
	if err := console.Console(t.Context(), made, false, &once); err != nil || strings.Count(once.String(), greeting) != 2 {
		t.Errorf("the console says %q, %v", once.String(), err)
	}
	failing := errors.New("disk full")
	if err := console.Console(t.Context(), made, true, writer(func([]byte) (int, error) { return 0, failing })); !errors.Is(err, failing) {
		t.Errorf("a writer that fails: %v", err)
	}
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if err := <-followed; err != nil {
		t.Errorf("following ended with %v", err)
	}
	if err := console.Console(t.Context(), made, false, &once); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("the console of a host that is gone: %v", err)
	}
}

// TestForgottenGeneration: a host whose domain somebody removed leaves nothing behind when it is made anew, and has its
// address again.
func TestForgottenGeneration(t *testing.T) {
	p := labProvider(t)
	settings := tinySettings(t)
	made := labCreate(t, p, "web-1", settings)
	with(t, p, func(c *client) error {
		d, _, err := c.find(p, made.Identity)
		return errors.Join(err, c.DomainDestroy(d.handle), c.undefine(d))
	})
	req := labRequest("web-1", settings)
	req.Identity.Generation = 2
	again, err := p.Create(t.Context(), req)
	if err != nil || len(again.Addresses) != 1 || again.Addresses[0] != made.Addresses[0] {
		t.Fatalf("made again: %+v, %v, want the address of %+v", again, err, made)
	}
	var left []string
	for _, name := range p.owner(labCluster).volumes(made.Identity).all() {
		if _, err := os.Stat(filepath.Join(p.config.Pool, name)); !errors.Is(err, os.ErrNotExist) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		t.Errorf("left of the first generation: %v", left)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(data []byte) (int, error) { return w(data) }

// TestProvidersShareDaemon gives two providers of a cluster, and another cluster, one daemon and one pool.
func TestProvidersShareDaemon(t *testing.T) {
	a := labProvider(t)
	b := labProvider(t, func(c *Config) { c.Pool = a.config.Pool })
	settings := tinySettings(t)
	one, two := labCreate(t, a, "web-1", settings), labCreate(t, b, "web-2", settings)
	for p, want := range map[*Provider]providers.Instance{a: one, b: two} {
		if list, err := p.List(t.Context(), labCluster); err != nil || len(list) != 1 || list[0].ID != want.ID {
			t.Errorf("%s lists %v, %v", p.name, list, err)
		}
	}
	if _, err := b.Create(t.Context(), labRequest("web-1", settings)); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("the other provider's host is made again: %v", err)
	}
	if err := errors.Join(a.Destroy(t.Context(), one), a.Cleanup(t.Context(), labCluster)); err != nil {
		t.Fatal(err)
	}
	if list, err := b.List(t.Context(), labCluster); err != nil || len(list) != 1 || list[0].State != providers.StateRunning || len(list[0].Addresses) != 1 {
		t.Errorf("the clean-up of one provider touched the other's host: %v, %v", list, err)
	}
	images := func() int {
		found, err := filepath.Glob(filepath.Join(a.config.Pool, imagePrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := images(); n != 2 {
		t.Errorf("%d volumes of the image that is in use, want it and its marker", n)
	}
	if err := errors.Join(b.Destroy(t.Context(), two), b.Cleanup(t.Context(), labCluster)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.config.Pool); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pool's directory is left (%v)", err)
	}
}

// TestDestroyInterrupted ends a destroy after each step; the host is seen until the next one has finished.
func TestDestroyInterrupted(t *testing.T) {
	for _, step := range []string{"ending", "emptied"} {
		t.Run(step, func(t *testing.T) {
			p := labProvider(t)
			settings := tinySettings(t)
			made := labCreate(t, p, "web-1", settings)
			other := again(t, p)
			other.interrupt = func(at string) error {
				if at == step {
					return errCrash
				}
				return nil
			}
			if err := other.Destroy(t.Context(), made); !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			list, err := p.List(t.Context(), labCluster)
			if err != nil || len(list) != 1 || list[0].State != providers.StateFailed {
				t.Fatalf("after the crash: %v, %v", list, err)
			}
			if err := p.Start(t.Context(), made); !errors.Is(err, providers.ErrNotFound) {
				t.Errorf("start of a host that ends: %v", err)
			}
			fresh, err := p.Create(t.Context(), labRequest("web-1", settings))
			if err != nil || fresh.State != providers.StateRunning {
				t.Fatalf("made again: %v, %v", fresh, err)
			}
			if err := errors.Join(p.Destroy(t.Context(), fresh), p.Cleanup(t.Context(), labCluster)); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, p, labCluster); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestGrace gives a host that does not hear the power button its time.
func TestGrace(t *testing.T) {
	p := labProvider(t, func(c *Config) { c.Grace = time.Second })
	made := labCreate(t, p, "web-1", tinySettings(t))
	began := time.Now()
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the host had %v to shut down, want a second", took)
	}
}

// TestOverTheNetwork makes and destroys a host through TLS and SSH servers in front of the daemon's socket.
func TestOverTheNetwork(t *testing.T) {
	for name, config := range map[string]Config{"tls": tlsServer(t, daemon.socket), "ssh": sshServer(t, daemon.socket)} {
		t.Run(name, func(t *testing.T) {
			p := labProvider(t, func(c *Config) { c.URI, c.TLS, c.SSH = config.URI, config.TLS, config.SSH })
			settings := tinySettings(t)
			if err := p.Check(t.Context(), []any{settings}); err != nil {
				t.Fatal(err)
			}
			made := labCreate(t, p, "web-1", settings)
			var said bytes.Buffer
			awaitLab(t, "greeting", func() bool {
				said.Reset()
				err := p.Console(t.Context(), made, false, &said)
				return err == nil && strings.Contains(said.String(), greeting)
			})
			if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), labCluster)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestFirmware starts hosts in every way and leaves nothing of them, NVRAM included.
func TestFirmware(t *testing.T) {
	kernel := filepath.Join(t.TempDir(), "kernel")
	for firmware, change := range map[string]func(*Settings){
		firmwareUEFI:   func(s *Settings) { s.Memory = 128 << 20 },
		firmwareDirect: func(s *Settings) { s.Kernel, s.Initrd, s.Cmdline = kernel, kernel, "console=ttyS0" },
	} {
		t.Run(firmware, func(t *testing.T) {
			p := labProvider(t)
			settings := tinySettings(t)
			settings.Firmware = firmware
			change(settings)
			// QEMU asks of a kernel no more than a header (Documentation/arch/x86/boot.rst): nothing here runs it.
			header := make([]byte, 64<<10)
			copy(header[0x1f1:], "\x04")
			copy(header[0x1fe:], "\x55\xaa\xeb\x66HdrS\x0f\x02")
			header[0x211] = 1
			copy(header[0x22c:], "\xff\xff\xff\x37") // where its initrd may end
			writeFile(t, kernel, header)
			made := labCreate(t, p, "web-1", settings)
			if made.State != providers.StateRunning {
				t.Errorf("made %+v", made)
			}
			if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), labCluster)); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, p, labCluster); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestTakenSubnets finds a subnet beside networks that are there, and says so when it may not.
func TestTakenSubnets(t *testing.T) {
	p := labProvider(t)
	o := p.owner(labCluster)
	text := fmt.Sprintf("<network><name>theirs</name><bridge name='theirs'/><ip address='%s' prefix='24'/></network>", o.subnet(0).Addr().Next())
	with(t, p, func(c *client) error {
		handle, err := c.NetworkDefineXML(text)
		if err == nil {
			err = c.NetworkCreate(handle)
		}
		return err
	})
	t.Cleanup(func() {
		with(t, p, func(c *client) error {
			handle, err := c.NetworkLookupByName("theirs")
			return errors.Join(err, c.NetworkDestroy(handle), c.NetworkUndefine(handle))
		})
	})
	made := labCreate(t, p, "web-1", tinySettings(t))
	if len(made.Addresses) != 1 || !o.subnet(1).Contains(made.Addresses[0]) {
		t.Errorf("addresses %v, want one in %s", made.Addresses, o.subnet(1))
	}
	fixed := labProvider(t, func(c *Config) { c.Network.Subnet = o.subnet(0).String() })
	t.Cleanup(func() {
		if err := fixed.Cleanup(context.WithoutCancel(t.Context()), labCluster); err != nil {
			t.Error(err)
		}
	})
	_, err := fixed.Create(t.Context(), labRequest("web-2", tinySettings(t)))
	if !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "set `network.subnet`") {
		t.Errorf("a subnet that is taken: %v", err)
	}
}

// TestOtherNetworks puts hosts on a network that is there and on a bridge.
func TestOtherNetworks(t *testing.T) {
	p := labProvider(t)
	with(t, p, func(c *client) error {
		handle, err := c.NetworkDefineXML("<network><name>lan</name><bridge name='lan0'/><ip address='10.99.0.1' prefix='24'/></network>")
		if err == nil {
			err = c.NetworkCreate(handle)
		}
		return err
	})
	t.Cleanup(func() {
		with(t, p, func(c *client) error {
			handle, err := c.NetworkLookupByName("lan")
			return errors.Join(err, c.NetworkDestroy(handle), c.NetworkUndefine(handle))
		})
	})
	for name, at := range map[string]Network{"network": {Name: "lan"}, "bridge": {Bridge: "lan0"}} {
		t.Run(name, func(t *testing.T) {
			p := labProvider(t, func(c *Config) { c.Network = at })
			settings := tinySettings(t)
			settings.MAC = "52:54:00:AA:00:01"
			made := labCreate(t, p, "web-1", settings)
			list, err := p.List(t.Context(), labCluster)
			if err != nil || len(list) != 1 || list[0].State != providers.StateRunning || len(list[0].Addresses) != 0 {
				t.Errorf("listed %v, %v", list, err)
			}
			if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), labCluster)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	good := tinySettings(t)
	for _, tt := range []struct {
		name   string
		config func(*Config)
		change func(*Settings)
		want   error
		text   string
	}{
		{"good", func(*Config) {}, func(*Settings) {}, nil, ""},
		{"no pool", func(c *Config) { c.Pool = "nowhere" }, func(*Settings) {}, providers.ErrNotFound, "set `pool:`"},
		{"no network", func(c *Config) { c.Network.Name = "nowhere" }, func(*Settings) {}, providers.ErrNotFound, "set `network.name`"},
		{"no file", func(*Config) {}, func(s *Settings) { s.Image = "./nowhere" }, providers.ErrNotFound, "nowhere"},
		{"no volume", func(*Config) {}, func(s *Settings) { s.Image = "nowhere" }, providers.ErrNotFound, "./nowhere"},
		{"another sum", func(*Config) {}, func(s *Settings) { s.SHA256 = strings.Repeat("0", 64) }, providers.ErrInvalid, "SHA-256"},
		{"no kvm", func(c *Config) { c.DomainType = typeKVM }, func(*Settings) {}, providers.ErrInvalid, "kvm"},
	} {
		p := labProvider(t, tt.config)
		s := *good
		tt.change(&s)
		err := p.Check(t.Context(), []any{&s})
		if !errors.Is(err, tt.want) || tt.want != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.text)
		}
		if left := leftovers(t, p, labCluster); len(left) > 0 {
			t.Errorf("%s: Check made %v", tt.name, left)
		}
	}
}
