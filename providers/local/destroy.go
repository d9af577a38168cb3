package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// Entries of the root that are not hosts begin with a dot and end with one of these.
const (
	newSuffix  = ".muster-new"  // a directory that has no name yet
	goneSuffix = ".muster-gone" // one whose host ended, being removed
	lockSuffix = ".muster-lock" // the lock of an identity
)

func scratchName(name, suffix string) string { return "." + name + suffix }

func isScratch(name string) bool { return strings.HasPrefix(name, ".") }

// Destroy ends every process of a host and removes its directory. Nothing is kept.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) (err error) {
	id := instance.Identity
	if err := id.Validate(); err != nil {
		return err
	}
	if _, err := os.Stat(p.root); errors.Is(err, fs.ErrNotExist) {
		return context.Cause(ctx) // and make none for the lock
	}
	lock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	h, found, err := p.find(id)
	if err != nil || !found {
		return err
	}
	return p.remove(ctx, h)
}

// remove ends a host's processes and removes what it had. The caller holds the identity's lock.
func (p *Provider) remove(ctx context.Context, h host) error {
	if err := p.endProcesses(ctx, h); err != nil {
		return err
	}
	if err := h.clear(ctx); err != nil {
		return err
	}
	if err := p.step("ended"); err != nil {
		return err
	}
	// Removing a directory takes a while and may be cut short; what is left must not pass for a host.
	gone := filepath.Join(p.root, scratchName(filepath.Base(h.dir), goneSuffix))
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(h.dir, gone)
	}
	if err == nil {
		err = p.step("renamed")
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	err = errors.Join(err, p.leases.release(ctx, h.dir))
	if h.Container != nil && err == nil {
		err = p.leases.dropBridges(ctx, nil)
	}
	return err
}

// endProcesses ends the keeper, politely first, so that it ends nothing else and starts nothing again; then everything
// else that is the host's, until a look at the whole table finds nothing.
func (p *Provider) endProcesses(ctx context.Context, h host) error {
	look := p.look()
	keeper, running, err := look.keeper(h)
	if err != nil {
		return err
	}
	kin := newKin(h.InstanceID)
	if running {
		// While it lives it tells its children and its session.
		all, err := look.all()
		if err != nil {
			return err
		}
		kin.live(all)
		if err := p.endKeeper(ctx, keeper); err != nil {
			return err
		}
	}
	return p.endAll(ctx, kin)
}

// endAll ends everything that is left of a host: it asks, and after the grace time it does not ask any more.
func (p *Provider) endAll(ctx context.Context, kin *kin) error {
	began := time.Now()
	asked := map[int]string{}
	for {
		all, err := p.processes.all()
		if err != nil {
			return fmt.Errorf("cannot read the process table: %w", err)
		}
		left := kin.live(all)
		if len(left) == 0 {
			kin.reap(all)
			return nil
		}
		waited := time.Since(began)
		if waited > p.grace+killPatience {
			return fmt.Errorf("process %d does not end: %w", left[0].pid, providers.ErrUnavailable)
		}
		for _, each := range left {
			if err := p.endOne(each, asked, waited > p.grace); err != nil {
				return err
			}
		}
		if err := providers.Pause(ctx, lookPause); err != nil {
			return err
		}
	}
}

const (
	// lookPause is the time between two looks at processes that are to end.
	lookPause = 10 * time.Millisecond
	// killPatience is how long a process may survive SIGKILL, in an uninterruptible call.
	killPatience = 20 * time.Second
)

// endKeeper asks a host's keeper to end and waits for the grace time at most. A container's has its system shut down, and
// when it has ended, however that came, nothing of the container runs.
func (p *Provider) endKeeper(ctx context.Context, keeper process) error {
	if err := sendSignal(p.processes, keeper, syscall.SIGTERM); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < p.grace; {
		now, ok := p.processes.one(keeper.pid)
		if !ok || now.started != keeper.started || now.zombie {
			return nil
		}
		if err := providers.Pause(ctx, lookPause); err != nil {
			return err
		}
	}
	return sendSignal(p.processes, keeper, syscall.SIGKILL) // endAll sees to it that it ends
}

// endOne asks a process to end, once, or makes it.
func (p *Provider) endOne(each process, asked map[int]string, kill bool) error {
	switch {
	case kill:
		return sendSignal(p.processes, each, syscall.SIGKILL)
	case asked[each.pid] != each.started:
		asked[each.pid] = each.started
		// A stopped process acts on SIGTERM only once it is continued (systemd.kill(5) does the same).
		return errors.Join(sendSignal(p.processes, each, syscall.SIGTERM), sendSignal(p.processes, each, syscall.SIGCONT))
	}
	return nil
}

// Cleanup removes what crashes left of the cluster's hosts, and the provider's directories when nothing is in them.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	hosts, err := p.hosts(cluster)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		err = errors.Join(err, p.removeHalfMade(ctx, h.identity()))
	}
	if err = errors.Join(err, p.sweep()); err != nil {
		return err
	}
	// Directories that are not empty stay. The root may be gone already: a Cleanup that was killed had removed it.
	err = os.Remove(p.root)
	if p.ownRoot && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		_ = os.Remove(filepath.Dir(p.root))
	}
	return p.tidy(ctx)
}

// tidy gives up what hosts that are gone had of this machine's addresses.
func (p *Provider) tidy(ctx context.Context) error {
	if os.Getuid() == 0 { // who made bridges
		var half *bridge
		if p.container != nil {
			b := p.leases.bridgeOf(p.container.Network, p.container.NAT)
			half = &b
		}
		if err := p.leases.dropBridges(ctx, half); err != nil {
			return err
		}
	}
	return p.leases.tidy(ctx)
}

// removeHalfMade removes a host that was never listed, and refuses to remove one that was.
func (p *Provider) removeHalfMade(ctx context.Context, id providers.Identity) (err error) {
	lock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	h, found, err := p.find(id)
	if err != nil || !found {
		return err
	}
	_, running, err := p.look().keeper(h)
	if err == nil && (running || h.launched()) {
		err = fmt.Errorf("host %s still exists: %w", id.Host, providers.ErrConflict)
	}
	if err != nil {
		return err
	}
	return p.remove(ctx, h)
}

// sweep removes directories without a name, whichever cluster they were for, and locks, unless somebody is at work on
// them.
func (p *Provider) sweep() error {
	entries, err := os.ReadDir(p.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		name, suffix := cutScratch(entry.Name())
		if suffix == "" {
			continue
		}
		base, _, _ := strings.Cut(name, ".")
		lock, lockErr := crashsafe.TryAcquire(p.lockPath(base))
		if errors.Is(lockErr, crashsafe.ErrHeld) {
			continue
		}
		err = errors.Join(err, lockErr)
		if lockErr != nil {
			continue
		}
		if suffix != lockSuffix {
			err = errors.Join(err, os.RemoveAll(filepath.Join(p.root, entry.Name())))
		}
		err = errors.Join(err, lock.Remove())
	}
	return err
}

// cutScratch takes the name of a scratch entry apart; the suffix is "" for any other.
func cutScratch(entry string) (name, suffix string) {
	if !isScratch(entry) {
		return entry, ""
	}
	for _, suffix := range []string{newSuffix, goneSuffix, lockSuffix} {
		if name, ok := strings.CutSuffix(entry[1:], suffix); ok {
			return name, suffix
		}
	}
	return entry, ""
}
