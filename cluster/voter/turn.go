package voter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// First members that start at the same moment hold each other up: each opens its peer port, then asks all others whether
// it has been bootstrapped before (etcdserver.isMemberBootstrapped), and they do not answer until they have asked
// themselves. etcd gives up after one second for each. So first members start in the order of their IDs, each when the
// one before it answers; the first asks ports that are still closed, and the rest get answers. Three members then need
// about 0.3 s instead of 2.2 s.
const (
	turnTimeout = 2 * time.Second // until a member starts without the one before it
	turnPause   = 10 * time.Millisecond
)

// before is the peer URL of the member that starts before the one named id, "" for the first.
func before(members map[string]string, id string) string {
	order := slices.Sorted(maps.Keys(members))
	if at := slices.Index(order, id); at > 0 {
		return members[order[at-1]]
	}
	return ""
}

// awaitTurn returns when the peer at peerURL answers, or has not for turnTimeout.
func awaitTurn(ctx context.Context, peerURL string, credentials transport.TLSInfo, log *slog.Logger) error {
	config, err := credentials.ClientConfig()
	if err != nil {
		return fmt.Errorf("cannot use the credentials of a peer: %w", err)
	}
	carrier := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer carrier.CloseIdleConnections()
	waiting, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	for {
		if answers(waiting, carrier, peerURL) {
			return nil
		}
		pause := time.NewTimer(turnPause)
		select {
		case <-pause.C:
		case <-waiting.Done():
			pause.Stop()
			if ctx.Err() == nil {
				log.Warn("start without waiting longer for another first voter", "peer", peerURL)
			}
			return ctx.Err()
		}
	}
}

// answers asks for the version, which a peer tells as soon as it serves, and waits while it does not serve yet.
func answers(ctx context.Context, carrier http.RoundTripper, peerURL string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+"/version", nil)
	if err != nil {
		return false
	}
	resp, err := carrier.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return true
}
