package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// Create makes a host's directory and starts it. A directory that a crash left half-made is completed.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (_ providers.Instance, err error) {
	if err := errors.Join(req.Validate(), context.Cause(ctx)); err != nil {
		return providers.Instance{}, err
	}
	settings, err := p.settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	if h, found, err := p.find(req.Identity); err != nil || found && h.launched() {
		return p.created(h, err)
	}
	// What cannot succeed fails before anything is made.
	expected := host{dir: filepath.Join(p.root, baseName(req.Identity)), record: record{Container: p.container}}
	if err := errors.Join(p.checkStart(expected), expected.checkLength()); err != nil {
		return providers.Instance{}, err
	}
	lock, err := p.lock(ctx, req.Identity)
	if err != nil {
		return providers.Instance{}, err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	h, found, err := p.find(req.Identity)
	if err == nil && !found {
		h, err = p.makeHost(req.Identity, settings.Env)
	}
	if err == nil && !h.launched() {
		err = p.complete(ctx, h, req.UserData)
	}
	return p.created(h, err)
}

func (p *Provider) created(h host, err error) (providers.Instance, error) {
	if err != nil {
		return providers.Instance{}, err
	}
	return p.instance(h, p.look())
}

// complete does everything that follows the tags. It may have been begun before.
func (p *Provider) complete(ctx context.Context, h host, userData []byte) error {
	if err := p.step("tagged"); err != nil {
		return err
	}
	at, err := p.leases.of(h).acquire(ctx, h.dir, p.seed(h.identity()))
	if err == nil {
		err = p.step("leased")
	}
	if err == nil {
		err = p.boot(h, at)
	}
	if err == nil {
		err = crashsafe.WriteFile(h.path(userDataFile), userData, 0o600)
	}
	if err == nil {
		err = p.step("written")
	}
	if err == nil {
		err = p.launch(ctx, h)
	}
	return err
}

// seed chooses a host's address: the same for every generation.
func (p *Provider) seed(id providers.Identity) string {
	return id.Cluster + "\x00" + p.name + "\x00" + id.Host
}

// step tells a test where a crash may happen.
func (p *Provider) step(name string) error {
	if p.interrupt == nil {
		return nil
	}
	return p.interrupt(name)
}

// lock takes the lock of an identity, which Create, Start, Destroy and Cleanup hold while they change something.
func (p *Provider) lock(ctx context.Context, id providers.Identity) (*crashsafe.Lock, error) {
	return crashsafe.Acquire(ctx, p.lockPath(baseName(id)))
}

func (p *Provider) lockPath(base string) string {
	return filepath.Join(p.root, scratchName(base, lockSuffix))
}

// List reads the directories of the cluster. A host is listed from the moment that it was started; before, only Create and
// Cleanup know of it.
func (p *Provider) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	err := context.Cause(ctx)
	var hosts []host
	if err == nil {
		hosts, err = p.hosts(cluster)
	}
	if err != nil {
		return nil, err
	}
	var list []providers.Instance
	look := p.look()
	for _, h := range hosts {
		instance, err := p.instance(h, look)
		if err != nil {
			return nil, err
		}
		if instance.State == providers.StateRunning || h.launched() {
			list = append(list, instance)
		}
	}
	slices.SortFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}

// instance is a host as providers.Provider shows it.
func (p *Provider) instance(h host, look *look) (providers.Instance, error) {
	at, err := h.endpoint()
	if err != nil {
		return providers.Instance{}, err
	}
	_, running, err := look.keeper(h)
	if err != nil {
		return providers.Instance{}, err
	}
	instance := providers.Instance{
		Identity: h.identity(), ID: h.InstanceID, State: providers.StateStopped, Ports: at.ports, Created: h.Created,
	}
	if running {
		instance.State = providers.StateRunning
	}
	if at.address.IsValid() {
		instance.Addresses = []netip.Addr{at.address}
	}
	return instance, nil
}

// Start starts a host that does not run: the musterd of one, or a container with the disk that it had.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) (err error) {
	id := instance.Identity
	if _, found, err := p.find(id); err != nil || !found {
		return cmp.Or(err, fmt.Errorf("it has no directory in %s: %w", p.root, providers.ErrNotFound))
	}
	lock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	h, found, err := p.find(id)
	if err != nil {
		return err
	}
	if !found || !h.launched() {
		return fmt.Errorf("it has no directory in %s: %w", p.root, providers.ErrNotFound)
	}
	at, err := h.endpoint()
	if err != nil {
		return err
	}
	if _, running, err := p.look().keeper(h); err != nil || running {
		return err
	}
	if err := errors.Join(p.checkStart(h), p.leases.keep(ctx, at, h.dir), p.boot(h, at)); err != nil {
		return err
	}
	return p.launch(ctx, h)
}

// boot writes the meta-data with which musterd starts. It is another boot unless some process of the host lives.
func (p *Provider) boot(h host, at endpoint) error {
	meta, err := h.metaData()
	if err != nil {
		return err
	}
	all, err := p.processes.all()
	if err != nil {
		return fmt.Errorf("cannot read the process table: %w", err)
	}
	if meta.BootID == "" || len(newKin(h.InstanceID).live(all)) == 0 {
		meta.BootID = uuid.NewString()
	}
	return h.writeMetaData(at, meta.BootID)
}

// checkStart looks whether there is what a host needs to start.
func (p *Provider) checkStart(h host) error {
	if h.Container == nil {
		return p.checkMusterd()
	}
	return errors.Join(p.checkMusterd(), h.Container.check())
}
