package apply

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
)

// admission is the admitting of several waiting hosts at the same time. Failures are noted by host.
type admission struct {
	quorum chan struct{} // closed when a majority of the voters has joined
	over   chan struct{} // closed when every host has joined or failed

	mu   sync.Mutex
	need int // voters that are missing to a majority
}

// wait waits until every host has joined or failed.
func (a *admission) wait() { <-a.over }

// joined counts a voter.
func (a *admission) joined() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.need--; a.need == 0 {
		close(a.quorum)
	}
}

// server is what the operator serves on connections that it dials.
type server struct {
	tls     *tls.Config
	handler http.Handler
}

func (r *run) server(b state.Bootstrap) (server, error) {
	source, err := pki.NewStaticSource(r.keys.Operator)
	if err != nil {
		return server{}, err
	}
	config := pki.ServerConfig(r.keys.Root.Cert, source, tls.NoClientCert)
	return server{config, join.Handler(&admitter{run: r, bootstrap: b}, r.deps.Log.With(slog.String("role", "operator")))}, nil
}

// admitAll begins to admit every first member that is not absent and has not joined, until ctx ends. The caller waits.
func (r *run) admitAll(ctx context.Context, b state.Bootstrap, absent map[string]bool) (*admission, error) {
	s, err := r.server(b)
	if err != nil {
		return nil, err
	}
	a := &admission{quorum: make(chan struct{}), over: make(chan struct{}), need: len(b.InitialCluster)/2 + 1}
	var g errgroup.Group
	for _, h := range b.Roster {
		switch {
		case r.machine(refOfHost(h)).Joined:
			if h.Voter {
				a.joined()
			}
		case !absent[h.ID]:
			g.Go(func() error {
				err := r.admit(ctx, h, s)
				switch {
				case err == nil && h.Voter:
					a.joined()
				case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errGivenUp):
					r.fail(h.Name, h.Provider, PhaseJoin, err)
				}
				return nil
			})
		}
	}
	go func() {
		_ = g.Wait()
		close(a.over)
	}()
	return a, nil
}

func refOfHost(h roster.Host) state.Ref { return state.Ref{Name: h.Name, Generation: h.Generation} }

// admit dials a waiting host until it has joined, is refused for good, or ctx ends. A host that does not wait although it
// has been told has joined.
func (r *run) admit(ctx context.Context, h roster.Host, s server) error {
	r.report(Event{Host: h.Name, Provider: h.Provider, Phase: PhaseBoot, Message: "waiting until it listens on " + h.APIAddress()})
	ref := refOfHost(h)
	rest := pauses{20 * time.Millisecond, 500 * time.Millisecond}
	for {
		err := r.admitOnce(ctx, h, s)
		if err == nil || errors.Is(err, join.ErrNotWaiting) && r.machine(ref).Admitted {
			r.report(Event{Host: h.Name, Provider: h.Provider, Phase: PhaseJoin, Message: "knows the cluster"})
			return r.record(state.Entry{Kind: state.KindJoined, Host: &ref})
		}
		if refused(err) {
			return err
		}
		if r.hasFailed(h.Name) {
			return errGivenUp
		}
		r.deps.Log.Debug("host not admitted yet", "host", h.Name, "error", err)
		if rest.rest(ctx) == nil {
			continue
		}
		if cause := context.Cause(ctx); !errors.Is(cause, errTimeout) {
			return cause
		}
		return r.notReady(h.Name, h.Provider, err.Error())
	}
}

func (r *run) admitOnce(ctx context.Context, h roster.Host, s server) error {
	conn, err := r.deps.Dial(ctx, "tcp", h.APIAddress())
	if err != nil {
		return err
	}
	return join.ServeConn(ctx, conn, s.tls, s.handler)
}

// errGivenUp ends waiting for a host of which it is known already why it does not come.
var errGivenUp = errors.New("the host has failed")

// refused reports whether a host will never be admitted with the token that it has.
func refused(err error) bool {
	for _, final := range []error{join.ErrTokenUnknown, join.ErrTokenExpired, join.ErrTokenUsed, join.ErrTokenHost, join.ErrBadRequest} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
