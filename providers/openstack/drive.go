package openstack

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gophercloud/gophercloud/v2/openstack/baremetal/v1/nodes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/musterhq/muster/providers"
)

// nodeImage is what a node's instance_info says of its image (https://docs.openstack.org/ironic/latest/user/deploy.html).
func (p *Provider) nodeImage(ctx context.Context, s *session, settings Settings) (map[string]any, error) {
	info := map[string]any{}
	if settings.RootGB > 0 {
		info["root_gb"] = settings.RootGB
	}
	if strings.Contains(settings.Image, "://") {
		info["image_source"], info["image_checksum"] = settings.Image, settings.Checksum
		info["image_os_hash_algo"], info["image_os_hash_value"] = "sha256", settings.Checksum
		return info, nil
	}
	image, err := p.findImage(ctx, s, settings.Image)
	if err == nil && image.inactive {
		err = fmt.Errorf("image %s is not active, so nothing can boot from it: %w", settings.Image, providers.ErrInvalid)
	}
	info["image_source"] = image.id
	return info, err
}

// configDrive is what a node reads of who it is. Ironic makes the disk. The ports are read again, since Ironic gives them
// the node's hardware addresses when it connects them.
func (s *session) configDrive(
	ctx context.Context, o owner, req providers.CreateRequest, settings Settings,
) (nodes.ConfigDrive, error) {
	if !utf8.Valid(req.UserData) {
		return nodes.ConfigDrive{}, fmt.Errorf("the bare-metal service takes user-data as text, and this is not: %w",
			providers.ErrInvalid)
	}
	held, err := s.portsOf(ctx, o, portName(req.Identity))
	if err != nil {
		return nodes.ConfigDrive{}, err
	}
	var of []string
	for _, port := range held {
		for _, fixed := range port.FixedIPs {
			if !slices.Contains(of, fixed.SubnetID) {
				of = append(of, fixed.SubnetID)
			}
		}
	}
	known := map[string]subnets.Subnet{}
	for _, id := range of {
		subnet, err := subnets.Get(ctx, s.network, id).Extract()
		if err != nil {
			return nodes.ConfigDrive{}, classified(ctx, err)
		}
		known[id] = *subnet
	}
	metadata := serverMetadata(o, req.Identity, settings.Metadata)
	return nodes.ConfigDrive{
		MetaData:    map[string]any{"uuid": uuidOf(req.Identity), "hostname": req.Host, "name": req.Host, "meta": metadata},
		NetworkData: networkData(held, known),
		UserData:    string(req.UserData),
	}, nil
}

// uuidOf writes an identity's ID as a UUID.
func uuidOf(id providers.Identity) string {
	text := id.ID()
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

// networkData is network_data.json (https://docs.openstack.org/nova/latest/user/metadata.html): a node has its addresses
// of it, and not of DHCP.
func networkData(held []ports.Port, known map[string]subnets.Subnet) map[string]any {
	links, networks, services := []any{}, []any{}, []any{}
	seen := map[string]bool{}
	for i, port := range held {
		link := fmt.Sprintf("interface%d", i)
		links = append(links, map[string]any{"id": link, "vif_id": port.ID, "type": "phy", "ethernet_mac_address": port.MACAddress})
		for _, fixed := range port.FixedIPs {
			subnet := known[fixed.SubnetID]
			networks = append(networks, networkOf(fmt.Sprintf("network%d", len(networks)), link, port, fixed, subnet))
			for _, server := range subnet.DNSNameservers {
				if !seen[server] {
					services = append(services, map[string]any{"type": "dns", "address": server})
				}
				seen[server] = true
			}
		}
	}
	return map[string]any{"links": links, "networks": networks, "services": services}
}

func networkOf(id, link string, port ports.Port, fixed ports.IP, subnet subnets.Subnet) map[string]any {
	kind, all := "ipv4", "0.0.0.0"
	if subnet.IPVersion == 6 {
		kind, all = "ipv6", "::"
	}
	network := map[string]any{
		"id": id, "type": kind, "link": link, "network_id": port.NetworkID,
		"ip_address": fixed.IPAddress, "netmask": netmask(subnet.CIDR),
	}
	routes := []any{}
	if subnet.GatewayIP != "" {
		routes = append(routes, map[string]any{"network": all, "netmask": all, "gateway": subnet.GatewayIP})
	}
	for _, route := range subnet.HostRoutes {
		to, err := netip.ParsePrefix(route.DestinationCIDR)
		if err != nil {
			continue
		}
		routes = append(routes, map[string]any{
			"network": to.Addr().String(), "netmask": netmask(route.DestinationCIDR), "gateway": route.NextHop,
		})
	}
	network["routes"] = routes
	return network
}

// netmask writes the mask of a subnet as an address.
func netmask(cidr string) string {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return ""
	}
	mask := make([]byte, prefix.Addr().BitLen()/8)
	for i := range prefix.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(mask)
	return addr.String()
}
