package voter

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// To etcd all hosts are one user, which has two roles: one that may read, and write the applications' keys, and one that
// may write below those prefixes where hosts have keys of their own. That each writes its own alone is the gate's affair,
// which also takes a host for that user: etcd would need a user and a role of each, and its work at each join grows with
// the hosts that have joined. Voters' control certificates are the user root, who may do everything. Nobody else exists.
//
// Which hosts have access is recorded below accessKey, one key a host: to join is one entry of raft's log. The key
// accessKey itself says that etcd asks for permission at all.
//
// Up to version 5 each host was a user of its own. Voters of that version go on to judge hosts by those users, and make
// them of hosts that have none, as they find accessVersion to be another; so a cluster may be upgraded one voter at a time.
// The users of old go when their hosts do.
const (
	accessKey     = store.Prefix + "access" // private: only root may read it
	accessPrefix  = accessKey + "/"
	accessVersion = "7" // of the permissions below; a change of them is a change of this
	sharedUser    = "host"
	sharedRole    = "host"
	writerRole    = "writer"
	oldRole       = "host-" // and the host's ID
	rootName      = pki.CNControl

	permRead      = clientv3.PermissionType(clientv3.PermRead)
	permReadWrite = clientv3.PermissionType(clientv3.PermReadWrite)

	batchSize = 100 // keys written in one transaction
)

// readable is what every host may read, as prefixes.
var readable = []string{
	store.KeyCluster, store.PrefixRoster, store.PrefixHosts, store.PrefixAlive, store.PrefixUnits, store.PrefixFiles,
	store.PrefixSchedule, store.PrefixStates, store.PrefixLeader,
	store.PrefixOrders, store.KeyRebalance, store.KeyLock, store.PrefixReboots, store.PrefixGrants, store.PrefixUpdate,
}

// owned are the prefixes below which each host may write some keys: writable's.
var owned = []string{store.PrefixHosts, store.PrefixAlive, store.PrefixStates, store.PrefixReboots, store.PrefixUpdateHosts}

// writable are the keys that a host may write, and that nobody else but root may, beside the parts of its states.
func writable(id string) []string {
	return []string{store.HostKey(id), store.AliveKey(id), store.StatesKey(id), store.RebootKey(id), store.UpdateHostKey(id)}
}

// EnsureAuth gives every host in the roster access, takes it from those that are no longer in the store's roster, and has
// etcd ask for permission from then on. Until the first call returns, every certificate of the
// cluster may do everything.
func (c *Control) EnsureAuth(ctx context.Context, hosts roster.Roster) error {
	recorded, err := c.recorded(ctx)
	if err != nil {
		return fmt.Errorf("cannot read who has access to the store: %w", err)
	}
	enabled := recorded[accessKey] == accessVersion
	if !enabled {
		if err := c.makeShared(ctx); err != nil {
			return fmt.Errorf("cannot make the store's roles: %w", err)
		}
	}
	if err := c.record(ctx, unrecorded(hosts, recorded)); err != nil {
		return fmt.Errorf("cannot give hosts access to the store: %w", err)
	}
	if err := c.removeStrangers(ctx, hosts, recorded); err != nil {
		return fmt.Errorf("cannot remove hosts' access to the store: %w", err)
	}
	if enabled {
		return nil
	}
	if err := c.enable(ctx); err != nil {
		return fmt.Errorf("cannot have the store ask for permission: %w", err)
	}
	return nil
}

// EnsureHost gives one host access, so that it can use the store as soon as it is told that it joined.
func (c *Control) EnsureHost(ctx context.Context, id string) error {
	if !roster.ValidID(id) {
		return fmt.Errorf("cannot give access to %q: not a host ID", id)
	}
	recorded, err := c.recordedOf(ctx, accessKey, accessPrefix+id)
	if err == nil && recorded[accessPrefix+id] == accessVersion {
		return nil
	}
	if err == nil && recorded[accessKey] != accessVersion {
		err = c.makeShared(ctx)
	}
	if err == nil {
		err = c.record(ctx, []string{accessPrefix + id})
	}
	if err != nil {
		return fmt.Errorf("cannot give host %s access to the store: %w", id, err)
	}
	return nil
}

// RemoveHost takes a host's access away. What it writes from now on is refused, and so is every new read; a watch that it
// has open goes on until its connection ends.
//
// A voter that lags would still take the host for one that has access. But etcd refuses what was asked before its roles
// changed last, and one comes and goes after the record: a voter knows neither change, or both.
func (c *Control) RemoveHost(ctx context.Context, id string) error {
	for _, step := range []call{c.removeUser(id), c.forget(accessPrefix + id), c.addRole(oldRole + id), c.removeRole(oldRole + id)} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("cannot remove the access of host %s to the store: %w", id, err)
		}
	}
	return nil
}

// recorded returns accessKey and everything below it.
func (c *Control) recorded(ctx context.Context) (map[string]string, error) {
	return c.get(ctx, clientv3.OpGet(accessKey, clientv3.WithPrefix()))
}

// recordedOf returns those of the keys that are there.
func (c *Control) recordedOf(ctx context.Context, keys ...string) (map[string]string, error) {
	var ops []clientv3.Op
	for _, key := range keys {
		ops = append(ops, clientv3.OpGet(key))
	}
	return c.get(ctx, ops...)
}

// get reads in one transaction.
func (c *Control) get(ctx context.Context, ops ...clientv3.Op) (map[string]string, error) {
	var read *clientv3.TxnResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		read, err = c.client.Txn(ctx).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, found := range read.Responses {
		for _, kv := range found.GetResponseRange().GetKvs() {
			values[string(kv.Key)] = string(kv.Value)
		}
	}
	return values, nil
}

func (c *Control) record(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), batchSize)
		var puts []clientv3.Op
		for _, key := range keys[:n] {
			puts = append(puts, clientv3.OpPut(key, accessVersion))
		}
		err := c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.Txn(ctx).Then(puts...).Commit()
			return err
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// makeShared makes the user root, the one that hosts are, and its roles.
func (c *Control) makeShared(ctx context.Context) error {
	err := together(ctx, c.addUser(rootName), c.addRole(rootName),
		c.addUser(sharedUser), c.addRole(sharedRole), c.addRole(writerRole))
	if err != nil {
		return err
	}
	calls := []call{
		c.giveRole(rootName, rootName), c.giveRole(sharedUser, sharedRole), c.giveRole(sharedUser, writerRole),
		c.permit(sharedRole, store.FirstApp, store.EndApp, permReadWrite),
	}
	for _, prefix := range readable {
		calls = append(calls, c.permit(sharedRole, prefix, clientv3.GetPrefixRangeEnd(prefix), permRead))
	}
	for _, prefix := range owned {
		calls = append(calls, c.permit(writerRole, prefix, clientv3.GetPrefixRangeEnd(prefix), permReadWrite))
	}
	return together(ctx, calls...)
}

// unrecorded are the keys of hosts whose access is to be recorded.
func unrecorded(hosts roster.Roster, recorded map[string]string) (keys []string) {
	for _, h := range hosts {
		if key := accessPrefix + h.ID; recorded[key] != accessVersion {
			keys = append(keys, key)
		}
	}
	return keys
}

// removeStrangers asks the store about each host before it removes it: a host that joined since hosts was read has its
// access recorded, and is in the roster too, because that was written first.
func (c *Control) removeStrangers(ctx context.Context, hosts roster.Roster, recorded map[string]string) error {
	for key := range recorded {
		id, ok := strings.CutPrefix(key, accessPrefix)
		if !ok {
			continue
		}
		if _, known := hosts.ByID(id); known {
			continue
		}
		var found *clientv3.GetResponse
		err := c.do(ctx, func(ctx context.Context) (err error) {
			found, err = c.client.Get(ctx, store.RosterKey(id), clientv3.WithCountOnly())
			return err
		})
		if err != nil {
			return err
		}
		if found.Count > 0 {
			continue
		}
		if err := c.RemoveHost(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) enable(ctx context.Context) error {
	err := c.do(ctx, func(ctx context.Context) error {
		_, err := c.client.AuthEnable(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return c.record(ctx, []string{accessKey})
}

// call is a change of users or roles that may be repeated.
type call func(ctx context.Context) error

// together makes calls that do not need each other at the same time: raft takes them in one round.
func together(ctx context.Context, calls ...call) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range calls {
		g.Go(func() error { return c(ctx) })
	}
	return g.Wait()
}

func (c *Control) addUser(name string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		}, rpctypes.ErrUserAlreadyExist)
	}
}

func (c *Control) addRole(name string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.RoleAdd(ctx, name)
			return err
		}, rpctypes.ErrRoleAlreadyExist)
	}
}

func (c *Control) removeUser(name string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.UserDelete(ctx, name)
			return err
		}, rpctypes.ErrUserNotFound)
	}
}

func (c *Control) removeRole(name string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.RoleDelete(ctx, name)
			return err
		}, rpctypes.ErrRoleNotFound)
	}
}

func (c *Control) forget(key string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.Delete(ctx, key)
			return err
		})
	}
}

func (c *Control) giveRole(user, role string) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.UserGrantRole(ctx, user, role)
			return err
		})
	}
}

func (c *Control) permit(role, key, end string, kind clientv3.PermissionType) call {
	return func(ctx context.Context) error {
		return c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.RoleGrantPermission(ctx, role, key, end, kind)
			return err
		})
	}
}
