package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/musterhq/muster/providers"
)

// makesNetwork tells whether hosts are in a network that muster makes.
func (p *Provider) makesNetwork() bool {
	return p.config.Network.Name == "" && p.config.Network.Bridge == ""
}

// network is a network that muster made, as it is now.
type network struct {
	handle       golibvirt.Network
	active       bool
	subnet       netip.Prefix
	reservations map[string]netip.Addr // by MAC address
}

// ownNetwork finds the owner's network.
func (c *client) ownNetwork(o owner) (network, bool, error) {
	_, _, uuid := o.network()
	handle, err := c.NetworkLookupByUUID(uuid)
	if err != nil {
		return network{}, false, ignoreGone(err)
	}
	active, err := c.NetworkIsActive(handle)
	if err != nil {
		return network{}, false, err
	}
	found, err := c.readNetwork(handle, 0)
	found.active = active == 1
	return found, err == nil, err
}

// inactiveXML asks for the persistent definition of a network (VIR_NETWORK_XML_INACTIVE).
const inactiveXML = 1

func (c *client) readNetwork(handle golibvirt.Network, flags uint32) (network, error) {
	text, err := c.NetworkGetXMLDesc(handle, flags)
	if err != nil {
		return network{}, err
	}
	n, err := parseNetwork(text)
	n.handle = handle
	return n, err
}

// parseNetwork reads the subnet and the reservations of a network.
func parseNetwork(text string) (network, error) {
	var doc libvirtxml.Network
	if err := doc.Unmarshal(text); err != nil {
		return network{}, fmt.Errorf("cannot read network: %w", err)
	}
	n := network{reservations: map[string]netip.Addr{}}
	for _, ip := range doc.IPs {
		subnet, ok := subnetOf(ip)
		if !ok {
			continue
		}
		n.subnet = subnet
		if ip.DHCP == nil {
			continue
		}
		for _, host := range ip.DHCP.Hosts {
			if address, err := netip.ParseAddr(host.IP); err == nil {
				n.reservations[strings.ToLower(host.MAC)] = address
			}
		}
	}
	return n, nil
}

// subnetOf is the IPv4 subnet that an <ip> element gives a network.
func subnetOf(ip libvirtxml.NetworkIP) (netip.Prefix, bool) {
	address, err := netip.ParseAddr(ip.Address)
	if err != nil || !address.Is4() {
		return netip.Prefix{}, false
	}
	bits := int(ip.Prefix)
	if mask, err := netip.ParseAddr(ip.Netmask); err == nil && mask.Is4() {
		bits = 0
		for _, b := range mask.As4() {
			for ; b != 0; b <<= 1 {
				bits++
			}
		}
	}
	return netip.PrefixFrom(address, bits).Masked(), bits > 0 && bits < 31
}

// networkXML renders the owner's network (https://libvirt.org/formatnetwork.html). Its DHCP range is the whole subnet:
// dnsmasq gives nobody else an address that is reserved, and it grants no more leases than the range has addresses.
func networkXML(o owner, subnet netip.Prefix) (string, error) {
	name, bridge, uuid := o.network()
	first, last := ends(subnet)
	doc := libvirtxml.Network{
		Name: name, UUID: uuidString(uuid),
		Forward: &libvirtxml.NetworkForward{Mode: "nat"},
		Bridge:  &libvirtxml.NetworkBridge{Name: bridge, STP: "off", Delay: "0"},
		IPs: []libvirtxml.NetworkIP{{
			Address: first.String(), Prefix: uint(subnet.Bits()),
			DHCP: &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{Start: first.Next().String(), End: last.String()}}},
		}},
	}
	return doc.Marshal()
}

// ends are the first and the last address that a subnet has for hosts.
func ends(subnet netip.Prefix) (first, last netip.Addr) {
	bytes := subnet.Masked().Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	return subnet.Masked().Addr().Next(), netip.AddrFrom4(bytes).Prev()
}

// subnetTries is how many subnets are tried when others have them already.
const subnetTries = 16

// ensureNetwork finds the owner's network or makes it, and starts it.
func (c *client) ensureNetwork(ctx context.Context, p *Provider, o owner) (network, error) {
	for try := 0; ; {
		found, there, err := c.ownNetwork(o)
		if err == nil && !there {
			if found, try, err = c.defineNetwork(p, o, try); err == nil {
				err = p.step("network")
			}
		}
		if err != nil || found.active {
			return found, err
		}
		err = c.NetworkCreate(found.handle)
		switch {
		case err == nil:
			p.log.InfoContext(ctx, "network started", "network", found.handle.Name, "subnet", found.subnet)
		case says(err, "network is already active"):
		case says(err, "already in use by interface") && p.config.Network.Subnet != "":
			return found, fmt.Errorf("subnet %s is taken at the hypervisor, set `network.subnet` to another: %w: %w",
				found.subnet, err, providers.ErrConflict)
		case says(err, "already in use by interface") && len(found.reservations) == 0 && try < subnetTries:
			err = ignoreGone(c.NetworkUndefine(found.handle))
			try++
		}
		if err != nil && !says(err, "network is already active") {
			return found, fmt.Errorf("network %s: %w", found.handle.Name, err)
		}
	}
}

// defineNetwork defines the owner's network in the first subnet, counted from the nth choice, that no other network has.
func (c *client) defineNetwork(p *Provider, o owner, nth int) (network, int, error) {
	var taken []netip.Prefix
	handles, _, err := c.ConnectListAllNetworks(1, 0)
	for _, handle := range handles {
		if other, readErr := c.readNetwork(handle, 0); readErr == nil && other.subnet.IsValid() {
			taken = append(taken, other.subnet)
		}
	}
	subnet, nth, chooseErr := p.chooseSubnet(o, nth, taken)
	if err == nil {
		err = chooseErr
	}
	if err != nil {
		return network{}, nth, err
	}
	text, err := networkXML(o, subnet)
	if err != nil {
		return network{}, nth, err
	}
	handle, err := c.NetworkDefineXML(text)
	if err == nil {
		err = c.NetworkSetAutostart(handle, 1)
	}
	return network{handle: handle, subnet: subnet, reservations: map[string]netip.Addr{}}, nth, err
}

// chooseSubnet is the configured subnet, else the first choice from the nth on that overlaps with no other network.
func (p *Provider) chooseSubnet(o owner, nth int, taken []netip.Prefix) (netip.Prefix, int, error) {
	if p.config.Network.Subnet != "" {
		subnet, err := parseSubnet(p.config.Network.Subnet)
		return subnet, nth, err
	}
	for ; nth < subnetCount; nth++ {
		subnet := o.subnet(nth)
		if !slices.ContainsFunc(taken, subnet.Overlaps) {
			return subnet, nth, nil
		}
	}
	return netip.Prefix{}, nth, fmt.Errorf("every subnet in 10.64.0.0/12 is taken, set `network.subnet`: %w", providers.ErrConflict)
}

// reserve gives a host an address: the one that its MAC address has already, else one that nobody has. The daemon
// refuses a second reservation of an address, so that of two processes one chooses again.
func (c *client) reserve(ctx context.Context, p *Provider, o owner, host, mac string) (network, netip.Addr, error) {
	unlock, err := p.shared.Lock(ctx, "network "+o.cluster)
	if err != nil {
		return network{}, netip.Addr{}, err
	}
	defer unlock()
	for {
		n, err := c.ensureNetwork(ctx, p, o)
		if err != nil {
			return n, netip.Addr{}, err
		}
		address, has := n.reservations[mac]
		if !has {
			address, err = c.freeAddress(n, o, host, mac)
		}
		if err == nil {
			err = c.updateReservation(n, golibvirt.NetworkUpdateCommandAddLast, mac, address)
		}
		if !says(err, "existing dhcp host entry") {
			return n, address, err
		}
	}
}

// freeAddress chooses an address that is neither reserved nor leased to somebody else: dnsmasq does not give a host an
// address, reserved or not, that somebody's lease still has.
func (c *client) freeAddress(n network, o owner, host, mac string) (netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, address := range n.reservations {
		taken[address] = true
	}
	leases, _, err := c.NetworkGetDhcpLeases(n.handle, nil, 1, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, lease := range leases {
		address, err := netip.ParseAddr(lease.Ipaddr)
		if err == nil && !(len(lease.Mac) == 1 && strings.EqualFold(lease.Mac[0], mac)) {
			taken[address] = true
		}
	}
	address, ok := addressOf(n.subnet, o, host, func(a netip.Addr) bool { return taken[a] })
	if !ok {
		return address, fmt.Errorf("every address of network %s (%s) is taken, set `network.subnet` to a larger one: %w",
			n.handle.Name, n.subnet, providers.ErrQuota)
	}
	return address, nil
}

// updateReservation adds or deletes a reservation where it is not yet so: in the network that runs and in its
// definition, which differ after a crash between the two.
func (c *client) updateReservation(n network, command golibvirt.NetworkUpdateCommand, mac string, address netip.Addr) error {
	text := fmt.Sprintf("<host mac='%s' ip='%s'/>", mac, address)
	for _, place := range []struct {
		xml    uint32
		update golibvirt.NetworkUpdateFlags
	}{{0, golibvirt.NetworkUpdateAffectLive}, {inactiveXML, golibvirt.NetworkUpdateAffectConfig}} {
		if place.update == golibvirt.NetworkUpdateAffectLive && !n.active {
			continue
		}
		now, err := c.readNetwork(n.handle, place.xml)
		if err != nil {
			return err
		}
		_, has := now.reservations[mac]
		if has == (command != golibvirt.NetworkUpdateCommandDelete) {
			continue
		}
		if err := c.NetworkUpdateCompat(n.handle, command, golibvirt.NetworkSectionIPDhcpHost, -1, text, place.update); err != nil {
			return err
		}
	}
	return nil
}

// release takes a host's reservation back.
func (c *client) release(ctx context.Context, p *Provider, o owner, mac string) error {
	unlock, err := p.shared.Lock(ctx, "network "+o.cluster)
	if err != nil {
		return err
	}
	defer unlock()
	n, there, err := c.ownNetwork(o)
	if err != nil || !there {
		return err
	}
	configured, err := c.readNetwork(n.handle, inactiveXML)
	if err != nil {
		return ignoreGone(err)
	}
	for _, found := range []network{n, configured} {
		if address, has := found.reservations[mac]; has {
			return ignoreGone(c.updateReservation(n, golibvirt.NetworkUpdateCommandDelete, mac, address))
		}
	}
	return nil
}

// removeNetwork removes the owner's network.
func (c *client) removeNetwork(o owner) error {
	n, there, err := c.ownNetwork(o)
	if err != nil || !there {
		return err
	}
	if n.active {
		if err := c.NetworkDestroy(n.handle); err != nil && !gone(err) && !says(err, "is not active") {
			return err
		}
	}
	return ignoreGone(c.NetworkUndefine(n.handle))
}
