package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/musterhq/muster/providers"
)

// server is what is read of a server.
type server struct {
	ID        string                     `json:"id"`
	Status    string                     `json:"status"`
	Task      string                     `json:"OS-EXT-STS:task_state"`
	Created   time.Time                  `json:"created"`
	Metadata  map[string]string          `json:"metadata"`
	Addresses map[string][]serverAddress `json:"addresses"`
	Volumes   []serverVolume             `json:"os-extended-volumes:volumes_attached"`
}

type serverAddress struct {
	Addr string `json:"addr"`
	Type string `json:"OS-EXT-IPS:type"` // fixed or floating
}

type serverVolume struct {
	ID      string `json:"id"`
	Deleted bool   `json:"delete_on_termination"`
}

// The states of Nova's servers that are spoken of (https://docs.openstack.org/api-guide/compute/server_concepts.html).
const (
	statusActive           = "ACTIVE"
	statusBuild            = "BUILD"
	statusDeleted          = "DELETED"
	statusError            = "ERROR"
	statusPaused           = "PAUSED"
	statusShelved          = "SHELVED"
	statusShelvedOffloaded = "SHELVED_OFFLOADED"
	statusShutoff          = "SHUTOFF"
	statusSoftDeleted      = "SOFT_DELETED"
	statusSuspended        = "SUSPENDED"

	taskDeleting    = "deleting"
	taskPoweringOff = "powering-off"
)

// gone tells whether the server is not there any more.
func (s server) gone() bool { return s.Status == statusDeleted || s.Status == statusSoftDeleted }

// ending tells whether the server is being deleted.
func (s server) ending() bool { return s.Task == taskDeleting }

// state is what the server's status means. One that is being deleted shall be deleted again, in case nobody waits for it.
func (s server) state() providers.State {
	switch {
	case s.ending(), s.Status == statusError:
		return providers.StateFailed
	}
	switch s.Status {
	case statusBuild:
		return providers.StatePending
	case statusShutoff, statusPaused, statusSuspended, statusShelved, statusShelvedOffloaded:
		return providers.StateStopped
	default: // reboots, rebuilds, resizes, migrations, rescue, password; and UNKNOWN, of which nothing is known
		return providers.StateRunning
	}
}

// reachable are the server's addresses: floating ones first, then IPv4, in the order of the networks' names.
func (s server) reachable() []netip.Addr {
	type at struct {
		addr     netip.Addr
		floating bool
	}
	var all []at
	for _, network := range sorted(s.Addresses) {
		for _, each := range s.Addresses[network] {
			if addr, err := netip.ParseAddr(each.Addr); err == nil && addr.IsGlobalUnicast() {
				all = append(all, at{addr, each.Type == "floating"})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b at) int {
		switch {
		case a.floating != b.floating && a.floating:
			return -1
		case a.floating != b.floating:
			return 1
		}
		return cmp.Compare(a.addr.BitLen(), b.addr.BitLen())
	})
	var addresses []netip.Addr
	for _, each := range all {
		if !slices.Contains(addresses, each.addr) {
			addresses = append(addresses, each.addr)
		}
	}
	return addresses
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// instance is the server as providers.Provider shows it.
func (s server) instance(id providers.Identity) providers.Instance {
	return providers.Instance{Identity: id, ID: s.ID, State: s.state(), Addresses: s.reachable(), Created: s.Created}
}

// older orders servers of one identity by which of them is kept: one that works before one that does not, then the first.
func older(a, b server) int {
	failed := func(s server) int {
		if s.state() == providers.StateFailed {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(failed(a), failed(b)), a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// serversOf lists the servers of an owner that have a tag.
func (s *session) serversOf(ctx context.Context, o owner, tag string) ([]server, error) {
	pages, err := servers.List(s.compute, servers.ListOpts{Tags: tag}).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	var list []server
	if err := servers.ExtractServersInto(pages, &list); err != nil {
		return nil, classified(ctx, err)
	}
	return slices.DeleteFunc(list, func(each server) bool {
		_, ours := o.identity(each.Metadata)
		return !ours || each.gone()
	}), nil
}

// server reads one server.
func (s *session) server(ctx context.Context, id string) (found server, there bool, err error) {
	err = classified(ctx, servers.Get(ctx, s.compute, id).ExtractInto(&found))
	return found, err == nil && !found.gone(), ignoreGone(err)
}

// serverOf reads one server of a host. It finds nothing when it is gone or is not the host's.
func (s *session) serverOf(ctx context.Context, o owner, id providers.Identity, serverID string) (server, bool, error) {
	found, there, err := s.server(ctx, serverID)
	actual, ours := o.identity(found.Metadata)
	return found, there && ours && actual == id, err
}

// deleteServer asks for a server to be deleted.
func (s *session) deleteServer(ctx context.Context, id string) error {
	return ignoreGone(classified(ctx, servers.Delete(ctx, s.compute, id).ExtractErr()))
}
