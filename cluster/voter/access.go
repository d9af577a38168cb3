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

// Every host is an etcd user named by its ID, without a password: its certificate's common name is enough. It has two
// roles, one that all hosts share, which may read, and write the applications' keys, and one of its own that may write the
// keys that are its own. Voters' control certificates are the user root, who may do everything. Nobody else exists.
//
// Which hosts have theirs is recorded below accessKey, one key a host, written when all else is done: so one read tells
// whether anything is to be done, for any number of hosts, and what a crash left half done is done again. The key
// accessKey itself says that etcd asks for permission at all.
const (
	accessKey     = store.Prefix + "access" // private: only root may read it
	accessPrefix  = accessKey + "/"
	accessVersion = "5" // of the permissions below; a change of them is a change of this
	sharedRole    = "host"
	ownRole       = "host-" // and the host's ID
	rootName      = pki.CNControl

	permRead      = clientv3.PermissionType(clientv3.PermRead)
	permReadWrite = clientv3.PermissionType(clientv3.PermReadWrite)

	parallel  = 8   // hosts whose users are made at once
	batchSize = 100 // keys written in one transaction
)

// readable is what every host may read, as prefixes.
var readable = []string{
	store.KeyCluster, store.PrefixRoster, store.PrefixHosts, store.PrefixAlive, store.PrefixUnits, store.PrefixFiles,
	store.PrefixSchedule, store.PrefixStates, store.PrefixLeader,
	store.PrefixOrders, store.KeyRebalance, store.KeyLock, store.PrefixReboots, store.PrefixGrants,
}

// writable are the keys that a host may write, and that nobody else but root may, beside the parts of its states.
func writable(id string) []string {
	return []string{store.HostKey(id), store.AliveKey(id), store.StatesKey(id), store.RebootKey(id)}
}

// EnsureAuth makes the users and roles of every host in the roster, removes those of hosts that are no longer in the
// store's roster, and has etcd ask for permission from then on. Until the first call returns, every certificate of the
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
	if err := c.makeUsers(ctx, hosts, recorded); err != nil {
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

// EnsureHost makes the user and roles of one host, so that it can use the store as soon as it is told that it joined.
func (c *Control) EnsureHost(ctx context.Context, id string) error {
	if !roster.ValidID(id) {
		return fmt.Errorf("cannot give access to %q: not a host ID", id)
	}
	recorded, err := c.recorded(ctx)
	if err == nil && recorded[accessPrefix+id] == accessVersion {
		return nil
	}
	if err == nil && recorded[accessKey] != accessVersion {
		err = c.makeShared(ctx)
	}
	if err == nil {
		err = c.makeUser(ctx, id)
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
func (c *Control) RemoveHost(ctx context.Context, id string) error {
	err := c.do(ctx, func(ctx context.Context) error {
		_, err := c.client.UserDelete(ctx, id)
		return err
	}, rpctypes.ErrUserNotFound)
	if err == nil {
		err = c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.RoleDelete(ctx, ownRole+id)
			return err
		}, rpctypes.ErrRoleNotFound)
	}
	if err == nil {
		err = c.do(ctx, func(ctx context.Context) error {
			_, err := c.client.Delete(ctx, accessPrefix+id)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("cannot remove the access of host %s to the store: %w", id, err)
	}
	return nil
}

// recorded returns accessKey and everything below it.
func (c *Control) recorded(ctx context.Context) (map[string]string, error) {
	var found *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		found, err = c.client.Get(ctx, accessKey, clientv3.WithPrefix())
		return err
	})
	if err != nil {
		return nil, err
	}
	recorded := make(map[string]string, len(found.Kvs))
	for _, kv := range found.Kvs {
		recorded[string(kv.Key)] = string(kv.Value)
	}
	return recorded, nil
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

// makeShared makes the user root and the role that all hosts have.
func (c *Control) makeShared(ctx context.Context) error {
	err := together(ctx, c.addUser(rootName), c.addRole(rootName), c.addRole(sharedRole))
	if err != nil {
		return err
	}
	calls := []call{c.giveRole(rootName, rootName)}
	for _, prefix := range readable {
		calls = append(calls, c.permit(sharedRole, prefix, clientv3.GetPrefixRangeEnd(prefix), permRead))
	}
	calls = append(calls, c.permit(sharedRole, store.FirstApp, store.EndApp, permReadWrite))
	return together(ctx, calls...)
}

func (c *Control) makeUsers(ctx context.Context, hosts roster.Roster, recorded map[string]string) error {
	var made []string
	g, making := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, h := range hosts {
		if recorded[accessPrefix+h.ID] == accessVersion {
			continue
		}
		made = append(made, accessPrefix+h.ID)
		g.Go(func() error { return c.makeUser(making, h.ID) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.record(ctx, made)
}

// makeUser makes one host's user and role.
func (c *Control) makeUser(ctx context.Context, id string) error {
	role := ownRole + id
	if err := together(ctx, c.addUser(id), c.addRole(role)); err != nil {
		return err
	}
	calls := []call{c.giveRole(id, sharedRole), c.giveRole(id, role)}
	for _, key := range writable(id) {
		calls = append(calls, c.permit(role, key, "", permReadWrite))
	}
	parts := store.StatesKey(id) + "/"
	calls = append(calls, c.permit(role, parts, clientv3.GetPrefixRangeEnd(parts), permReadWrite))
	return together(ctx, calls...)
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
