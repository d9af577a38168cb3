package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/providers"
)

// datacentre runs something on the clouds' instances: goroutines that join as hosts do. A host without endpoints waits on
// a real listener and speaks the real protocol; one with endpoints finds the cluster as if it had dialled a voter.
type datacentre struct {
	t     *testing.T
	fleet *fleet
	ctx   context.Context
	all   sync.WaitGroup

	mu      sync.Mutex
	booted  map[string]context.CancelFunc // by provider and its instance identifier
	listens map[string]listening          // by API address of a host
	only    string                        // the one host that can be dialled, "" for all
	replies map[string]join.Reply         // by host ID
	refused map[string]error              // by host ID
	dead    map[string]bool               // host names whose instances never run anything
	data    map[string]string             // user-data by host ID
	// prepare is what a host does before it has musterd. Nil is nothing; an error ends the host.
	prepare func(ctx context.Context, host string, userData []byte) error
}

// listening is a host that waits, and where it really listens.
type listening struct{ host, address string }

func newDatacentre(t *testing.T, f *fleet) *datacentre {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	d := &datacentre{
		t: t, fleet: f, ctx: ctx, booted: make(map[string]context.CancelFunc), listens: make(map[string]listening),
		replies: make(map[string]join.Reply), refused: make(map[string]error), dead: make(map[string]bool), data: make(map[string]string),
	}
	t.Cleanup(func() {
		cancel()
		d.all.Wait()
	})
	return d
}

// withHosts gives a world hosts that boot and a cluster that they form.
func (w *world) withHosts() *world {
	w.fleet = newFleet()
	w.hosts = newDatacentre(w.t, w.fleet)
	return w
}

// at is a provider whose instances run something.
func (d *datacentre) at(provider string, p providers.Provider) providers.Provider {
	return powered{Provider: p, dc: d, name: provider}
}

type powered struct {
	providers.Provider
	dc   *datacentre
	name string
}

// placed gives an instance an address that is its own among all clouds, which the simulated ones do not care for.
func (p powered) placed(i providers.Instance) providers.Instance {
	for n, a := range i.Addresses {
		bytes := a.As4()
		bytes[1] = p.name[0]
		i.Addresses[n] = netip.AddrFrom4(bytes)
	}
	return i
}

func (p powered) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	list, err := p.Provider.List(ctx, cluster)
	for n := range list {
		list[n] = p.placed(list[n])
	}
	return list, err
}

func (p powered) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	i, err := p.Provider.Create(ctx, req)
	i = p.placed(i)
	if err == nil && len(i.Addresses) > 0 {
		p.dc.boot(p.name+"/"+i.ID, req, i)
	}
	return i, err
}

func (p powered) Destroy(ctx context.Context, i providers.Instance) error {
	p.dc.halt(p.name+"/"+i.ID, i.Identity.ID())
	return p.Provider.Destroy(ctx, i)
}

func (p powered) Start(ctx context.Context, i providers.Instance) error {
	if err := providers.Start(ctx, p.Provider, i); err != nil {
		return err
	}
	p.dc.fleet.mu.Lock()
	defer p.dc.fleet.mu.Unlock()
	if _, member := p.dc.fleet.members[i.Identity.ID()]; member {
		p.dc.fleet.alive[i.Identity.ID()] = true
	}
	return nil
}

func (p powered) Stop(ctx context.Context, i providers.Instance) error {
	if err := providers.Stop(ctx, p.Provider, i); err != nil {
		return err
	}
	p.dc.fleet.gone(i.Identity.ID())
	return nil
}

func (p powered) Cleanup(ctx context.Context, cluster string) error {
	return providers.Cleanup(ctx, p.Provider, cluster)
}

func (p powered) Check(ctx context.Context, settings []any) error {
	return providers.Check(ctx, p.Provider, settings)
}

// boot starts a host once.
func (d *datacentre) boot(instance string, req providers.CreateRequest, i providers.Instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.booted[instance] != nil || d.dead[req.Host] {
		return
	}
	d.data[req.Identity.ID()] = string(req.UserData)
	cfg, err := configOf(req.UserData)
	if err != nil {
		d.t.Errorf("user-data of %s: %v", req.Host, err)
		return
	}
	ctx, cancel := context.WithCancel(d.ctx)
	d.booted[instance] = cancel
	h := roster.Host{Address: i.Addresses[0].String(), Ports: roster.DefaultPorts()}
	d.all.Go(func() {
		if d.prepare != nil {
			if err := d.prepare(ctx, req.Host, req.UserData); err != nil {
				d.t.Logf("%s does not get musterd: %v", req.Host, err)
				return
			}
		}
		d.start(ctx, cfg, h)
	})
}

// start is musterd on a host.
func (d *datacentre) start(ctx context.Context, cfg join.Config, h roster.Host) {
	if len(cfg.Endpoints) > 0 {
		d.joinLater(ctx, cfg, h)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Error(err)
		return
	}
	d.mu.Lock()
	d.listens[h.APIAddress()] = listening{cfg.Host, l.Addr().String()}
	d.mu.Unlock()
	d.waitToBeDialled(ctx, cfg, l)
}

func configOf(userData []byte) (join.Config, error) {
	doc, err := cloudconfig.Parse("user-data", userData)
	if err != nil {
		return join.Config{}, err
	}
	for _, f := range doc.WriteFiles {
		if f.Path == join.ConfigPath {
			var cfg join.Config
			content, err := f.Bytes()
			if err != nil {
				return cfg, err
			}
			return cfg, json.Unmarshal(content, &cfg)
		}
	}
	return join.Config{}, errors.New("no " + join.ConfigPath)
}

// halt ends a host.
func (d *datacentre) halt(instance, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cancel := d.booted[instance]; cancel != nil {
		cancel()
	}
	d.fleet.gone(id)
}

// waitToBeDialled is a first member. When it has joined it goes on listening and says nothing, like an agent whose
// clients have not spoken yet.
func (d *datacentre) waitToBeDialled(ctx context.Context, cfg join.Config, l net.Listener) {
	defer func() { _ = l.Close() }()
	key, err := pki.NewKey()
	if err != nil {
		d.t.Error(err)
		return
	}
	reply, err := join.Run(ctx, cfg, key, roster.Facts{Hostname: cfg.Host}, l, discard)
	d.mu.Lock()
	switch {
	case err == nil:
		d.replies[cfg.HostID] = reply
	case ctx.Err() == nil:
		d.refused[cfg.HostID] = err
	}
	d.mu.Unlock()
	if err != nil {
		return
	}
	d.fleet.joinFirst(cfg.HostID, reply.Roster)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		d.all.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		})
	}
}

func (d *datacentre) joinLater(ctx context.Context, cfg join.Config, h roster.Host) {
	for !d.fleet.joinLater(join.HashToken(cfg.Token), h.Address, h.Ports) {
		if providers.Pause(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// dial reaches a waiting host.
func (d *datacentre) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	to, ok := d.listens[address]
	d.mu.Unlock()
	if !ok || d.only != "" && d.only != to.host {
		return nil, fmt.Errorf("dial %s: nobody listens", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to.address)
}
