package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// credentials keeps this host's certificates valid: each is replaced at half of its life. Voters sign their own; other
// hosts ask a voter, which works with a certificate that has expired too.
type credentials struct {
	storage join.Storage
	id      join.Identity
	self    roster.Host
	cluster string               // UUID
	voters  func() roster.Roster // as last known
	now     func() time.Time
	log     *slog.Logger
}

// longestRenewal is how long a renewal that failed waits at most before it is tried again.
const longestRenewal = time.Minute

// run renews whatever is due until ctx ends.
func (c *credentials) run(ctx context.Context) error {
	between := pause.New(longestRenewal)
	for {
		next, err := c.renew(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Warn("cannot renew this host's certificates", "err", err)
			err = between.Wait(ctx)
		} else {
			between.Reset()
			err = pause.For(ctx, next)
		}
		if err != nil {
			return err
		}
	}
}

// renew replaces what is due, and says how long it is until something is.
func (c *credentials) renew(ctx context.Context) (time.Duration, error) {
	next, err := c.renewHost(ctx)
	if err != nil || c.id.Voter == nil {
		return next, err
	}
	for file, mint := range map[string]minter{
		c.storage.PeerFile(): c.id.Issuer.MintPeer, c.storage.ControlFile(): c.id.Issuer.MintControl,
	} {
		due, err := c.remint(file, mint)
		if err != nil {
			return 0, err
		}
		next = min(next, due)
	}
	return next, nil
}

func (c *credentials) renewHost(ctx context.Context) (time.Duration, error) {
	chain, err := os.ReadFile(c.storage.CertFile())
	if err != nil {
		return 0, fmt.Errorf("cannot read this host's certificate: %w", err)
	}
	due, err := c.due(chain)
	if err != nil || due > 0 && c.ofRole(chain) {
		return due, err
	}
	if c.id.Voter != nil {
		chain, err = c.id.Issuer.SignHost(&c.id.Key.PublicKey, c.self, c.cluster, c.now())
	} else {
		chain, err = c.ask(ctx, chain)
	}
	if err != nil {
		return 0, err
	}
	if err := c.storage.SaveCertificate(chain); err != nil {
		return 0, err
	}
	c.log.Info("renewed this host's certificate")
	return c.due(chain)
}

// ofRole reports whether a host's certificate is a voter's where the host votes, and not elsewhere.
func (c *credentials) ofRole(chainPEM []byte) bool {
	chain, err := pki.ParseChain(chainPEM)
	return err == nil && slices.Contains(chain[0].DNSNames, pki.VoterName) == c.self.Voter
}

// ask has a voter sign. It shows no certificate, since its own may have expired.
func (c *credentials) ask(ctx context.Context, chain []byte) ([]byte, error) {
	client := api.NewClient(endpoints(c.voters()), pki.ClientConfig(c.id.Root, nil, pki.VoterName))
	defer client.Close()
	reply, err := client.Renew(ctx, api.RenewRequest{Certificate: string(chain)})
	return []byte(reply.Certificate), err
}

// minter makes a pair of credentials for a voter.
type minter func(h roster.Host, clusterID string, now time.Time) (pki.Pair, error)

// remint replaces a voter's pair if it is due or is not there.
func (c *credentials) remint(file string, mint minter) (time.Duration, error) {
	pair, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if src, err := pki.NewSource(file, file); err == nil {
		if due := c.until(src.Leaf()); due > 0 {
			return due, nil
		}
	}
	fresh, err := mint(c.self, c.cluster, c.now())
	if err != nil {
		return 0, err
	}
	if err := pki.WritePair(file, fresh); err != nil {
		return 0, err
	}
	c.log.Debug("minted credentials", "file", file, "replaced", len(pair) > 0)
	return c.due(fresh.CertPEM)
}

// due says how long it is until a chain is to be renewed, 0 if it is now.
func (c *credentials) due(chainPEM []byte) (time.Duration, error) {
	chain, err := pki.ParseChain(chainPEM)
	if err != nil {
		return 0, err
	}
	return c.until(chain[0]), nil
}

func (c *credentials) until(leaf *x509.Certificate) time.Duration {
	return max(0, pki.RenewAt(leaf).Sub(c.now()))
}

func endpoints(members roster.Roster) []api.Endpoint {
	list := make([]api.Endpoint, len(members))
	for i, h := range members {
		list[i] = api.Endpoint{Name: h.Name, Address: h.APIAddress(), Voter: h.Voter}
	}
	return list
}
