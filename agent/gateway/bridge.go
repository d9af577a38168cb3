package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/pause"
)

// lookEvery is how often a bridge is looked at: container engines make it with the first container, and may make it anew.
const lookEvery = 5 * time.Second

// KeepBridge serves at the address of a network interface, on both ports, whenever there is such an interface, until ctx ends.
// An interface that is not there is no trouble: neither is any container behind it. report is as for Keep.
func (g *Gateway) KeepBridge(ctx context.Context, name string, policy Policy, report func(error)) error {
	for {
		at, found := addressOf(name)
		if found {
			if err := g.keepBridgeAt(ctx, name, at, policy, report); err != nil {
				return err
			}
			report(nil)
		}
		if err := pause.For(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// keepBridgeAt serves until the interface has another address or none.
func (g *Gateway) keepBridgeAt(ctx context.Context, name string, at netip.Prefix, policy Policy, report func(error)) error {
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	policy.From = at.Masked()
	var group errgroup.Group
	var ails ailments
	for i, port := range []uint16{PortV1, PortV3} {
		address := netip.AddrPortFrom(at.Addr(), port).String()
		group.Go(func() error {
			return g.Keep(serving, address, policy, func(err error) { report(ails.set(i, err)) })
		})
	}
	for {
		if err := pause.For(ctx, lookEvery); err != nil {
			_ = group.Wait() // nothing but the end of ctx
			return err
		}
		if now, found := addressOf(name); !found || now != at {
			cancel()
			_ = group.Wait()
			return nil
		}
	}
}

// addressOf is the first IPv4 address of an interface that is up, or else its first, with its network.
func addressOf(name string) (netip.Prefix, bool) {
	link, err := net.InterfaceByName(name)
	if err != nil || link.Flags&net.FlagUp == 0 {
		return netip.Prefix{}, false
	}
	list, err := link.Addrs()
	if err != nil {
		return netip.Prefix{}, false
	}
	var first netip.Prefix
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || prefix.Addr().IsLinkLocalUnicast():
		case prefix.Addr().Is4():
			return prefix, true
		case !first.IsValid():
			first = prefix
		}
	}
	return first, first.IsValid()
}

// ailments are what is in the way of each of two ports.
type ailments struct {
	mu   sync.Mutex
	errs [2]error
}

// set changes one and returns all.
func (a *ailments) set(i int, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs[i] = err
	return errors.Join(a.errs[0], a.errs[1])
}
