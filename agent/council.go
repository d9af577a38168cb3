package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cluster/voter"
)

// council is what a voter has beyond other hosts: its member of etcd, and its credentials for the cluster's affairs.
type council struct {
	etcd   *voter.Voter
	admin  *voter.Control
	source *pki.Source // the control certificate
}

// openCouncil starts etcd on hosts that vote. A host whose etcd has failed or was sent away is of use all the same: it runs
// its units as a client of the other voters, and a.seating finds out what becomes of its vote.
func (a *agent) openCouncil(ctx context.Context) error {
	if a.id.Voter == nil {
		return a.leaveCouncil()
	}
	if a.rest {
		return nil
	}
	err := a.startCouncil(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Error("this host does not vote for now", "err", err)
		a.rest, a.lost = true, errors.Is(err, voter.ErrDataLost)
		return nil
	}
	return err
}

// hasData reports whether etcd has been started here.
func (a *agent) hasData() bool { return voter.HasData(filepath.Join(a.root, etcdPath)) }

// leaveCouncil removes what hosts have that voted once.
func (a *agent) leaveCouncil() error {
	if err := a.storage.DropVoter(); err != nil {
		return err
	}
	return voter.Remove(filepath.Join(a.root, etcdPath))
}

func (a *agent) startCouncil(ctx context.Context) error {
	if r := a.id.Voter.Restore; r != nil {
		if err := voter.FinishRestore(filepath.Join(a.root, etcdPath), r.ID); err != nil {
			return err
		}
	}
	source, err := pki.NewSource(a.storage.ControlFile(), a.storage.ControlFile())
	if err != nil {
		return err
	}
	cfg := voter.Config{
		Host: a.self, Dir: filepath.Join(a.root, etcdPath), Role: *a.id.Voter, Timing: voter.ForLease(a.Lease()), Log: a.log,
		Quota: a.quota,
		Relay: pki.ClientConfig(a.id.Root, source, pki.VoterName),
		Files: voter.Files{
			CA: a.storage.CAFile(), HostCert: a.storage.CertFile(), HostKey: a.storage.KeyFile(), Peer: a.storage.PeerFile(),
		},
	}
	// It outlives the managers, which take their leave through it.
	etcd, err := voter.Start(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, etcd.Close)
	admin, err := voter.NewControl(context.WithoutCancel(ctx), clientURLs(a.members.voters()),
		pki.ClientConfig(a.id.Root, source, pki.VoterName), a.log)
	if err != nil {
		return err
	}
	a.onClose("the connection to etcd", admin.Close)
	a.council = &council{etcd: etcd, admin: admin, source: source}
	a.log.Info("this host votes", "member", fmt.Sprintf("%x", etcd.MemberID())) // as etcd's own messages name it
	return nil
}

// run takes part in the leadership until ctx ends or etcd does.
func (c *council) run(ctx context.Context, a *agent) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.etcd.Done():
			a.log.Warn("this host does not vote for now", "err", voter.ErrStopped)
			return &roleChange{rest: true}
		}
	})
	g.Go(func() error { return c.leader(a).Run(ctx) })
	ails := func(err error) { a.managers.herald.ailing("backups", err) }
	keeper := &control.Keeper{Backups: c.backups(a), Root: a.root, Ails: ails, Log: a.log}
	g.Go(func() error { return keeper.Run(ctx) })
	caretaker := &control.Caretaker{Leads: c.etcd.Leads, Maintain: c.admin.Maintain, Log: a.log}
	g.Go(func() error { return caretaker.Run(ctx) })
	g.Go(func() error { return a.serveFleetLock(ctx) })
	return g.Wait()
}

func (c *council) leader(a *agent) *control.Leader {
	first := &control.Bootstrap{
		Store:   a.store,
		Cluster: store.Cluster{ID: a.ClusterID, Name: a.ClusterName, LeaseMillis: a.LeaseMillis},
		Roster:  a.id.Roster, Restore: a.id.Voter.Restore, Log: a.log,
	}
	scheduler := &control.Scheduler{Store: a.store, Log: a.log}
	guardian := &control.Guardian{Store: a.store, Ensure: c.admin.EnsureAuth, Log: a.log}
	rebalancer := &control.Rebalancer{Store: a.store, Log: a.log}
	registrar := &control.Registrar{Store: a.store, Step: c.admin.Step, Now: time.Now, Log: a.log}
	roller := &control.Roller{Store: a.store, Now: time.Now, Log: a.log}
	granter := &control.Granter{Store: a.store, Voters: c.voters, Now: time.Now, Log: a.log}
	steward := &control.Steward{Store: a.store, Now: time.Now, Log: a.log}
	janitor := &control.Janitor{Store: a.store, Now: time.Now, Log: a.log}
	return &control.Leader{
		Store: a.store, Candidate: a.self.Name, First: first.Run, Log: a.log,
		Duties: []control.Duty{guardian.Run, scheduler.Run, roller.Run, registrar.Run, janitor.Run, rebalancer.Run, granter.Run, steward.Run},
	}
}

// changes is what this voter can do for operators and for hosts that want to join.
func (c *council) changes(a *agent) *control.Admin {
	return &control.Admin{
		Backups: c.backups(a),
		Store:   a.store, Access: c.admin, Members: c.admin, Issuer: a.id.Issuer, Root: a.id.Root, Log: a.log, Now: time.Now,
		Lock: c.keeper(a),
	}
}

// backups makes backups from this voter.
func (c *council) backups(a *agent) *control.Backups {
	return &control.Backups{
		Store: a.store, Snapshots: c.admin, Scratch: filepath.Join(a.root, scratchPath), ClusterID: a.ClusterID,
		Host: a.self.Name, Version: a.facts.Version, Now: time.Now,
	}
}
