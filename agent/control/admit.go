package control

import (
	"context"
	"crypto"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Members changes who votes in etcd.
type Members interface {
	// Add makes room for a voter to come, as a learner, and returns what it needs to start, but for the issuer. It may be
	// repeated. It returns join.ErrNotForming while another change is under way or would cost quorum.
	Add(ctx context.Context, h roster.Host) (join.VoterRole, error)
	// Find looks for a host's member: member, that has started once, or reserved, that has not.
	Find(ctx context.Context, h roster.Host) (member, reserved bool, err error)
}

// Admit is join.Admitter over the store: the token is used up in the commit that writes the host into the roster, and
// the host can use the store before it is answered.
func (a *Admin) Admit(ctx context.Context, req join.Request, pub crypto.PublicKey, remote netip.Addr) (join.Reply, error) {
	var host roster.Host
	err := retry(func() (err error) {
		host, err = a.redeem(ctx, req, pub, remote)
		return err
	})
	if err != nil {
		return join.Reply{}, fmt.Errorf("cannot admit host %s: %w", req.Host, err)
	}
	reply, err := a.welcome(ctx, host, pub)
	if err != nil {
		return join.Reply{}, fmt.Errorf("cannot admit host %s: %w", host.Name, err)
	}
	return reply, nil
}

// redeem uses the token and enters the host into the roster. A repeated request writes nothing.
func (a *Admin) redeem(ctx context.Context, req join.Request, pub crypto.PublicKey, remote netip.Addr) (roster.Host, error) {
	item, token, used, err := a.present(ctx, req, pub)
	if err != nil {
		return roster.Host{}, err
	}
	host, err := join.Place(used.Host, req, remote)
	if err != nil {
		return roster.Host{}, err
	}
	entry, err := a.Store.Get(ctx, store.RosterKey(host.ID))
	if err != nil {
		return roster.Host{}, err
	}
	if entry.ModRevision != 0 {
		was, err := store.Unmarshal[store.RosterRecord](entry.Value)
		if err != nil {
			return roster.Host{}, err
		}
		host.Labels, host.RunLabels = was.Labels, was.RunLabels                        // they may have been changed since,
		host.Voter, host.Appointed, host.Barred = was.Voter, was.Appointed, was.Barred // and whether it votes
		if used.UsedBy == token.UsedBy && reflect.DeepEqual(was.Host, host) {
			return host, nil
		}
	}
	return host, a.enter(ctx, host, used, unmodified(item.Key, item), unmodified(entry.Key, entry))
}

// present finds the token that a host shows, and what it becomes by being used.
func (a *Admin) present(ctx context.Context, req join.Request, pub crypto.PublicKey,
) (item store.Item, was, used store.Token, err error) {
	if item, err = a.Store.Get(ctx, store.TokenKey(join.HashToken(req.Token))); err != nil {
		return item, was, used, err
	}
	if item.ModRevision == 0 {
		return item, was, used, join.ErrTokenUnknown
	}
	if was, err = store.Unmarshal[store.Token](item.Value); err != nil {
		return item, was, used, err
	}
	pubHash, err := pki.PublicKeyHash(pub)
	if err != nil {
		return item, was, used, err
	}
	used, err = join.Redeem(was, req, pubHash, a.Now())
	return item, was, used, err
}

func (a *Admin) enter(ctx context.Context, host roster.Host, token store.Token, guards ...store.Guard) error {
	entry, err := store.Marshal(store.RosterRecord{Host: host})
	if err != nil {
		return err
	}
	used, err := store.Marshal(token)
	if err != nil {
		return err
	}
	_, err = a.Store.Commit(ctx, store.Commit{
		Guards: guards,
		Ops:    []store.Op{store.Put(guards[0].Key, used), store.Put(store.RosterKey(host.ID), entry)},
	})
	return err
}

// welcome gives a member what it needs.
func (a *Admin) welcome(ctx context.Context, host roster.Host, pub crypto.PublicKey) (join.Reply, error) {
	var reply join.Reply
	if err := a.Access.EnsureHost(ctx, host.ID); err != nil {
		return reply, err
	}
	if host.Voter {
		role, err := a.Members.Add(ctx, host)
		if err != nil {
			return reply, err
		}
		role.IssuerCertificate, role.IssuerKey = string(a.Issuer.CertPEM()), string(a.Issuer.KeyPEM())
		reply.Voter = &role
	}
	chain, err := a.Issuer.SignHost(pub, host, a.Issuer.ClusterID(), a.Now())
	if err != nil {
		return reply, err
	}
	reply.Certificate = string(chain)
	reply.Roster, err = a.roster(ctx)
	return reply, err
}
