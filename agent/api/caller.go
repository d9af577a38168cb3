package api

import (
	"crypto/tls"
	"errors"
	"net/http"

	"github.com/musterhq/muster/cluster/pki"
)

// Role is what a caller of the API is, for the purpose of what it may do.
type Role int

// The roles of callers.
const (
	Anonymous Role = 1 << iota // no certificate: a host that wants to join
	Host                       // an agent, for itself
	Voter                      // an agent that votes, for the cluster
	Operator                   // the CLI
	Socket                     // a process of this host on the unix socket
)

var roleNames = map[Role]string{
	Anonymous: "a caller without a certificate", Host: "a host", Voter: "a voter", Operator: "an operator",
	Socket: "a local process",
}

// String says what the role is in a sentence.
func (r Role) String() string { return roleNames[r] }

// Caller is who sent a request. ID is the host ID of hosts and voters.
type Caller struct {
	Role Role
	ID   string
}

// identify reads the caller from a verified connection. A certificate of another cluster does not come this far, since
// its root is another; the cluster ID is compared all the same.
func identify(state *tls.ConnectionState, clusterID string) (Caller, error) {
	if state == nil {
		return Caller{}, Errorf(http.StatusForbidden, "connect with TLS", "this is not a TLS connection")
	}
	peer, err := pki.PeerFromState(*state)
	if errors.Is(err, pki.ErrNoCertificate) {
		return Caller{Role: Anonymous}, nil
	}
	const hint = "use the certificate that `muster` or the join gave you"
	if err != nil {
		return Caller{}, Errorf(http.StatusForbidden, hint, "%v", err)
	}
	if peer.ClusterID != clusterID {
		return Caller{}, Errorf(http.StatusForbidden, hint, "the certificate is of cluster %s, this is %s",
			peer.ClusterID, clusterID)
	}
	switch peer.Role {
	case pki.RoleHost:
		return Caller{Role: Host, ID: peer.ID}, nil
	case pki.RoleVoter:
		return Caller{Role: Voter, ID: peer.ID}, nil
	case pki.RoleOperator:
		return Caller{Role: Operator}, nil
	}
	return Caller{}, Errorf(http.StatusForbidden, hint, "a certificate of %s gives no access to the API", peer.Role)
}
