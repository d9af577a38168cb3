package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Where an agent keeps things, below the host's root directory.
const (
	socketPath   = "/run/muster.sock"
	unitsPath    = "/var/lib/muster/units"
	filesPath    = "/var/lib/muster/files"
	schedulePath = "/var/lib/muster/schedule.json"
	startedPath  = "/var/lib/muster/started.json"
	etcdPath     = "/var/lib/muster/etcd"
	scratchPath  = "/var/lib/muster/scratch"
)

// agent is a member at work.
type agent struct {
	host
	self    roster.Host
	id      join.Identity
	storage join.Storage
	facts   roster.Facts
	fleet   join.Fleet
	lost    bool // of a voter: its etcd was a member, and its data is gone
	rest    bool // a voter's etcd is not started this time, see openCouncil
	log     *slog.Logger

	source   *pki.Source // the host's certificate
	creds    *credentials
	members  *members
	runtime  runtime.Runtime
	unitEnv  []string    // for every unit
	store    *store.Etcd // as root on voters, else as the host
	apps     *store.Etcd // as the host, for its programs
	prober   *prober
	council  *council // nil on hosts that do not vote
	seating  *seating
	recovery *recovery
	closers  []func()
	managers *Managers
	updater  *updater
}

// assemble opens everything that the managers need, from the inside out.
func assemble(ctx context.Context, h host, storage join.Storage, id join.Identity, facts roster.Facts, rest bool, log *slog.Logger,
) (_ *agent, err error) {
	self, ok := id.Roster.ByID(h.HostID)
	if !ok {
		return nil, errors.New("this host is not in the roster that it received when it joined; create it again with `muster up`")
	}
	self.Voter = id.Voter != nil // what it was told last; a.seating learns of changes
	a := &agent{host: h, self: self, id: id, storage: storage, facts: facts, rest: rest, log: log}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.fleet, err = readFleetSettings(filepath.Join(a.root, join.FleetPath)); err != nil {
		log.Error("fleet's API has its defaults", "err", err) // a host is worth more than a setting
	}
	for _, open := range []func(context.Context) error{a.openCredentials, a.openRuntime, a.openCouncil, a.openStore} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	a.manage()
	return a, nil
}

// close gives back in reverse order what was opened.
func (a *agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
}

func (a *agent) onClose(what string, f func() error) {
	a.closers = append(a.closers, func() {
		if err := f(); err != nil {
			a.log.Warn("cannot close "+what, "err", err)
		}
	})
}

// openCredentials has a voter's certificates renewed before they are used; another host's may have to wait for a voter.
func (a *agent) openCredentials(ctx context.Context) (err error) {
	a.members = &members{
		self: a.self.ID, list: a.id.Roster, save: a.storage.SaveRoster, changed: a.rosterChanged, log: a.log,
	}
	a.creds = &credentials{
		storage: a.storage, id: a.id, self: a.self, cluster: a.ClusterID, voters: a.members.voters, now: time.Now, log: a.log,
	}
	if a.id.Voter != nil {
		if _, err := a.creds.renew(ctx); err != nil {
			return err
		}
	}
	a.source, err = pki.NewSource(a.storage.CertFile(), a.storage.KeyFile())
	return err
}

// openStore begins to connect to the voters. A voter does so with its control certificate, and to itself first.
func (a *agent) openStore(ctx context.Context) error {
	voters := a.members.voters()
	source, prefer, probe := a.source, "", hostProbe(a.Lease())
	if a.council != nil {
		source, prefer, probe = a.council.source, a.self.ClientURL(), 0
	}
	st, err := store.DialEtcd(context.WithoutCancel(ctx), store.EtcdConfig{
		Endpoints: clientURLs(voters), Prefer: prefer, Probe: probe, Log: a.log,
		TLS: pki.ClientConfig(a.id.Root, source, pki.VoterName),
	})
	if err != nil {
		return err
	}
	a.store, a.members.store, a.apps = st, st, st
	a.onClose("the store", st.Close)
	if a.council != nil {
		if err := a.openApps(ctx, voters); err != nil {
			return err
		}
	}
	a.prober = newProber(pki.ClientConfig(a.id.Root, a.source, pki.VoterName))
	a.closers = append(a.closers, a.prober.close)
	return nil
}

// hostProbe is store.EtcdConfig.Probe of hosts that do not vote: longer than it is between two signs of life of their
// sessions, which spares voters with many hosts most of their work, and short enough for hosts whose lease is long.
func hostProbe(lease time.Duration) time.Duration {
	const longest = 5 * time.Second
	return min(control.SessionTTL(lease)/2, longest)
}

func (a *agent) rosterChanged(voters roster.Roster) {
	a.seating.news.raise()
	a.store.SetEndpoints(clientURLs(voters))
	a.apps.SetEndpoints(clientURLs(voters))
	if a.council != nil {
		a.council.admin.SetEndpoints(clientURLs(voters))
	}
}

// manage makes the managers of every host.
func (a *agent) manage() {
	a.managers = &Managers{
		Store: a.store, Runtime: a.runtime, HostID: a.self.ID, Facts: a.facts, Lease: a.Lease(), Root: a.root, Log: a.log,
		Now: time.Now, Clock: guard.Now,
		processes:  a.processes(a.unitEnv),
		containers: containers{systemd: a.runtimeName() == runtimeSystemd, find: exec.LookPath},
	}
	a.managers.assemble()
	a.seating, a.recovery = newSeating(a), newRecovery(a)
}

// run does everything until ctx ends or something fails that another start may mend.
func (a *agent) run(ctx context.Context, l net.Listener) error {
	fleet := a.fleetAPI()
	keys := a.openKeys()
	server := a.server(fleet, keys.http)
	config := pki.ServerConfig(a.id.Root, a.source, tls.VerifyClientCertIfGiven)
	config.NextProtos = []string{"http/1.1"}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return api.Serve(ctx, tls.NewListener(l, config), server.Handler(), a.log) })
	g.Go(func() error { return a.serveSocket(ctx, server) })
	g.Go(func() error { return a.serveFleet(ctx, fleet) })
	g.Go(func() error { return a.serveKeys(ctx, keys) })
	for _, manager := range []func(context.Context) error{a.creds.run, a.members.run, a.managers.run, a.seating.run, a.recovery.run} {
		g.Go(func() error { return manager(ctx) })
	}
	g.Go(func() error { return a.updater.follow(ctx, a) })
	if a.council != nil {
		g.Go(func() error { return a.council.run(ctx, a) })
	}
	a.log.Info("at work", "address", a.self.APIAddress(), "voter", a.council != nil)
	return g.Wait()
}

// serveSocket serves processes of this host. It can be done without where the path is too long for a socket.
func (a *agent) serveSocket(ctx context.Context, server *api.Server) error {
	socket, err := listenSocket(ctx, filepath.Join(a.root, socketPath), 0o666) // of any user: it is for reading only
	if err != nil {
		a.log.Warn("units of this host cannot ask for the status", "err", err)
		return nil
	}
	return api.Serve(ctx, socket, server.SocketHandler(), a.log)
}

// server is the API over this agent.
func (a *agent) server(fleet, keys http.Handler) *api.Server {
	s := &service{
		store:   a.store,
		self:    api.Health{Host: a.self.Name, ID: a.self.ID, Version: a.facts.Version, Voter: a.council != nil},
		cluster: a.ClusterName,
		voters:  a.members.voters,
		probe:   a.prober.probe,
		alive:   a.managers.presence.alive.Load,
		logs:    newLogReader(a.runtime, a.self.Name),
		reloads: reloader{runtime: a.runtime, host: a.self.Name},
		log:     a.log,
	}
	server := &api.Server{
		Recovery: a.recovery, ClusterID: a.ClusterID, Fleet: s, FleetAPI: fleet, Keys: keys, HostsCommand: a.fleet.HostsCommand, Log: a.log,
	}
	if a.council != nil {
		s.logs.control = pki.ClientConfig(a.id.Root, a.council.source, "")
		s.reloads.control = s.logs.control
		admin := a.council.changes(a)
		server.Admin, server.Join, server.FleetLock = admin, join.Handler(admin, a.log), a.fleetLock
	}
	return server
}
