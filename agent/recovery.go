package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/voter"
)

// recovery has this host begin anew when an operator says so, because the voters are gone: as one of those that start from a
// backup, or as a client of theirs. It is api.Recovery. Units go on.
type recovery struct {
	self    roster.Host
	cluster string // UUID
	dir     string // etcd's
	scratch string
	save    func(join.VoterRole) error
	learn   func(roster.Roster)
	begin   signal // anew
	log     *slog.Logger
}

func newRecovery(a *agent) *recovery {
	return &recovery{
		self: a.self, cluster: a.ClusterID, dir: filepath.Join(a.root, etcdPath), scratch: filepath.Join(a.root, scratchPath),
		save: func(role join.VoterRole) error { return a.storage.SaveVoter(a.Config, role) }, learn: a.members.set,
		begin: newSignal(), log: a.log,
	}
}

// lastWord is how long the answer to the operator has to leave before the agent that gives it ends.
const lastWord = 200 * time.Millisecond

// run ends with ctx, or with a roleChange when this host was restored.
func (r *recovery) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.begin:
	}
	if err := pause.For(ctx, lastWord); err != nil {
		return err
	}
	return &roleChange{}
}

// Restore takes the backup in, checks it, and makes etcd's data from it beside the old, which is replaced when the agent
// begins anew. A host that does not become a voter takes up the new roster.
func (r *recovery) Restore(ctx context.Context, order api.RestoreOrder, body io.Reader) error {
	if _, member := order.Roster.ByID(r.self.ID); !member {
		return api.Errorf(http.StatusBadRequest, "run `muster restore` again", "the roster does not have this host")
	}
	r.learn(order.Roster)
	if order.Voter == nil {
		r.log.Info("the operator says who votes now", "voters", len(order.Roster.Voters()))
		return nil
	}
	if order.Voter.Restore == nil {
		return api.Errorf(http.StatusBadRequest, "muster and the agents must be of the same version", "the request has no restore")
	}
	if err := r.prepare(ctx, order, body); err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	r.log.Warn("this host begins anew as a voter, from a backup", "restore", order.Voter.Restore.ID)
	r.begin.raise()
	return nil
}

func (r *recovery) prepare(ctx context.Context, order api.RestoreOrder, body io.Reader) (err error) {
	if err := os.MkdirAll(r.scratch, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(r.scratch, "restore-*.db")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	m, err := backup.Read(body, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return api.Errorf(http.StatusBadRequest, "take another backup", "%v", err)
	}
	if m.Cluster != r.cluster && !order.Foreign {
		return api.Errorf(http.StatusConflict, "use a backup of this cluster", "the backup is of cluster %s (%s), this is %s",
			m.Name, m.Cluster, r.cluster)
	}
	if err := voter.PrepareRestore(ctx, f.Name(), r.dir, r.self, *order.Voter); err != nil {
		return err
	}
	return r.save(*order.Voter)
}
