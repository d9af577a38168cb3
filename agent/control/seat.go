package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Seat tells a host what the voters know of its vote.
func (a *Admin) Seat(ctx context.Context, id string) (api.Seat, error) {
	var seat api.Seat
	_, host, err := a.member(ctx, id)
	if err == nil {
		seat.Votes = host.Voter || host.Appointed
		seat.Member, seat.Reserved, err = a.Members.Find(ctx, host.Host)
	}
	if err != nil {
		return seat, fmt.Errorf("cannot tell of the vote of host %s: %w", id, err)
	}
	return seat, nil
}

// TakeSeat gives a host that shall vote what it needs for that, when the time has come for it to be added.
func (a *Admin) TakeSeat(ctx context.Context, id string) (join.VoterRole, error) {
	_, host, err := a.member(ctx, id)
	if err == nil && !host.Voter && !host.Appointed {
		err = api.Errorf(http.StatusConflict, "`muster plan` tells who votes", "host %s shall not vote", host.Name)
	}
	var role join.VoterRole
	if err == nil {
		role, err = a.Members.Add(ctx, host.Host)
	}
	if errors.Is(err, join.ErrNotForming) {
		err = api.Errorf(http.StatusServiceUnavailable, "it asks again", "%v", err)
	}
	if err != nil {
		return join.VoterRole{}, fmt.Errorf("cannot have host %s vote: %w", id, err)
	}
	role.IssuerCertificate, role.IssuerKey = string(a.Issuer.CertPEM()), string(a.Issuer.KeyPEM())
	return role, nil
}

// OrderSeat says whether a host shall vote. The leader brings etcd's members in line with that, one at a time.
func (a *Admin) OrderSeat(ctx context.Context, id string, votes bool) (api.Outcome, error) {
	outcome := api.Unchanged
	err := retry(func() (err error) {
		outcome, err = a.orderSeat(ctx, id, votes)
		return err
	})
	if err != nil {
		return api.Unchanged, fmt.Errorf("cannot change whether host %s votes: %w", id, err)
	}
	return outcome, nil
}

func (a *Admin) orderSeat(ctx context.Context, id string, votes bool) (api.Outcome, error) {
	item, member, err := a.member(ctx, id)
	if err != nil || votes == (member.Voter || member.Appointed) {
		return api.Unchanged, err
	}
	c := store.Commit{Guards: []store.Guard{unmodified(item.Key, item)}}
	if member.Appointed = votes; !votes && member.Voter {
		member.Voter = false
		still, err := a.otherVoter(ctx, id)
		if err != nil {
			return api.Unchanged, err
		}
		c.Guards = append(c.Guards, still)
	}
	data, err := store.Marshal(member)
	if err != nil {
		return api.Unchanged, err
	}
	c.Ops = []store.Op{store.Put(item.Key, data)}
	_, err = a.Store.Commit(ctx, c)
	return api.Changed, err
}

// otherVoter is a guard that some other host still votes: the last one never stops.
func (a *Admin) otherVoter(ctx context.Context, id string) (store.Guard, error) {
	members, err := a.roster(ctx)
	if err != nil {
		return store.Guard{}, err
	}
	at := slices.IndexFunc(members, func(h roster.Host) bool { return h.Voter && h.ID != id })
	if at < 0 {
		return store.Guard{}, api.Errorf(http.StatusConflict, "have another host vote first", "it is the only voter")
	}
	item, member, err := a.member(ctx, members[at].ID)
	if err == nil && !member.Voter {
		err = store.ErrConflict
	}
	return unmodified(item.Key, item), err
}
