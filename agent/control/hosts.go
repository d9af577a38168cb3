package control

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

const hintIDs = "`muster hosts -o json` shows the IDs"

// member reads a host's entry in the roster.
func (a *Admin) member(ctx context.Context, id string) (store.Item, store.RosterRecord, error) {
	if !roster.ValidID(id) {
		return store.Item{}, store.RosterRecord{}, badRequest(hintIDs, "%q is not a host ID", id)
	}
	item, err := a.Store.Get(ctx, store.RosterKey(id))
	if err != nil {
		return item, store.RosterRecord{}, err
	}
	if item.ModRevision == 0 {
		return item, store.RosterRecord{}, notFound(hintIDs, "no host of the cluster has the ID %s", id)
	}
	record, err := store.Unmarshal[store.RosterRecord](item.Value)
	return item, record, err
}

// roster reads all members, sorted by name.
func (a *Admin) roster(ctx context.Context) (roster.Roster, error) {
	view, err := a.Store.Range(ctx, store.PrefixRoster)
	if err != nil {
		return nil, err
	}
	members := make(roster.Roster, 0, len(view.Items))
	for _, item := range view.Items {
		record, err := store.Unmarshal[store.RosterRecord](item.Value)
		if err != nil {
			return nil, err
		}
		members = append(members, record.Host)
	}
	slices.SortFunc(members, func(a, b roster.Host) int { return cmp.Compare(a.Name, b.Name) })
	return members, nil
}

// SetLabels gives a host the labels of the cluster file (roster.Host.WithLabels).
func (a *Admin) SetLabels(ctx context.Context, id string, labels map[string]string) (api.Outcome, error) {
	return a.relabel(ctx, id, func(h roster.Host) roster.Host { return h.WithLabels(labels) })
}

// PatchLabels sets the labels of a host that have a value and removes those that have none (roster.Host.WithPatch).
func (a *Admin) PatchLabels(ctx context.Context, id string, patch map[string]*string) (api.Outcome, error) {
	return a.relabel(ctx, id, func(h roster.Host) roster.Host { return h.WithPatch(patch) })
}

// relabel gives a host other labels, which follow from those that it has.
func (a *Admin) relabel(ctx context.Context, id string, change func(roster.Host) roster.Host) (api.Outcome, error) {
	outcome := api.Unchanged
	err := retry(func() (err error) {
		outcome, err = a.setLabels(ctx, id, change)
		return err
	})
	if err != nil {
		return api.Unchanged, fmt.Errorf("cannot change the labels of host %s: %w", id, err)
	}
	return outcome, nil
}

func (a *Admin) setLabels(ctx context.Context, id string, change func(roster.Host) roster.Host) (api.Outcome, error) {
	item, member, err := a.member(ctx, id)
	if err != nil {
		return api.Unchanged, err
	}
	was := member.Host
	member.Host = change(was)
	if maps.Equal(was.Labels, member.Labels) && slices.Equal(was.RunLabels, member.RunLabels) {
		return api.Unchanged, nil
	}
	data, err := store.Marshal(member)
	if err != nil {
		return api.Unchanged, err
	}
	_, err = a.Store.Commit(ctx, store.Commit{
		Guards: []store.Guard{unmodified(store.RosterKey(id), item)},
		Ops:    []store.Op{store.Put(store.RosterKey(id), data)},
	})
	return api.Changed, err
}

// RemoveHost makes the cluster forget a host: its entry in the roster and what it wrote, then its access to the store.
// The scheduling leader takes its units elsewhere and its place in etcd away. A removal that was cut short is completed
// by the next, although that one finds no such host any more.
func (a *Admin) RemoveHost(ctx context.Context, id string) error {
	err := a.removeHost(ctx, id)
	if err == nil || api.IsNotFound(err) {
		err = errors.Join(err, a.Access.RemoveHost(ctx, id))
		if waits := a.letGo(ctx, id); waits != nil {
			err = waits
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove host %s: %w", id, err)
	}
	a.Log.Info("removed a host", "id", id)
	return nil
}

// letGo returns when etcd has no member of a host any more: ended sooner, it might cost the others their majority.
func (a *Admin) letGo(ctx context.Context, id string) error {
	for {
		if member, _, err := a.Members.Find(ctx, roster.Host{ID: id}); err == nil && !member {
			return nil
		}
		if pause.For(ctx, letGoPause) != nil {
			return api.Errorf(http.StatusServiceUnavailable, "run the same command again in a moment; `muster status` tells what it waits for",
				"the other voters have not let it go yet")
		}
	}
}

const letGoPause = 50 * time.Millisecond

func (a *Admin) removeHost(ctx context.Context, id string) error {
	if err := a.removable(ctx, id); err != nil {
		return err
	}
	_, err := a.Store.Commit(ctx, store.Commit{Ops: []store.Op{
		store.Delete(store.RosterKey(id)), store.Delete(store.AliveKey(id)), store.Delete(store.HostKey(id)),
		store.Delete(store.StatesKey(id)), store.DeletePrefix(store.StatesKey(id) + "/"), store.Delete(store.OrderKey(id)),
	}})
	return err
}

// removable refuses to remove the only voter: nothing could be written after that.
func (a *Admin) removable(ctx context.Context, id string) error {
	_, member, err := a.member(ctx, id)
	if err != nil || !member.Voter {
		return err
	}
	members, err := a.roster(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(members.Voters(), func(h roster.Host) bool { return h.ID != id }) {
		return nil
	}
	return api.Errorf(http.StatusConflict, "end the cluster with `muster down`, or add a voter first", "it is the only voter")
}

// maxTTL bounds how long a join token may be waited for.
const maxTTL = 7 * 24 * time.Hour

// AddToken lets a host join. A token that is there already stays as it is, unless it has expired unused.
func (a *Admin) AddToken(ctx context.Context, req api.TokenRequest) error {
	if err := checkToken(req); err != nil {
		return err
	}
	if err := retry(func() error { return a.addToken(ctx, req) }); err != nil {
		return fmt.Errorf("cannot add a join token for host %s: %w", req.Host.Name, err)
	}
	return nil
}

func checkToken(req api.TokenRequest) error {
	const hint = "muster and the agents must be of the same version"
	sum, err := hex.DecodeString(req.Hash)
	switch {
	case err != nil || len(sum) != 32 || req.Hash != hex.EncodeToString(sum):
		return badRequest(hint, "the hash of the join token is not a SHA-256 in hexadecimal")
	case !roster.ValidID(req.Host.ID):
		return badRequest(hint, "%q is not a host ID", req.Host.ID)
	case !roster.ValidName(req.Host.Name):
		return badRequest("use a DNS label in lower case", "%q is not a host name", req.Host.Name)
	case req.TTL <= 0 || req.TTL > maxTTL:
		return badRequest(hint, "a join token lives for more than nothing and at most %v, not %v", maxTTL, req.TTL)
	}
	return nil
}

func (a *Admin) addToken(ctx context.Context, req api.TokenRequest) error {
	key := store.TokenKey(req.Hash)
	item, err := a.Store.Get(ctx, key)
	if err != nil {
		return err
	}
	now := a.Now()
	if item.ModRevision != 0 {
		was, err := store.Unmarshal[store.Token](item.Value)
		if err != nil {
			return err
		}
		if was.Host.ID != req.Host.ID {
			return api.Errorf(http.StatusConflict, "make another secret", "the token is another host's")
		}
		if was.UsedBy != "" || now.Before(was.Expires) {
			return nil
		}
	}
	data, err := store.Marshal(store.Token{Host: req.Host, Expires: now.Add(req.TTL)})
	if err != nil {
		return err
	}
	_, err = a.Store.Commit(ctx, store.Commit{
		Guards: []store.Guard{unmodified(key, item)}, Ops: []store.Op{store.Put(key, data)},
	})
	return err
}

// Renew signs a new certificate for a member's old key. The old certificate may have expired; it is of no use to anybody
// who does not hold the key.
func (a *Admin) Renew(ctx context.Context, req api.RenewRequest) (api.RenewReply, error) {
	const hint = "create the host again with `muster up`"
	peer, pub, err := pki.Renewable(a.Root, []byte(req.Certificate))
	if err != nil {
		return api.RenewReply{}, badRequest(hint, "cannot renew the certificate: %v", err)
	}
	_, member, err := a.member(ctx, peer.ID)
	if api.IsNotFound(err) || peer.ClusterID != a.Issuer.ClusterID() {
		return api.RenewReply{}, api.Errorf(http.StatusForbidden, hint, "%s is not in the cluster any more", peer)
	}
	if err != nil {
		return api.RenewReply{}, fmt.Errorf("cannot renew the certificate of %s: %w", peer, err)
	}
	chain, err := a.Issuer.SignHost(pub, member.Host, peer.ClusterID, a.Now())
	if err != nil {
		return api.RenewReply{}, err
	}
	return api.RenewReply{Certificate: string(chain)}, nil
}
