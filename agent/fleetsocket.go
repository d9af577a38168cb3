package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetapi"
	"github.com/musterhq/muster/cluster/pki"
)

// Where fleet's API is, and its settings, below the host's root directory. The socket's path is the one that fleetctl
// looks for.
const (
	fleetSocketPath   = "/var/run/fleet.sock"
	fleetSettingsPath = "/etc/muster/fleet.json"
)

// fleetGroup may use fleet's API, where there is such a group; else the user of musterd alone may.
const fleetGroup = "fleet"

// fleetSettings are what a host's administrator may say about fleet's API.
type fleetSettings struct {
	// Listen is host:port on which the API is served over plain TCP too, to anybody who can reach it. Without a host it
	// is this host alone. "" for not at all.
	Listen string `json:"listen,omitempty"`
	// HostsCommand has a voter take from hosts what fleet took from every machine: changes of units and metadata.
	HostsCommand bool `json:"hosts_command,omitempty"`
}

// readFleetSettings reads a file that need not be there.
func readFleetSettings(path string) (fleetSettings, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fleetSettings{}, nil
	}
	if err != nil {
		return fleetSettings{}, fmt.Errorf("cannot read the settings of fleet's API: %w", err)
	}
	var s fleetSettings
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return fleetSettings{}, fmt.Errorf("cannot use the settings of fleet's API in %s: %w", path, err)
	}
	if s.Listen == "" {
		return s, nil
	}
	host, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fleetSettings{}, fmt.Errorf("cannot use the settings of fleet's API in %s: listen is not host:port: %w", path, err)
	}
	if host == "" {
		s.Listen = net.JoinHostPort(netip.AddrFrom4([4]byte{127, 0, 0, 1}).String(), port)
	}
	return s, nil
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
	l, err := listen(ctx, a.fleet.Listen)
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
// say so (fleetSettings.HostsCommand).
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
