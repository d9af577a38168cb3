package voter

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Files are the credentials of a voter, which etcd reads anew at every handshake.
type Files struct {
	CA       string // root certificate
	HostCert string // host's chain, shown to clients
	HostKey  string
	Peer     string // pki.MintPeer's pair in one file (pki.WritePair)
}

// Config is what a voter needs to start.
type Config struct {
	Host   roster.Host // its ID names the member; its address and ports are where it listens
	Listen string      // IP address to listen on where that is not Host.Address, as behind NAT
	Dir    string      // etcd's data, mode 0700; made if needed
	Role   join.VoterRole
	Files  Files
	Timing Timing // zero means OneSite
	// Relay is with what this voter is root to the others, by a pki.MintControl certificate: it takes hosts' signs of life on
	// lines then, and passes all of them on to the leader, which etcd does with far more work. nil leaves it to etcd.
	Relay *tls.Config
	Log   *slog.Logger
	Quota int64 // of the database, bytes; 0 for 8 GiB
}

// Tuning that does not depend on the cluster.
const (
	quotaBytes = 8 << 30 // of the database; etcd advises against more

	// How much of raft's log is kept in memory and on disk for followers that lag: at most snapshotEvery + catchUp entries
	// of about 1 KB. A follower further behind gets a snapshot, which is small.
	snapshotEvery = 5000
	catchUp       = 1000

	// keepRevisions is how long old revisions are kept. Watches of muster resume within seconds or read anew.
	keepRevisions = "10m"

	maxStreams = 1024 // at once on one client's connection; an agent has about ten

	// snapshotFiles and walFiles are how many old ones are kept.
	snapshotFiles = 2
	walFiles      = 2
)

// embedConfig translates Config into etcd's.
func embedConfig(cfg Config, options ...grpc.ServerOption) (*embed.Config, error) {
	timing := cfg.Timing.orDefault()
	if err := timing.validate(); err != nil {
		return nil, err
	}
	if err := cfg.Host.Validate(); err != nil {
		return nil, err
	}
	ec := embed.NewConfig()
	ec.Name = cfg.Host.ID
	ec.Dir = cfg.Dir
	ec.ClusterState = cfg.Role.State
	ec.InitialCluster = initialCluster(cfg.Role.InitialCluster)
	ec.InitialClusterToken = cfg.Role.ClusterToken
	ec.TickMs = uint(timing.Heartbeat / time.Millisecond)
	ec.ElectionMs = uint(timing.Election / time.Millisecond)
	setListeners(ec, cfg)
	if err := setTLS(ec, cfg.Files); err != nil {
		return nil, err
	}
	setTuning(ec)
	ec.QuotaBackendBytes = cmp.Or(cfg.Quota, quotaBytes)
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(cfg.Log))
	ec.GRPCAdditionalServerOptions = append(options,
		grpc.StaticStreamWindowSize(store.StreamWindow), grpc.StaticConnWindowSize(store.ConnWindow))
	return ec, nil
}

// initialCluster renders etcd's name=url,name=url, sorted.
func initialCluster(members map[string]string) string {
	var parts []string
	for name, peerURL := range members {
		parts = append(parts, name+"="+peerURL)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// setListeners has gRPC alone on the client port. etcd then wants a second one for its HTTP endpoints (metrics, health):
// it gets one on loopback that also asks for a certificate.
func setListeners(ec *embed.Config, cfg Config) {
	listen := cfg.Listen
	if listen == "" {
		listen = cfg.Host.Address
	}
	at := func(address string, port int) []url.URL {
		return []url.URL{{Scheme: "https", Host: net.JoinHostPort(address, fmt.Sprint(port))}}
	}
	ec.ListenPeerUrls = at(listen, cfg.Host.Ports.Peer)
	ec.ListenClientUrls = at(listen, cfg.Host.Ports.Client)
	ec.ListenClientHttpUrls = at("127.0.0.1", 0)
	ec.AdvertisePeerUrls = at(cfg.Host.Address, cfg.Host.Ports.Peer)
	ec.AdvertiseClientUrls = at(cfg.Host.Address, cfg.Host.Ports.Client)
	ec.EnableGRPCGateway = false
}

// setTLS does not compare the address a client comes from with its certificate's (SkipClientSANVerify): hosts that share
// an interface, or are behind NAT, come from another. It looks at the files first, because etcd leaves its ports open
// when it finds them missing (transport.newTLSListener).
func setTLS(ec *embed.Config, f Files) error {
	ec.TlsMinVersion = "TLS1.3"
	ec.PeerTLSInfo = transport.TLSInfo{
		CertFile: f.Peer, KeyFile: f.Peer, TrustedCAFile: f.CA, ClientCertAuth: true,
		AllowedCNs: []string{pki.CNPeer}, SkipClientSANVerify: true,
	}
	ec.ClientTLSInfo = transport.TLSInfo{
		CertFile: f.HostCert, KeyFile: f.HostKey, TrustedCAFile: f.CA, ClientCertAuth: true, SkipClientSANVerify: true,
	}
	for _, info := range []transport.TLSInfo{ec.PeerTLSInfo, ec.ClientTLSInfo} {
		if _, err := info.ServerConfig(); err != nil {
			return fmt.Errorf("cannot use the credentials: %w", err)
		}
	}
	return nil
}

func setTuning(ec *embed.Config) {
	ec.PreVote = true
	ec.StrictReconfigCheck = true
	ec.InitialElectionTickAdvance = true
	ec.SnapshotCount = snapshotEvery
	ec.SnapshotCatchUpEntries = catchUp
	ec.MaxSnapFiles = snapshotFiles
	ec.MaxWalFiles = walFiles
	ec.BackendFreelistType = "map"
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = keepRevisions
	ec.MaxConcurrentStreams = maxStreams
	ec.MaxTxnOps = 256 // a commit of store.Commit's 128 Ops, and its guards
	ec.WarningApplyDuration = time.Second
	ec.WarningUnaryRequestDuration = 2 * time.Second
	ec.GRPCKeepAliveInterval = time.Minute // hosts ask sooner themselves (store.Etcd), and need not be asked then
	ec.GRPCKeepAliveTimeout = 5 * time.Second
	ec.MaxRequestBytes = min(ec.MaxRequestBytes, math.MaxInt32)
}
