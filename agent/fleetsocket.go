package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetapi"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
)

// fleetSocketPath is where fleet's API is, below the host's root directory: where fleetctl looks for it.
const fleetSocketPath = "/var/run/fleet.sock"

// fleetGroup may use fleet's API, where there is such a group; else the user of musterd alone may.
const fleetGroup = "fleet"

// readFleetSettings reads a file that need not be there.
func readFleetSettings(path string) (join.Fleet, error) {
	s, err := readSettings[join.Fleet](path)
	if err == nil && s.Listen != "" {
		if _, _, err = s.Address(); err != nil {
			err = fmt.Errorf("%s: listen: %w", path, err)
		}
	}
	if err != nil {
		return join.Fleet{}, fmt.Errorf("cannot use the settings of fleet's API: %w", err)
	}
	return s, nil
}

// fleetAddress is where a host listens for fleet's API over TCP. own is the address of a host that shares its machine with
// others and has one alone, on which it listens for everything; else the zero Addr.
func fleetAddress(s join.Fleet, own netip.Addr) (string, error) {
	host, port, err := s.Address()
	switch {
	case err != nil:
		return "", err
	case own.IsLoopback() && (!host.IsValid() || host.IsUnspecified()):
		host = own
	case !host.IsValid():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(host, uint16(port)).String(), nil
}

// fleetAPI is fleet's API over this agent.
func (a *agent) fleetAPI() *fleetapi.Server {
	return fleetapi.New(fleetapi.Config{Store: a.store, Changes: a.changes(), Version: a.facts.Version, Log: a.log})
}

// serveFleet serves fleet's API on its socket and, if wanted, on TCP. A host can be without.
func (a *agent) serveFleet(ctx context.Context, h *fleetapi.Server) error {
	a.offerFleetctl()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.Run(ctx) })
	serve := func(l net.Listener, err error) {
		if err != nil {
			a.log.Warn("clients of fleet's API cannot connect", "err", err)
			return
		}
		g.Go(func() error { return api.Serve(ctx, l, h, a.log) })
	}
	serve(listenFleetSocket(ctx, filepath.Join(a.root, fleetSocketPath)))
	if a.fleet.Listen != "" {
		serve(a.listenFleetTCP(ctx))
	}
	return g.Wait()
}

// listenFleetSocket makes the socket of fleet's API, which commands the cluster.
func listenFleetSocket(ctx context.Context, path string) (net.Listener, error) {
	l, err := listenSocket(ctx, path, 0o660)
	if err != nil {
		return nil, err
	}
	group, err := user.LookupGroup(fleetGroup)
	if err != nil {
		return l, nil
	}
	gid, err := strconv.Atoi(group.Gid)
	if err == nil {
		err = os.Chown(path, -1, gid)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) { // who is not root has no say in it
		_ = l.Close()
		return nil, fmt.Errorf("cannot give fleet's socket to the group %s: %w", fleetGroup, err)
	}
	return l, nil
}

func (a *agent) listenFleetTCP(ctx context.Context) (net.Listener, error) {
	where, err := fleetAddress(a.fleet, a.listen)
	if err != nil {
		return nil, err
	}
	l, err := listen(ctx, where)
	if err != nil {
		return nil, err
	}
	if address, ok := l.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		a.log.Warn("fleet's API asks nobody who they are: who reaches this address commands the cluster", "address", l.Addr())
	}
	return l, nil
}

// changes is how this host changes the cluster: by itself if it votes.
func (a *agent) changes() fleetapi.Changes {
	if a.council != nil {
		return a.council.changes(a)
	}
	return voters{a}
}

// voters changes the cluster for a host that does not vote, in the host's own name: voters take that if their settings
// say so (join.Fleet.HostsCommand).
type voters struct{ *agent }

func (v voters) ask(call func(*api.Client) error) error {
	c := api.NewClient(endpoints(v.members.voters()), pki.ClientConfig(v.id.Root, v.source, pki.VoterName))
	defer c.Close()
	return call(c)
}

// PutUnit is fleetapi.Changes.
func (v voters) PutUnit(ctx context.Context, u api.Unit) (o api.Outcome, err error) {
	err = v.ask(func(c *api.Client) error { o, err = c.PutUnit(ctx, u); return err })
	return o, err
}

// DeleteUnit is fleetapi.Changes.
func (v voters) DeleteUnit(ctx context.Context, name string) error {
	return v.ask(func(c *api.Client) error { return c.DeleteUnit(ctx, name) })
}

// PatchLabels is fleetapi.Changes.
func (v voters) PatchLabels(ctx context.Context, id string, labels map[string]*string) (o api.Outcome, err error) {
	err = v.ask(func(c *api.Client) error { o, err = c.PatchLabels(ctx, id, labels); return err })
	return o, err
}
