package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// clusterFleet is a running cluster as cluster/apply needs it, over the agents' API.
type clusterFleet struct{ client *api.Client }

// connectFleet makes a clusterFleet. It makes no call yet.
func connectFleet(root *x509.Certificate, operator pki.Pair, members roster.Roster) (apply.Fleet, error) {
	source, err := pki.NewStaticSource(operator)
	if err != nil {
		return nil, fmt.Errorf("cannot use the operator's certificate: %w", err)
	}
	return clusterFleet{api.NewClient(memberEndpoints(members), pki.ClientConfig(root, source, ""))}, nil
}

// Status asks for the members and their states.
func (f clusterFleet) Status(ctx context.Context) (apply.FleetStatus, error) {
	s, err := f.client.Status(ctx)
	if err != nil {
		return apply.FleetStatus{}, err
	}
	status := apply.FleetStatus{
		Formed: s.Voters.Leader != "",
		Hosts:  make([]apply.FleetHost, len(s.Hosts)),
		Voters: apply.FleetVoters{Total: s.Voters.Total, Healthy: s.Voters.Healthy},
	}
	for i, h := range s.Hosts {
		waits := slices.Contains(s.Voters.Unhealthy, h.ID)
		status.Hosts[i] = apply.FleetHost{State: h.State, VoterWaits: waits, Host: roster.Host{
			ID: h.ID, Name: h.Name, Generation: h.Generation, Provider: h.Provider, Address: h.Address, Ports: h.Ports,
			Voter: h.Voter, Labels: h.Labels, RunLabels: h.RunLabels, Appointed: h.Appointed, Barred: h.Barred,
		}}
	}
	return status, nil
}

// AddToken lets a host join.
func (f clusterFleet) AddToken(ctx context.Context, hash string, host roster.Host, ttl time.Duration) error {
	return f.client.AddToken(ctx, api.TokenRequest{Host: host, TTL: ttl, Hash: hash})
}

// Remove makes the cluster forget a host.
func (f clusterFleet) Remove(ctx context.Context, hostID string) error {
	return f.client.RemoveHost(ctx, hostID)
}

// Relabel gives a host the labels of the cluster file.
func (f clusterFleet) Relabel(ctx context.Context, hostID string, labels map[string]string) error {
	_, err := f.client.SetLabels(ctx, hostID, labels)
	return err
}

// Configure tells the voters the settings of the cluster file.
func (f clusterFleet) Configure(ctx context.Context, s apply.Settings) error {
	_, err := f.client.Configure(ctx, api.Settings{
		RebalancePercent: &s.Rebalance, Voters: &s.Voters, VoterGrace: &s.VoterGrace, Backups: &s.Backups, Barred: &s.Barred,
		Update: &s.Update.UpdateSettings,
	})
	if err == nil && s.Update.Max > 0 {
		err = f.client.OrderLock(ctx, store.UpdateGroup, api.LockMax, api.LockOrder{Max: s.Update.Max, Reason: "update.max of the cluster file"})
	}
	return err
}

// Seat says whether a host shall vote.
func (f clusterFleet) Seat(ctx context.Context, hostID string, votes bool) error {
	_, err := f.client.OrderSeat(ctx, hostID, votes)
	return err
}

// PutUnit submits a unit.
func (f clusterFleet) PutUnit(ctx context.Context, name, content, desired string) (changed bool, err error) {
	outcome, err := f.client.PutUnit(ctx, api.Unit{Name: name, Content: content, Desired: desired})
	return outcome != api.Unchanged, err
}
