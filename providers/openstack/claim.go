package openstack

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// claims remembers what this process knows of claims that no answer of the cloud tells.
type claims struct {
	mu   sync.Mutex
	seen map[string]time.Time // ports without a server: since when they are known
	lost map[string]bool      // identities of which the answer to making a port was lost, and no server was asked for
}

// since tells since when a port is known.
func (c *claims) since(port string, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]time.Time{}
	}
	first, known := c.seen[port]
	if !known {
		c.seen[port], first = now, now
	}
	return first
}

func (c *claims) forget(port string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, port)
}

// setLost notes, or takes back, that a port may have been made that this process has no use for.
func (c *claims) setLost(id string, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		c.lost = map[string]bool{}
	}
	if lost {
		c.lost[id] = true
	} else {
		delete(c.lost, id)
	}
}

func (c *claims) isLost(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost[id]
}

// verdict is what a host's ports say about a create.
type verdict int

const (
	verdictFree     verdict = iota // nobody makes the host
	verdictWait                    // somebody may be about to ask for a server
	verdictTakeOver                // whoever was about to is gone
)

// clock skew between the cloud's API servers, and the second by which its times are rounded.
const skew = 5 * time.Second

// judge decides what a host's ports mean, none of which has a server. since tells since when this process knows a port.
func judge(list []ports.Port, now time.Time, settle time.Duration, since func(port string) time.Time) verdict {
	decision := verdictFree
	for _, port := range list {
		ripe := now.Sub(since(port.ID)) >= settle || !port.CreatedAt.IsZero() && now.Sub(port.CreatedAt) >= settle+skew
		switch {
		case !ripe:
			return verdictWait
		default:
			decision = verdictTakeOver
		}
	}
	return decision
}

// claim is the right to make a host, or the host that makes it needless.
type claim struct {
	port  ports.Port
	found *providers.Instance
}

// claimant is a host that wants a server.
type claimant struct {
	owner   owner
	id      providers.Identity
	network string                                             // the first of the host
	groups  func(context.Context) ([]string, error)            // of its ports
	find    func(context.Context) (*providers.Instance, error) // looks for the host
}

// claimHost finds the host's server, or makes the port that is the claim to its identity. It waits for others who make the
// host, and takes over from those who are gone.
func (p *Provider) claimHost(ctx context.Context, s *session, who claimant) (claim, error) {
	wait := p.pauses()
	for {
		found, err := who.find(ctx)
		if err != nil || found != nil {
			return claim{found: found}, err
		}
		list, err := s.portsOf(ctx, who.owner, portName(who.id))
		if err != nil {
			return claim{}, err
		}
		bound, err := s.boundServer(ctx, who.owner, who.id, list)
		if err != nil {
			return claim{}, err
		}
		if bound != nil {
			made := bound.instance(who.id)
			return claim{found: &made}, nil
		}
		switch p.judge(who.id, list) {
		case verdictFree:
			mine, alone, err := p.makeClaim(ctx, s, who)
			if err != nil || alone {
				return claim{port: mine}, err
			}
			err = giveWay(ctx)
			if err != nil {
				return claim{}, err
			}
		case verdictTakeOver:
			if err := p.takeOver(ctx, s, list); err != nil {
				return claim{}, err
			}
		case verdictWait:
			if err := wait.wait(ctx); err != nil {
				return claim{}, err
			}
		}
	}
}

func (p *Provider) judge(id providers.Identity, list []ports.Port) verdict {
	settle := p.config.Settle
	if p.claims.isLost(id.ID()) {
		settle = 0
	}
	now := p.now()
	return judge(list, now, settle, func(port string) time.Time { return p.claims.since(port, now) })
}

// giveWay waits for a time that chance chooses, so that two who gave way to each other do not meet again.
func giveWay(ctx context.Context) error {
	return providers.Pause(ctx, time.Duration(50+rand.IntN(450))*time.Millisecond)
}

// makeClaim makes the host's first port and looks whether it is the only one. If not, the port is taken away again.
func (p *Provider) makeClaim(ctx context.Context, s *session, who claimant) (mine ports.Port, alone bool, err error) {
	groups, err := who.groups(ctx)
	if err != nil {
		return mine, false, err
	}
	mine, err = p.makePort(ctx, s, who.owner, who.id, who.network, groups)
	if err != nil {
		p.claims.setLost(who.id.ID(), !refused(err))
		return mine, false, err
	}
	list, err := s.portsOf(ctx, who.owner, portName(who.id))
	if err != nil {
		p.claims.setLost(who.id.ID(), true)
		return mine, false, err
	}
	if len(list) == 1 && list[0].ID == mine.ID {
		p.claims.setLost(who.id.ID(), false)
		return mine, true, nil
	}
	err = s.deletePort(ctx, mine.ID, 0)
	p.claims.setLost(who.id.ID(), err != nil)
	return mine, false, err
}

// takeOver deletes the ports of a create that nobody goes on with, unless a server got hold of one meanwhile.
func (p *Provider) takeOver(ctx context.Context, s *session, list []ports.Port) error {
	for _, port := range list {
		p.log.InfoContext(ctx, "taking over a host that was half made", "provider", p.name, "port", port.ID, "name",
			port.Name)
		err := s.releasePort(ctx, port, port.RevisionNumber)
		if errors.Is(err, errChanged) {
			return nil // look again
		}
		if err != nil {
			return err
		}
		p.claims.forget(port.ID)
	}
	return nil
}
