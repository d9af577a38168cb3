package voter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// A voter that joins an existing cluster must name its members exactly, and they may have changed since it was told, as
// when it crashed between being admitted and its first start. So it asks them.
const (
	askMembersTimeout = 2 * time.Second // for all members together
	maxMembersAnswer  = 1 << 20         // bytes
)

// currentMembers returns role's members as one of them knows them now, or as they are when none answers.
func currentMembers(ctx context.Context, cfg Config, credentials transport.TLSInfo) (map[string]string, error) {
	config, err := credentials.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("cannot use the credentials of a peer: %w", err)
	}
	carrier := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer carrier.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, askMembersTimeout)
	defer cancel()
	known := cfg.Role.InitialCluster
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if name == cfg.Host.ID {
			continue
		}
		members, err := askMembers(ctx, carrier, known[name])
		if err != nil {
			cfg.Log.Debug("cannot ask for the members", "peer", known[name], "error", err)
			continue
		}
		if current := roleAmong(members, cfg.Host).InitialCluster; current[cfg.Host.ID] != "" {
			return current, nil
		}
	}
	return known, nil
}

// askMembers reads what etcd's peers tell each other (etcdhttp.peerMembersHandler).
func askMembers(ctx context.Context, carrier http.RoundTripper, peerURL string) ([]*pb.Member, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+"/members", nil)
	if err != nil {
		return nil, err
	}
	resp, err := carrier.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer []struct {
		ID       uint64   `json:"id"`
		Name     string   `json:"name"`
		PeerURLs []string `json:"peerURLs"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMembersAnswer)).Decode(&answer); err != nil {
		return nil, err
	}
	members := make([]*pb.Member, len(answer))
	for i, m := range answer {
		members[i] = &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs}
	}
	return members, nil
}
