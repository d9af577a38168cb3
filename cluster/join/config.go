// Package join is how a host becomes a member: it proves with a single-use token that it is the host which the
// operator asked for, and receives a certificate, the roster and its role.
//
// The host is always the TLS client and verifies the cluster's root CA, pinned in its user-data; the voter or operator
// is always the TLS server. Who opens the TCP connection does not matter: a host that knows voters dials them, another
// waits on its API port to be dialled and then speaks as a client on that connection. Both ways carry the same HTTP
// request, POST /v1/join.
package join

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// ConfigPath is where user-data puts a host's Config, below the host's root directory. Mode 0600.
const ConfigPath = "/etc/muster/host.json"

// Path is the URL path of the join request.
const Path = "/v1/join"

// ServerName is the DNS name in the certificates of voters and of the operator, which joining hosts verify. Other hosts'
// certificates do not carry it.
const ServerName = "join.muster.internal"

// Config is what a host is told in its user-data. It holds no private key; Token is used up by the join.
type Config struct {
	Version     int               `json:"version"` // 1
	ClusterID   string            `json:"cluster_id"`
	ClusterName string            `json:"cluster_name"`
	Host        string            `json:"host"`
	HostID      string            `json:"host_id"` // providers.Identity.ID
	Generation  int               `json:"generation"`
	Provider    string            `json:"provider"`
	Labels      map[string]string `json:"labels,omitempty"`
	CA          string            `json:"ca"`                  // root certificate, PEM
	Endpoints   []string          `json:"endpoints,omitempty"` // host:port of voters' API; none means wait to be dialled
	Token       string            `json:"token"`
	LeaseMillis int64             `json:"lease_ms"` // how long a silent host is believed to live
	// Runtime is "process" or "systemd" where one is wanted whatever the host has. Without it the host chooses.
	Runtime string `json:"runtime,omitempty"`
}

// Lease is LeaseMillis as a duration.
func (c Config) Lease() time.Duration { return time.Duration(c.LeaseMillis) * time.Millisecond }

// String names the host and never shows the token.
func (c Config) String() string {
	return fmt.Sprintf("host %s (%s) of cluster %s, token ***", c.Host, c.HostID, c.ClusterName)
}

// LogValue is String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Request is what a host sends.
type Request struct {
	Host   string       `json:"host"`
	HostID string       `json:"host_id"`
	Token  string       `json:"token"`
	CSR    string       `json:"csr"` // PKCS #10, PEM; only its public key is used
	Facts  roster.Facts `json:"facts"`
}

// String names the host and never shows the token.
func (r Request) String() string {
	return fmt.Sprintf("join of host %s (%s), token ***", r.Host, r.HostID)
}

// LogValue is String.
func (r Request) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Reply is what a host receives.
type Reply struct {
	Certificate string        `json:"certificate"` // host's certificate followed by the issuer's, PEM
	Roster      roster.Roster `json:"roster"`
	Voter       *VoterRole    `json:"voter,omitempty"` // nil for hosts that do not vote
}

// String tells the shape of the reply and shows no key.
func (r Reply) String() string {
	role := "no voter"
	if r.Voter != nil {
		role = r.Voter.String()
	}
	return fmt.Sprintf("certificate of %d bytes, roster of %d, %s", len(r.Certificate), len(r.Roster), role)
}

// LogValue is String.
func (r Reply) LogValue() slog.Value { return slog.StringValue(r.String()) }

// VoterRole is what a voter needs beyond its certificate.
type VoterRole struct {
	// State is "new" when the voters of the roster form the cluster together, "existing" when the host joins one.
	State string `json:"state"`
	// ClusterToken keeps two clusters of the same name apart (etcd's initial-cluster-token).
	ClusterToken string `json:"cluster_token"`
	// InitialCluster maps the host ID of each initial voter to its etcd peer URL. etcd members are named by host ID.
	InitialCluster map[string]string `json:"initial_cluster"`
	// IssuerCertificate and IssuerKey are the intermediate CA with which voters sign, PEM.
	IssuerCertificate string `json:"issuer_certificate"`
	IssuerKey         string `json:"issuer_key"`
	// Restore is set when the voters begin from a backup, and not from nothing.
	Restore *Restore `json:"restore,omitempty"`
}

// Restore is the beginning of a cluster from a backup.
type Restore struct {
	ID string `json:"id"` // another one each time
	// Roster is who belongs to the cluster from then on, whatever the backup says.
	Roster roster.Roster `json:"roster"`
}

// String never shows the key.
func (v VoterRole) String() string {
	return fmt.Sprintf("voter of a cluster %q of %d, issuer key ***", v.State, len(v.InitialCluster))
}

// GoString is String.
func (v VoterRole) GoString() string { return v.String() }

// LogValue is String.
func (v VoterRole) LogValue() slog.Value { return slog.StringValue(v.String()) }

// The values of VoterRole.State.
const (
	StateNew      = "new"
	StateExisting = "existing"
)
