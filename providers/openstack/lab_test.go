//go:build lab

package openstack

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/allocations"
	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
	"github.com/musterhq/muster/providers/providertest"
)

// labDir is where examples/openstack-lab keeps its cloud.
func labDir() string { return cmp.Or(os.Getenv("OPENSTACK_LAB_DIR"), "/var/lib/muster-openstack-lab") }

const (
	labSettle   = 15 * time.Second // the lab's Nova takes seconds to give a server its port
	labPatience = 5 * time.Minute
)

// lab is a real cloud behind a proxy that counts calls and lets faults befall them.
type lab struct {
	*openstacktest.Proxy
	name     string // of the test's providers, so that tests may run side by side
	keystone string // its address without the proxy
	file     string
}

// newLab starts a proxy before the lab's Keystone, for one of the clouds in its clouds.yaml.
func newLab(t *testing.T, cloud string) *lab {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(labDir(), "clouds.yaml"))
	if err != nil {
		t.Fatalf("no lab, run examples/openstack-lab/up: %v", err)
	}
	_, rest, found := strings.Cut(string(text), "auth_url: ")
	url, _, _ := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("the lab's clouds.yaml has no auth_url")
	}
	proxy := openstacktest.NewProxy(t, strings.TrimSpace(url), policyPatterns(t))
	changed := strings.ReplaceAll(string(text), strings.TrimSpace(url), proxy.URL())
	changed = strings.ReplaceAll(changed, "  "+cloud+":\n", "  test:\n")
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(strings.ToLower(t.Name()), "/")
	return &lab{Proxy: proxy, name: name, keystone: strings.TrimSpace(url) + "/", file: file}
}

func (l *lab) provider(t *testing.T, change ...func(*Config)) *Provider {
	t.Helper()
	config := NewConfig()
	config.Settle, config.Timeout, config.Cloud, config.File = labSettle, labPatience, "test", l.file
	for _, each := range change {
		each(config)
	}
	env := providers.Environment{Now: time.Now}
	if testing.Verbose() {
		env.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	p, err := New(l.name, *config, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// labSettings are those of a server of the fake hypervisor.
func labSettings(change ...func(*Settings)) *Settings {
	s := NewSettings()
	s.Image, s.Flavor, s.Networks = "lab-fake", "m1.nano", []string{"private"}
	for _, each := range change {
		each(s)
	}
	return s
}

// Settings of the lab's other hosts: servers that QEMU boots, and nodes of Ironic through Nova and without it.
func onQEMU(s *Settings)  { s.Image = "lab-qemu" }
func onMetal(s *Settings) { s.Image, s.Flavor, s.BareMetal = "lab-metal", "baremetal.small", true }
func onNode(s *Settings)  { s.Image, s.Flavor, s.ResourceClass = "lab-metal", "", "rack" }

const asksNova = "POST /compute/v2.1/servers"

func TestLabConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, labFixture("lab", labSettings(onQEMU), asksNova))
}

// TestLabConformanceOfMetal makes hosts of Ironic's nodes through Nova.
func TestLabConformanceOfMetal(t *testing.T) {
	t.Parallel()
	providertest.Run(t, labFixture("lab", labSettings(onMetal), asksNova))
}

// TestLabConformanceOfNodes makes hosts of Ironic's nodes directly.
func TestLabConformanceOfNodes(t *testing.T) {
	t.Parallel()
	providertest.Run(t, labFixture("lab-admin", labSettings(onNode), "PUT /baremetal/v1/nodes/{id}/states/provision"))
}

// TestLabConformanceOfEverything has one of every kind of resource. The lab has no block storage.
func TestLabConformanceOfEverything(t *testing.T) {
	t.Parallel()
	settings := labSettings(func(s *Settings) {
		s.FloatingIP, s.ServerGroup, s.KeyPair = "public", "soft-anti-affinity", "laptop"
		s.AvailabilityZones, s.Metadata = []string{"nova"}, map[string]string{"team": "billing"}
	})
	providertest.RunCrash(t, labFixture("lab", settings, asksNova))
}

// switchedOn switches nodes on when they are deployed, which a deployment of fake hardware does not.
type switchedOn struct{ *Provider }

// Create implements providers.Provider.
func (p switchedOn) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	made, err := p.Provider.Create(ctx, req)
	if err != nil || made.State != providers.StatePending {
		return made, err
	}
	wait := p.pauses()
	for {
		list, err := p.List(ctx, req.Cluster)
		if err != nil {
			return made, err
		}
		for _, instance := range list {
			if instance.ID != made.ID {
				continue
			}
			switch instance.State {
			case providers.StateRunning:
				return instance, nil
			case providers.StateStopped:
				if err := p.Start(ctx, instance); err != nil {
					return made, err
				}
			}
		}
		if err := wait.wait(ctx); err != nil {
			return made, err
		}
	}
}

// takesImages tells whether a test of such hosts uploads images. They are the project's, so one test of each project does.
func takesImages(s *Settings) bool { return s.direct() || s.Image == "lab-qemu" }

// imageless is a provider that takes none.
type imageless struct {
	providers.Provider
	providers.Starter
	providers.Stopper
	providers.Cleaner
	providers.Checker
	providers.UserDataLimiter
}

// labTested is a provider as a test needs it: with hosts that run when they are made.
func labTested(p *Provider, settings *Settings) providers.Provider {
	switch {
	case settings.direct():
		return switchedOn{p}
	case !takesImages(settings):
		return imageless{p, p, p, p, p, p}
	}
	return p
}

func labFixture(cloud string, settings *Settings, crashAt string) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		l := newLab(t, cloud)
		p := l.provider(t, func(c *Config) { c.Baremetal = settings.direct() })
		t.Cleanup(func() {
			endAll(t, p)
			if takesImages(settings) {
				endImages(t, p)
			}
		})
		return providertest.Fixture{
			Provider: labTested(p, settings),
			Settings: settings,
			Patience: labPatience,
			Reopen: func(t *testing.T) providers.Provider {
				return labTested(l.provider(t, func(c *Config) { *c = p.config }), settings)
			},
			Stop: func(ctx context.Context, instance providers.Instance) error {
				s, err := p.session(ctx)
				if err != nil {
					return err
				}
				if settings.direct() {
					return l.stopNode(ctx, p, s, instance.Identity)
				}
				return classified(ctx, servers.Stop(ctx, s.compute, instance.ID).ExtractErr())
			},
			Plant:       func(t *testing.T, tags map[string]string) func() bool { return l.plant(t, p, tags) },
			CrashUpload: func(t *testing.T, image providers.Image) { crashUploadOf(t, l.provider(t), image) },
			Crash: func(t *testing.T, req providers.CreateRequest) {
				crashIn(t, l.Gate, l.provider(t, func(c *Config) { *c = p.config }), req, func(call openstacktest.Call) bool { return call.Pattern == crashAt }, false)
			},
			Leftovers: func(t *testing.T, cluster string) []string { return l.leftovers(t, p, cluster) },
		}
	}
}

// stopNode powers a node off.
func (l *lab) stopNode(ctx context.Context, p *Provider, s *session, id providers.Identity) error {
	m, there, err := s.findMachine(ctx, p.owner(id.Cluster), id)
	if err != nil || !there {
		return fmt.Errorf("host %s has no node: %w", id.Host, err)
	}
	return classified(ctx, nodes.ChangePowerState(ctx, s.baremetal, m.node.UUID, nodes.PowerStateOpts{Target: nodes.PowerOff}).ExtractErr())
}

// plant makes a server of somebody else.
func (l *lab) plant(t *testing.T, p *Provider, tags map[string]string) func() bool {
	t.Helper()
	ctx := t.Context()
	s, err := p.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	what, err := p.lookUp(ctx, s, *labSettings()) // whatever the hosts are
	if err != nil {
		t.Fatal(err)
	}
	made, err := servers.Create(ctx, s.compute, servers.CreateOpts{
		Name: "theirs", ImageRef: what.image, FlavorRef: what.flavor, Metadata: tags,
		Networks: "none", Tags: []string{"theirs", clusterTag(cmp.Or(tags[providers.TagCluster], uuid.NewString()))},
	}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	look := func() string {
		found, there, err := s.server(context.WithoutCancel(ctx), made.ID)
		if err != nil || !there {
			return fmt.Sprint("gone: ", err)
		}
		return fmt.Sprint(found.Status, found.Task, found.Metadata)
	}
	wait := p.pauses()
	for !strings.HasPrefix(look(), statusActive) {
		if err := wait.wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before := look()
	t.Cleanup(func() { _ = s.deleteServer(context.WithoutCancel(ctx), made.ID) })
	return func() bool { return look() == before }
}

// leftovers names what the lab has of a cluster.
func (l *lab) leftovers(t *testing.T, p *Provider, cluster string) []string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s, err := p.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	o := p.owner(cluster)
	var left []string
	list, err := s.serversOf(ctx, o, clusterTag(cluster))
	for _, each := range list {
		left = append(left, "server "+each.ID+" "+each.Status)
	}
	held, portErr := s.portsOf(ctx, o, "")
	for _, each := range held {
		left = append(left, "port "+each.Name)
	}
	own, groupErr := s.ownGroups(ctx, o)
	for _, each := range own {
		left = append(left, "security group "+each.Name)
	}
	sets, setErr := s.ownServerGroups(ctx, o)
	for _, each := range sets {
		left = append(left, "server group "+each.name)
	}
	addresses, addressErr := s.listFloatingIPs(ctx, floatingips.ListOpts{Description: o.description()})
	for _, each := range addresses {
		left = append(left, "floating IP "+each.FloatingIP)
	}
	if s.baremetal != nil {
		machines, err := s.machines(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		for id := range machines {
			left = append(left, "allocation of "+id.Host)
		}
	}
	for _, err := range []error{err, portErr, groupErr, setErr, addressErr} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return left
}

// endAll destroys what a test left of any cluster of the provider.
func endAll(t *testing.T, p *Provider) {
	ctx := context.WithoutCancel(t.Context())
	s, err := p.session(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	var all []server
	pages, err := servers.List(s.compute, servers.ListOpts{}).AllPages(ctx)
	if err == nil {
		err = servers.ExtractServersInto(pages, &all)
	}
	clusters := map[string]bool{testCluster: true}
	if s.baremetal != nil {
		endNodes(t, p, s, clusters)
	}
	var doomed []providers.Instance
	for _, each := range all {
		id, tagged := providers.IdentityFromTags(each.Metadata)
		if tagged && each.Metadata[providers.TagProvider] == p.name {
			clusters[id.Cluster] = true
			doomed = append(doomed, each.instance(id))
		}
	}
	atOnce(t, len(doomed), func(i int) error { return p.Destroy(ctx, doomed[i]) })
	held, portErr := ports.List(s.network, ports.ListOpts{ProjectID: s.project}).AllPages(ctx)
	if err != nil || portErr != nil {
		t.Error(err, portErr)
		return
	}
	list, _ := ports.ExtractPorts(held)
	for _, port := range list {
		var cluster, name string
		if n, _ := fmt.Sscanf(port.Description, providers.TagCluster+"=%s "+providers.TagProvider+"=%s", &cluster, &name); n == 2 && name == p.name {
			clusters[cluster] = true
		}
	}
	for cluster := range clusters {
		if err := p.Cleanup(ctx, cluster); err != nil {
			t.Error(err)
		}
	}
}

// endImages deletes what the suite uploaded.
func endImages(t *testing.T, p *Provider) {
	ctx := context.WithoutCancel(t.Context())
	s, err := p.session(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	pages, err := images.List(s.image, images.ListOpts{Owner: s.project}).AllPages(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	list, err := images.ExtractImages(pages)
	if err != nil {
		t.Error(err)
	}
	for _, image := range list {
		if strings.HasPrefix(image.Name, imageName("")) {
			if err := s.deleteImage(ctx, image.ID); err != nil {
				t.Error(err)
			}
		}
	}
}

// endNodes destroys hosts that are nodes.
func endNodes(t *testing.T, p *Provider, s *session, clusters map[string]bool) {
	ctx := context.WithoutCancel(t.Context())
	pages, err := allocations.List(s.baremetal, allocations.ListOpts{}).AllPages(ctx)
	if err != nil {
		t.Error(err)
		return
	}
	list, _ := allocations.ExtractAllocations(pages)
	for _, each := range list {
		if id, tagged := providers.IdentityFromTags(each.Extra); tagged && each.Extra[providers.TagProvider] == p.name {
			clusters[id.Cluster] = true
			if err := p.destroyNode(ctx, s, id); err != nil {
				t.Error(err)
			}
		}
	}
}
