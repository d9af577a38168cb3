// Package roster describes the hosts that belong to a cluster: who they are, where they listen, and whether they vote.
//
// A roster is what the operator decides and the signer writes. What a host says of itself (Facts) stands apart, because
// only the first may be trusted by the scheduler and the signer.
package roster

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// The standard ports of a host. A provider whose hosts share one address gives others (see Ports).
const (
	DefaultAPIPort    = 7400 // agent's API and join, TLS 1.3
	DefaultClientPort = 2379 // etcd clients, mTLS, voters only
	DefaultPeerPort   = 2380 // etcd peers, mTLS, voters only
)

// Ports are the TCP ports on which a host listens.
type Ports struct {
	API    int `json:"api"`
	Client int `json:"client"`
	Peer   int `json:"peer"`
}

// DefaultPorts returns the standard ports.
func DefaultPorts() Ports {
	return Ports{API: DefaultAPIPort, Client: DefaultClientPort, Peer: DefaultPeerPort}
}

// Host is one member of the cluster.
type Host struct {
	ID         string            `json:"id"`         // 32 lower-case hexadecimal digits, a new one every generation
	Name       string            `json:"name"`       // unique in the cluster, a DNS label
	Generation int               `json:"generation"` // counts from 1; a replaced host has the next one
	Provider   string            `json:"provider"`   // name in the cluster file, not the driver
	Address    string            `json:"address"`    // IP address other hosts reach it at
	Ports      Ports             `json:"ports"`
	Voter      bool              `json:"voter"`
	Labels     map[string]string `json:"labels,omitempty"`
	// RunLabels are the keys of those Labels that were set while the host ran, sorted. The others are the cluster file's.
	RunLabels []string `json:"run_labels,omitempty"`
	// Appointed says that the host shall become a Voter: it is one as soon as it has caught up with the others.
	Appointed bool `json:"appointed,omitempty"`
	// Barred says that it never shall, by the cluster file.
	Barred bool `json:"barred,omitempty"`
}

var (
	idPattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// ValidID reports whether s has the form of a host ID.
func ValidID(s string) bool { return idPattern.MatchString(s) }

// ValidName reports whether s may be a host's name: a DNS label in lower case (RFC 1123 section 2.1) that is not one of
// the names under which the cluster itself is known (join and voter, see cluster/pki).
func ValidName(s string) bool {
	return namePattern.MatchString(s) && s != "join" && s != "voter"
}

// Validate checks what certificates, etcd and connections take from a host: ID, name, address and ports.
func (h Host) Validate() error {
	if !ValidID(h.ID) {
		return fmt.Errorf("host %q: ID %q is not 32 lower-case hexadecimal digits", h.Name, h.ID)
	}
	if !ValidName(h.Name) {
		return fmt.Errorf("host %q: the name is not a DNS label in lower case, or it is reserved (join, voter)", h.Name)
	}
	addr, err := netip.ParseAddr(h.Address)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return fmt.Errorf("host %q: address %q is not an IP address of one host", h.Name, h.Address)
	}
	for _, port := range []int{h.Ports.API, h.Ports.Client, h.Ports.Peer} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("host %q: port %d is not between 1 and 65535", h.Name, port)
		}
	}
	return nil
}

// OrDefault replaces each port that is zero with the standard one.
func (p Ports) OrDefault() Ports {
	d := DefaultPorts()
	if p.API != 0 {
		d.API = p.API
	}
	if p.Client != 0 {
		d.Client = p.Client
	}
	if p.Peer != 0 {
		d.Peer = p.Peer
	}
	return d
}

// APIAddress is host:port of the agent's API.
func (h Host) APIAddress() string { return net.JoinHostPort(h.Address, strconv.Itoa(h.Ports.API)) }

// ClientURL is where a voter serves etcd clients.
func (h Host) ClientURL() string { return h.url(h.Ports.Client) }

// PeerURL is where a voter serves etcd peers.
func (h Host) PeerURL() string { return h.url(h.Ports.Peer) }

func (h Host) url(port int) string {
	return fmt.Sprintf("https://%s", net.JoinHostPort(h.Address, strconv.Itoa(port)))
}

// Roster is every member of the cluster, sorted by name.
type Roster []Host

// Voters returns the members that embed an etcd server.
func (r Roster) Voters() Roster {
	var voters Roster
	for _, h := range r {
		if h.Voter {
			voters = append(voters, h)
		}
	}
	return voters
}

// ByName finds a member.
func (r Roster) ByName(name string) (Host, bool) {
	for _, h := range r {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// ByID finds a member.
func (r Roster) ByID(id string) (Host, bool) {
	for _, h := range r {
		if h.ID == id {
			return h, true
		}
	}
	return Host{}, false
}

// Facts are what a host says of itself when it joins and whenever it starts.
type Facts struct {
	Hostname     string   `json:"hostname"`
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	CPUs         int      `json:"cpus"`
	MemoryBytes  int64    `json:"memory_bytes"`
	BootID       string   `json:"boot_id"`
	Version      string   `json:"version"` // of musterd
	Addresses    []string `json:"addresses,omitempty"`
	Ports        Ports    `json:"ports"` // where it listens; zero means standard
}
