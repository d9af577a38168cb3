package libvirt

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/providers"
)

// domain is a domain that has our element in its metadata.
type domain struct {
	handle golibvirt.Domain
	id     providers.Identity // zero when the tags are not whole
	record record
	state  golibvirt.DomainState
	reason int32
}

// active tells whether there is a QEMU of the domain.
func (d domain) active() bool {
	return d.state != golibvirt.DomainShutoff && d.state != golibvirt.DomainCrashed && d.state != golibvirt.DomainNostate
}

// ours tells whether the domain is the provider's: its UUID follows from its tags, which a copy of it that somebody made
// has too, under another UUID.
func (d domain) ours(o owner) bool {
	return d.id.Cluster == o.cluster && d.record.provider == o.provider && d.handle.UUID == uuidOf(d.id)
}

// lookDomain reads a domain's metadata and state. It finds nothing in domains without our element.
func (c *client) lookDomain(handle golibvirt.Domain) (d domain, found bool, err error) {
	text, err := c.DomainGetMetadata(handle, int32(golibvirt.DomainMetadataElement), golibvirt.OptString{Namespace},
		golibvirt.DomainAffectCurrent)
	if hasCode(err, golibvirt.ErrNoDomainMetadata) || gone(err) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	d.handle = handle
	if d.record, err = parseRecord(text); err != nil {
		return d, false, nil // somebody else's idea of our element
	}
	d.id, _ = d.record.identity()
	state, reason, err := c.DomainGetState(handle, 0)
	d.state, d.reason = golibvirt.DomainState(state), reason
	return d, err == nil, ignoreGone(err)
}

// find finds the domain of a host.
func (c *client) find(p *Provider, id providers.Identity) (domain, bool, error) {
	handle, err := c.DomainLookupByUUID(uuidOf(id))
	if err != nil {
		return domain{}, false, ignoreGone(err)
	}
	d, found, err := c.lookDomain(handle)
	if err == nil && (!found || !d.ours(p.owner(id.Cluster))) {
		err = fmt.Errorf("domain %s has the host's UUID %s and is not this provider's: %w",
			handle.Name, uuidString(handle.UUID), providers.ErrConflict)
	}
	return d, found && err == nil, err
}

// lookers is how many domains are read at once: from afar every question takes a while.
const lookers = 8

// domains reads all domains that have our element.
func (c *client) domains() ([]domain, error) {
	handles, _, err := c.ConnectListAllDomains(1, 0)
	if err != nil {
		return nil, err
	}
	looked := make([]domain, len(handles))
	ours := make([]bool, len(handles))
	var group errgroup.Group
	group.SetLimit(lookers)
	for i, handle := range handles {
		group.Go(func() (err error) {
			looked[i], ours[i], err = c.lookDomain(handle)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var list []domain
	for i, d := range looked {
		if ours[i] {
			list = append(list, d)
		}
	}
	return list, nil
}

// List reads the metadata of all domains.
func (p *Provider) List(ctx context.Context, cluster string) (list []providers.Instance, err error) {
	err = p.session(ctx, func(ctx context.Context, c *client) error {
		all, err := c.domains()
		if err != nil {
			return err
		}
		hosts := slices.DeleteFunc(all, func(d domain) bool {
			return !d.ours(p.owner(cluster)) || d.record.phase == phaseMaking && !d.active()
		})
		list, err = c.instances(ctx, p, cluster, hosts)
		return err
	})
	slices.SortFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, err
}

// instances are domains of one cluster as providers.Provider shows them.
func (c *client) instances(ctx context.Context, p *Provider, cluster string, domains []domain) ([]providers.Instance, error) {
	var reserved map[string]netip.Addr
	if p.makesNetwork() && len(domains) > 0 {
		n, _, err := c.ownNetwork(p.owner(cluster))
		if err != nil {
			return nil, err
		}
		reserved = n.reservations
	}
	list := make([]providers.Instance, len(domains))
	var group errgroup.Group
	group.SetLimit(lookers)
	for i, d := range domains {
		list[i] = providers.Instance{
			Identity: d.id, ID: uuidString(d.handle.UUID), State: instanceState(d), Created: d.record.created,
		}
		if address, ok := reserved[macOf(d.id)]; ok {
			list[i].Addresses = []netip.Addr{address}
		} else if !p.makesNetwork() && d.active() {
			group.Go(func() error {
				list[i].Addresses = c.addresses(d)
				return context.Cause(ctx)
			})
		}
	}
	return list, group.Wait()
}

// instanceState is what a domain's state means.
func instanceState(d domain) providers.State {
	switch {
	case d.record.phase == phaseEnding:
		return providers.StateFailed
	case d.state == golibvirt.DomainRunning || d.state == golibvirt.DomainBlocked || d.state == golibvirt.DomainShutdown:
		return providers.StateRunning
	case d.state == golibvirt.DomainPaused && golibvirt.DomainPausedReason(d.reason) == golibvirt.DomainPausedStartingUp:
		return providers.StatePending
	default:
		return providers.StateStopped
	}
}

// addresses asks where a host is that has its address from somebody else: the leases of the daemon's own DHCP server,
// then the hypervisor's neighbours (ARP), then the guest's agent. A source that does not know is passed over.
func (c *client) addresses(d domain) []netip.Addr {
	for _, source := range []golibvirt.DomainInterfaceAddressesSource{
		golibvirt.DomainInterfaceAddressesSrcLease, golibvirt.DomainInterfaceAddressesSrcArp, golibvirt.DomainInterfaceAddressesSrcAgent,
	} {
		interfaces, err := c.DomainInterfaceAddresses(d.handle, uint32(source), 0)
		if found := usable(interfaces); err == nil && len(found) > 0 {
			return found
		}
	}
	return nil
}

// ofContainers are the names that engines of containers give their interfaces.
var ofContainers = regexp.MustCompile(`^(docker|podman|cni|veth|br-)`)

// usable are the addresses by which a host may be reached, IPv4 first. An agent names the interfaces of containers too,
// which are passed over.
func usable(interfaces []golibvirt.DomainInterface) []netip.Addr {
	var found []netip.Addr
	for _, each := range interfaces {
		if ofContainers.MatchString(each.Name) {
			continue
		}
		for _, at := range each.Addrs {
			address, err := netip.ParseAddr(at.Addr)
			if err == nil && address.IsGlobalUnicast() && !slices.Contains(found, address) {
				found = append(found, address)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return found
}

// setPhase writes how far a domain's life has come.
func (c *client) setPhase(d *domain, to phase) error {
	next := d.record
	next.phase = to
	text, err := next.marshal(false)
	if err != nil {
		return err
	}
	impact := golibvirt.DomainAffectConfig
	if d.active() {
		impact |= golibvirt.DomainAffectLive
	}
	set := func(impact golibvirt.DomainModificationImpact) error {
		return c.DomainSetMetadata(d.handle, int32(golibvirt.DomainMetadataElement), golibvirt.OptString{text},
			golibvirt.OptString{metadataKey}, golibvirt.OptString{Namespace}, impact)
	}
	if err = set(impact); says(err, "domain is not running") {
		err = set(golibvirt.DomainAffectConfig) // it ended meanwhile
	}
	if err == nil {
		d.record = next
	}
	return err
}
