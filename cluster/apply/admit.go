package apply

import (
	"context"
	"crypto"
	"fmt"
	"net/netip"
	"time"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/cluster/store"
)

// admitter admits the first members on behalf of the operator: it tells each the same membership, which is fixed on disk.
type admitter struct {
	run       *run
	bootstrap state.Bootstrap
}

// Admit implements join.Admitter.
func (a *admitter) Admit(_ context.Context, req join.Request, pub crypto.PublicKey, _ netip.Addr) (join.Reply, error) {
	host, ok := a.bootstrap.Roster.ByID(req.HostID)
	if !ok || host.Name != req.Host {
		return join.Reply{}, join.ErrTokenHost
	}
	if err := a.redeem(req, pub); err != nil {
		return join.Reply{}, err
	}
	ref := state.Ref{Name: host.Name, Generation: host.Generation}
	if !a.run.machine(ref).Admitted {
		if err := a.run.record(state.Entry{Kind: state.KindAdmitted, Host: &ref}); err != nil {
			return join.Reply{}, err
		}
	}
	now := a.run.deps.Now()
	chain, err := a.run.keys.Issuer.SignHost(pub, host, a.run.cluster(), now)
	if err != nil {
		return join.Reply{}, err
	}
	reply := join.Reply{Certificate: string(chain), Roster: a.bootstrap.Roster}
	if host.Voter {
		reply.Voter = &join.VoterRole{
			State: join.StateNew, ClusterToken: a.bootstrap.ClusterToken, InitialCluster: a.bootstrap.InitialCluster,
			IssuerCertificate: string(a.run.keys.Issuer.CertPEM()), IssuerKey: string(a.run.keys.Issuer.KeyPEM()),
		}
	}
	return reply, nil
}

// redeem uses the token up, on disk.
func (a *admitter) redeem(req join.Request, pub crypto.PublicKey) error {
	keyHash, err := pki.PublicKeyHash(pub)
	if err != nil {
		return fmt.Errorf("%w: %w", join.ErrBadRequest, err)
	}
	return a.run.guarded("token "+req.Host, func() error {
		return a.run.dir.Tokens().Update(join.HashToken(req.Token), func(t store.Token, ok bool) (store.Token, error) {
			if !ok {
				return t, join.ErrTokenUnknown
			}
			return join.Redeem(t, req, keyHash, a.run.deps.Now())
		})
	})
}

// issueTokens makes the tokens of the first members valid from now on. Those that were used stay as they are.
func (r *run) issueTokens(b state.Bootstrap) error {
	until := r.deps.Now().Add(r.opts.TokenTTL)
	tokens := make(map[string]store.Token)
	for _, h := range b.Roster {
		m := r.machine(refOfHost(h))
		if m.Joined || m.Token == nil {
			continue
		}
		hash := join.HashToken(string(m.Token))
		token, ok := r.dir.Tokens().Get(hash)
		if !ok {
			token = store.Token{V: store.RecordVersion, Host: h}
		}
		token.Host, token.Expires = h, later(token.Expires, until)
		tokens[hash] = token
	}
	return r.guarded("tokens", func() error { return r.dir.Tokens().Put(tokens) })
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
