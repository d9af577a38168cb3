package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// Config is what an agent is started with.
type Config struct {
	Root    string // directory of the host: / on a real one
	Version string
	Log     *slog.Logger

	quota int64 // voter.Config.Quota
}

// Run joins the cluster if this host has not, and then does everything that a host does until ctx ends. Units go on after
// that, as they do when it fails. ErrRestart is that the host is updated.
func Run(ctx context.Context, cfg Config) error {
	log := cfg.Log
	h, err := boot(cfg.Root, log)
	if err != nil {
		return err
	}
	h.quota = cfg.quota
	storage, err := join.OpenStorage(cfg.Root)
	if err != nil {
		return err
	}
	ctx, restart := context.WithCancelCause(ctx)
	defer restart(nil)
	updater := newUpdater(h, cfg.Version, restart, log)
	var updating sync.WaitGroup
	updating.Go(func() { _ = updater.run(ctx) })
	defer updating.Wait()
	defer restart(nil)
	var change *roleChange
	for rest := false; ; rest = change.rest {
		err := serve(ctx, h, storage, h.facts(cfg.Version), updater, rest, log)
		if errors.Is(context.Cause(ctx), ErrRestart) {
			return ErrRestart
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.As(err, &change) {
			return err
		}
	}
}

// roleChange ends an agent that has to begin anew, since this host votes from now on or votes no more. rest is that it does
// not begin by voting.
type roleChange struct{ rest bool }

// Error implements error.
func (*roleChange) Error() string { return "this host's role changes" }

// serve is an agent in one role. Units do not notice its end: the next one adopts them.
func serve(ctx context.Context, h host, storage join.Storage, facts roster.Facts, u *updater, rest bool, log *slog.Logger) error {
	l, err := listen(ctx, h.address())
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	id, err := identify(ctx, h, storage, l, facts, log)
	if err != nil {
		return err
	}
	a, err := assemble(ctx, h, storage, id, facts, rest, log)
	if err != nil {
		return err
	}
	defer a.close()
	a.updater = u
	return a.run(ctx, l)
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: another program has this port; `ss -ltnp` tells which", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("cannot listen on %s: this host does not have the address", address)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return l, nil
}

// identify returns what this host received when it joined. It joins first if it has not, however long that takes.
func identify(ctx context.Context, h host, storage join.Storage, l net.Listener, facts roster.Facts, log *slog.Logger,
) (join.Identity, error) {
	id, err := storage.Load(h.Config)
	if !errors.Is(err, join.ErrNoIdentity) {
		return id, err
	}
	key, err := storage.Key()
	if err != nil {
		return join.Identity{}, err
	}
	began := time.Now()
	log.Info("joining the cluster", "cluster", h.ClusterName, "endpoints", h.Endpoints, "listening", l.Addr().String())
	reply, err := join.Run(ctx, h.Config, key, facts, l, log)
	if err != nil {
		return join.Identity{}, err
	}
	if err := storage.Save(h.Config, reply); err != nil {
		return join.Identity{}, err
	}
	log.Info("joined the cluster", "took", time.Since(began).Round(time.Millisecond), "voter", reply.Voter != nil)
	return storage.Load(h.Config)
}

// listenSocket makes a unix socket for processes of this host. Its mode says who may connect.
func listenSocket(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the API's socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the API's socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot make the API's socket (its path may have about 100 characters): %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("cannot make the API's socket: %w", err)
	}
	return l, nil
}
