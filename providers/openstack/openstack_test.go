package openstack

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
	"github.com/musterhq/muster/providers/providertest"
)

const testCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

// testSettle is longer than the test cloud's servers take to get hold of their ports.
const testSettle = 300 * time.Millisecond

// testProvider is a provider in a test cloud.
func testProvider(t *testing.T, cloud *openstacktest.Cloud, change ...func(*Config)) *Provider {
	t.Helper()
	config := NewConfig()
	config.Settle, config.Cloud, config.File = testSettle, "test", cloud.File(t)
	for _, each := range change {
		each(config)
	}
	env := providers.Environment{Now: time.Now}
	if testing.Verbose() {
		env.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	p, err := New("cloud-a", *config, env)
	if err != nil {
		t.Fatal(err)
	}
	p.pace = 5 * time.Millisecond
	t.Cleanup(p.close)
	return p
}

// close ends the connections that a test's provider keeps open.
func (p *Provider) close() {
	if p.login != nil {
		p.login.compute.HTTPClient.CloseIdleConnections()
	}
}

func testSettings(change ...func(*Settings)) *Settings {
	s := NewSettings()
	s.Image, s.Flavor, s.Networks = openstacktest.Image, openstacktest.Flavor, []string{openstacktest.Network}
	for _, each := range change {
		each(s)
	}
	return s
}

func testRequest(host string, settings *Settings) providers.CreateRequest {
	return providers.CreateRequest{
		Identity: providers.Identity{Cluster: testCluster, Host: host, Generation: 1},
		UserData: []byte("#cloud-config\n"), Settings: settings,
	}
}

func TestConformance(t *testing.T) {
	for name, settings := range map[string]*Settings{
		"server": testSettings(),
		"everything": testSettings(func(s *Settings) {
			s.Networks, s.FloatingIP = []string{openstacktest.Network, openstacktest.Second}, openstacktest.Public
			s.ServerGroup, s.AvailabilityZones = "anti-affinity", strings.Fields(openstacktest.Zones)
			s.BootVolume, s.KeyPair = &Volume{Size: 20}, openstacktest.KeyPair
			s.Metadata = map[string]string{"team": "billing"}
		}),
		"bare metal": testSettings(func(s *Settings) { s.Flavor, s.BareMetal = openstacktest.Metal, true }),
		"node":       nodeSettings(func(s *Settings) { s.ResourceClass = "baremetal.small" }),
		"node and number": nodeSettings(func(s *Settings) {
			s.ResourceClass, s.Networks = "baremetal.small", []string{openstacktest.Network, openstacktest.Second}
			s.FloatingIP = openstacktest.Public
		}),
	} {
		crashAt := "POST /compute/v2.1/servers"
		if settings.direct() {
			crashAt = "PUT /baremetal/v1/nodes/{id}/states/provision"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Run(t, fixture(settings, crashAt))
		})
	}
}

// withNodes is a provider whose hosts may be nodes.
func withNodes(c *Config) { c.Baremetal = true }

func nodeSettings(change ...func(*Settings)) *Settings {
	return testSettings(append([]func(*Settings){func(s *Settings) { s.Flavor = "" }}, change...)...)
}

// fixture is a test cloud for the conformance suite, in which creates crash before the first call of a pattern.
func fixture(settings *Settings, crashAt string) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		cloud := openstacktest.New(t)
		p := testProvider(t, cloud, withNodes)
		return providertest.Fixture{
			Provider: p,
			Settings: settings,
			Reopen:   func(t *testing.T) providers.Provider { return testProvider(t, cloud, withNodes) },
			Stop: func(_ context.Context, instance providers.Instance) error {
				if allocation, isNode := strings.CutPrefix(instance.ID, nodePrefix); isNode {
					return cloud.PowerOffNode(allocation)
				}
				return cloud.PowerOff(instance.ID)
			},
			Plant: func(t *testing.T, tags map[string]string) func() bool {
				id := cloud.PlantServer("theirs", tags, "muster.cluster="+tags[providers.TagCluster])
				before := cloud.Untouched(id)
				return func() bool { return cloud.Untouched(id) == before }
			},
			Crash: func(t *testing.T, req providers.CreateRequest) {
				crash(t, cloud, req, func(call openstacktest.Call) bool { return call.Pattern == crashAt }, false)
			},
			CrashUpload: func(t *testing.T, image providers.Image) { crashUploadOf(t, testProvider(t, cloud), image) },
			Leftovers:   func(_ *testing.T, cluster string) []string { return leftovers(cloud, cluster) },
			Errors:      errorCases(p),
		}
	}
}

// crash ends a create by another process at a call: before it, or after it was carried out.
func crash(
	t *testing.T, cloud *openstacktest.Cloud, req providers.CreateRequest, at func(openstacktest.Call) bool, after bool,
) bool {
	t.Helper()
	return crashIn(t, cloud.Gate, testProvider(t, cloud, withNodes), req, at, after)
}

func crashIn(
	t *testing.T, gate *openstacktest.Gate, p *Provider, req providers.CreateRequest, at func(openstacktest.Call) bool, after bool,
) (crashed bool) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	gate.SetFault(func(call openstacktest.Call) openstacktest.Fault {
		if crashed || !at(call) {
			return openstacktest.Fault{}
		}
		crashed = true
		kill()
		return openstacktest.Fault{Drop: true, Unsent: !after}
	})
	defer gate.SetFault(nil)
	_, err := p.Create(ctx, req)
	if (err != nil) != crashed {
		t.Fatalf("crashed %t: create says %v", crashed, err)
	}
	return crashed
}

// crashUploadOf ends an upload by a provider in the middle of the file.
func crashUploadOf(t *testing.T, p *Provider, image providers.Image) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	if _, err := p.UploadImage(ctx, image, func(int64) { kill() }); err == nil {
		t.Fatal("the upload was to crash")
	}
}

// leftovers are the things in a cloud that name a cluster.
func leftovers(cloud *openstacktest.Cloud, cluster string) []string {
	var left []string
	for _, each := range cloud.Everything() {
		if strings.Contains(each, cluster) || strings.HasPrefix(each, "server web") || strings.HasPrefix(each, "interface of") {
			left = append(left, each)
		}
	}
	return left
}

func errorCases(p *Provider) []providertest.ErrorCase {
	create := func(change func(*Settings)) func(t *testing.T) error {
		return func(t *testing.T) error {
			_, err := p.Create(t.Context(), testRequest("web-9", testSettings(change)))
			return err
		}
	}
	return []providertest.ErrorCase{
		{Name: "no such image", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image = "debain" })},
		{Name: "no such flavor", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Flavor = "m9" })},
		{Name: "no such network", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Networks = []string{"pirate"} })},
		{Name: "no such group", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.SecurityGroups = []string{"wbe"} })},
		{Name: "no such server group", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.ServerGroup = "together" })},
		{Name: "no such key", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.KeyPair = "nobody's" })},
		{Name: "no such zone", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.AvailabilityZones = []string{"moon"} })},
		{Name: "start of a host that is not there", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			return p.Start(t.Context(), providers.Instance{Identity: testRequest("web-9", nil).Identity, ID: "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a009"})
		}},
		{Name: "clean-up while a host lives", Want: providers.ErrConflict, Call: func(t *testing.T) error {
			if _, err := p.Create(t.Context(), testRequest("web-4", testSettings())); err != nil {
				t.Fatal(fmt.Errorf("create: %w", err))
			}
			if err := providers.Pause(t.Context(), testSettle+2*time.Second); err != nil { // times are whole seconds
				t.Fatal(err)
			}
			return p.Cleanup(t.Context(), testCluster)
		}},
	}
}
