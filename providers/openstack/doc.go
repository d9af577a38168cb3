// Package openstack is the driver whose hosts are servers of an OpenStack cloud, virtual or bare metal, or nodes of its
// bare-metal service directly.
//
// The APIs have no client token and no unique names, so a host's identity is claimed with a port. A create makes a port
// that is named after the host and looks again: when it sees another such port, it takes its own away and waits for what
// the other one's maker does. Of two makers at least one sees the other's port, so at most one goes on, and it makes its
// server on that port. A claim whose maker is gone is taken over, after Config.Settle, by deleting the port if nobody
// changed it since (If-Match): a server that is still asked for with a deleted port is refused, or fails before it boots.
// So whatever crashes and whichever answer is lost, at most one server of an identity lives. A server is the last thing of
// a host to be made: a host that has one is whole. Its port is the last to go.
//
// Servers carry muster's tags as metadata, set by the call that makes them, and server tags by which they are listed.
// Ports, floating IPs and security groups say whose they are in name and description, server groups in their name, and
// volumes of hosts that are being destroyed in metadata. Nodes used directly are allocated under the identity's name,
// which the bare-metal service keeps unique.
//
// The package assumes that Neutron's lists show what was made before they were asked for, which holds where its API
// servers share one database; Nova's lists may lag. It knows nothing of what runs on the hosts.
package openstack
