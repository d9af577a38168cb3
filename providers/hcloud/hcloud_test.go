package hcloud

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/hcloud/hcloudtest"
	"github.com/musterhq/muster/providers/providertest"
)

const testCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

// testProvider is a provider in a test project.
func testProvider(t *testing.T, cloud *hcloudtest.Cloud, change ...func(*Config)) *Provider {
	t.Helper()
	config := NewConfig()
	config.Token, config.Endpoint = secret.New(hcloudtest.Token), cloud.URL()
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
	p.look = 2 * time.Millisecond
	t.Cleanup(p.wire.CloseIdleConnections)
	return p
}

func testSettings(change ...func(*Settings)) *Settings {
	s := NewSettings()
	s.Image, s.ServerType = hcloudtest.Image, hcloudtest.ServerType
	for _, each := range change {
		each(s)
	}
	return s
}

// everySetting makes one of every kind of resource that a host may have.
func everySetting() *Settings {
	return testSettings(func(s *Settings) {
		s.Locations, s.SSHKeys = strings.Fields(hcloudtest.Locations), []string{hcloudtest.Key}
		s.Network, s.PlacementGroup = hcloudtest.Network, groupSpread
	})
}

func testRequest(host string, settings *Settings) providers.CreateRequest {
	return providers.CreateRequest{
		Identity: providers.Identity{Cluster: testCluster, Host: host, Generation: 1},
		UserData: []byte("#cloud-config\n"), Settings: settings,
	}
}

// retrying is a provider with the retries that every provider has, in less time.
func retrying(p providers.Provider) providers.Provider {
	quick := providers.RetryPolicy{Initial: time.Millisecond, Max: 10 * time.Millisecond, Elapsed: 10 * time.Second}
	return providers.Retry(p, quick, slog.New(slog.DiscardHandler))
}

func TestConformance(t *testing.T) {
	for name, settings := range map[string]*Settings{
		"plain":      testSettings(),
		"everything": everySetting(),
		"private": testSettings(func(s *Settings) {
			s.PublicIPv4, s.PublicIPv6, s.Network, s.ServerType = false, false, hcloudtest.Network, hcloudtest.ArmType
		}),
	} {
		for _, after := range []bool{false, true} {
			if after && name != "everything" {
				continue
			}
			t.Run(name+map[bool]string{false: "", true: " and the server"}[after], func(t *testing.T) {
				t.Parallel()
				providertest.Run(t, fixture(settings, after))
			})
		}
	}
}

// fixture is a test project for the conformance suite, in which creates crash before the server is made, or after.
func fixture(settings *Settings, after bool) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		cloud := hcloudtest.New(t)
		cloud.Boot, cloud.Delete, cloud.Detach = 4*time.Millisecond, time.Millisecond, 0
		p := testProvider(t, cloud)
		return providertest.Fixture{
			Provider: p,
			Settings: settings,
			Reopen:   func(t *testing.T) providers.Provider { return testProvider(t, cloud) },
			Stop: func(_ context.Context, instance providers.Instance) error {
				return cloud.PowerOff(instance.ID)
			},
			Plant: func(t *testing.T, tags map[string]string) func() bool {
				name := cloud.PlantServer("", tags)
				before := everythingOf(cloud, name)
				return func() bool { return everythingOf(cloud, name) == before }
			},
			Crash: func(t *testing.T, req providers.CreateRequest) {
				crash(t, cloud, req, func(call hcloudtest.Call) bool { return call.Pattern == "POST /v1/servers" }, after)
			},
			Leftovers: func(_ *testing.T, cluster string) (left []string) {
				for _, each := range cloud.Everything() {
					if strings.Contains(each, cluster) || strings.HasPrefix(each, "server web") || strings.HasPrefix(each, "primary") {
						left = append(left, each)
					}
				}
				return left
			},
			Errors: errorCases(p),
		}
	}
}

// everythingOf is what there is of a server.
func everythingOf(cloud *hcloudtest.Cloud, name string) string {
	for _, each := range cloud.Everything() {
		if strings.HasPrefix(each, "server "+name+" ") {
			return each
		}
	}
	return "nothing"
}

// crash ends a create by another process at a call: before it, or after it was carried out.
func crash(
	t *testing.T, cloud *hcloudtest.Cloud, req providers.CreateRequest, at func(hcloudtest.Call) bool, after bool,
) (crashed bool) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	cloud.SetFault(func(call hcloudtest.Call) hcloudtest.Fault {
		if crashed || !at(call) {
			return hcloudtest.Fault{}
		}
		crashed = true
		kill()
		return hcloudtest.Fault{Drop: true, Unsent: !after}
	})
	defer cloud.SetFault(nil)
	_, err := testProvider(t, cloud).Create(ctx, req)
	if (err != nil) != crashed {
		t.Fatalf("crashed %t: create says %v", crashed, err)
	}
	return crashed
}

func errorCases(p *Provider) []providertest.ErrorCase {
	create := func(change func(*Settings)) func(t *testing.T) error {
		return func(t *testing.T) error {
			_, err := p.Create(t.Context(), testRequest("web-9", testSettings(change)))
			return err
		}
	}
	return []providertest.ErrorCase{
		{Name: "no such image", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image = "debain-13" })},
		{Name: "no such snapshot", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image, s.Snapshot = "", "os=muster" })},
		{Name: "no such server type", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.ServerType = "cx999" })},
		{Name: "no such network", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Network = "pirate" })},
		{Name: "no such key", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.SSHKeys = []string{"nobody's"} })},
		{Name: "no such firewall", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Firewalls = []string{"wbe"} })},
		{Name: "no such placement group", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.PlacementGroup = "together" })},
		{Name: "no such location", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.Locations = []string{"moon"} })},
		{Name: "sold out", Want: providers.ErrQuota, Call: create(func(s *Settings) { s.Locations = []string{"ash"} })},
		{Name: "start of a host that is not there", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			return p.Start(t.Context(), providers.Instance{Identity: testRequest("web-9", nil).Identity, ID: "7"})
		}},
		{Name: "clean-up while a host lives", Want: providers.ErrConflict, Call: func(t *testing.T) error {
			_, err := p.Create(t.Context(), testRequest("web-4", testSettings()))
			return errors.Join(err, p.Cleanup(t.Context(), testCluster))
		}},
	}
}
