package join

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// FleetPath is where a host has the settings of fleet's API, if there are any, below its root directory: from user-data, or
// by its administrator's hand.
const FleetPath = "/etc/muster/fleet.json"

// Fleet is what a host is told of fleet's API beside its unix socket. The zero value turns nothing on.
type Fleet struct {
	// Listen is host:port on which the API is served over plain TCP too, to anybody who can reach it: nobody is asked who
	// they are, and who they are commands the cluster. Without a host it is this host alone. "" for not at all.
	Listen string `json:"listen,omitempty"`
	// HostsCommand has a voter take from hosts what fleet took from every machine: changes of units and metadata. A host
	// that was broken into commands the cluster then.
	HostsCommand bool `json:"hosts_command,omitempty"`
}

// Address takes Listen apart. host is the zero Addr when none is given; a Listen of "" is not for it.
func (f Fleet) Address() (host netip.Addr, port int, err error) {
	name, number, err := net.SplitHostPort(f.Listen)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("`%s` is not host:port", f.Listen)
	}
	if port, err = strconv.Atoi(number); err != nil || port < 1 || port > 65535 {
		return netip.Addr{}, 0, fmt.Errorf("`%s` is no port", number)
	}
	if name == "" {
		return netip.Addr{}, port, nil
	}
	if host, err = netip.ParseAddr(name); err != nil {
		return netip.Addr{}, 0, fmt.Errorf("`%s` is no IP address", name)
	}
	return host, port, nil
}
