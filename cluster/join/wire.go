package join

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// Bounds of messages in bytes, of deadlines in time. A reply carries the roster, about 250 bytes a host.
const (
	maxRequest = 64 << 10
	maxReply   = 4 << 20
	maxHeader  = 8 << 10

	handshakeTimeout = 5 * time.Second
	admitTimeout     = 10 * time.Second
	exchangeTimeout  = 20 * time.Second
	firstByteTimeout = time.Second
)

// wireError is the body of every answer that is not 200. Its first two fields are those of the agent's API.
type wireError struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
	Code    string `json:"code,omitempty"`
}

// refusal is how an error travels.
type refusal struct {
	err    error
	code   string
	status int
	hint   string
}

var refusals = []refusal{
	{
		ErrTokenUnknown, "token_unknown", http.StatusForbidden,
		"the host needs the user-data of its own creation; create it again with `muster up`",
	},
	{ErrTokenExpired, "token_expired", http.StatusForbidden, "create the host again with `muster up`"},
	{
		ErrTokenUsed, "token_used", http.StatusForbidden,
		"a token admits one host once; if this host lost its disk, create it again with `muster up`",
	},
	{ErrTokenHost, "token_host", http.StatusForbidden, "user-data cannot be moved from one host to another"},
	{ErrBadRequest, "bad_request", http.StatusBadRequest, "musterd here and there may be of different versions"},
	{ErrNotForming, "not_forming", http.StatusServiceUnavailable, "the host asks again by itself"},
}

// errInternal is what a host learns of failures that are not its business.
var errInternal = refusal{
	errors.New("cannot admit the host"), "internal", http.StatusInternalServerError,
	"see the log of the voter that answered",
}

func refusalOf(err error) refusal {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r
		}
	}
	return errInternal
}

// final reports whether asking again cannot help.
func final(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.status < http.StatusInternalServerError
		}
	}
	return false
}

// decodeRequest reads a join request and checks everything that needs no records.
func decodeRequest(r io.Reader) (Request, *ecdsa.PublicKey, error) {
	var req Request
	if err := decodeJSON(r, maxRequest, &req); err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if !roster.ValidID(req.HostID) || !roster.ValidName(req.Host) {
		return Request{}, nil, fmt.Errorf("%w: no host name or ID", ErrBadRequest)
	}
	if req.Token == "" || len(req.Token) > 4*tokenBytes {
		return Request{}, nil, fmt.Errorf("%w: no token", ErrBadRequest)
	}
	pub, err := pki.ParseCSR([]byte(req.CSR))
	if err != nil {
		return Request{}, nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return req, pub, nil
}

// decodeReply reads an answer with its HTTP status.
func decodeReply(status int, body io.Reader) (Reply, error) {
	if status != http.StatusOK {
		return Reply{}, decodeRefusal(status, body)
	}
	var reply Reply
	if err := decodeJSON(body, maxReply, &reply); err != nil {
		return Reply{}, fmt.Errorf("cannot read the answer: %w", err)
	}
	return reply, nil
}

func decodeRefusal(status int, body io.Reader) error {
	var e wireError
	if err := decodeJSON(body, maxRequest, &e); err != nil {
		return fmt.Errorf("the answer was status %d and unreadable: %w", status, err)
	}
	for _, r := range refusals {
		if e.Code == r.code && status == r.status {
			return fmt.Errorf("%w; %s", r.err, r.hint)
		}
	}
	return fmt.Errorf("the answer was status %d: %q", status, e.Message)
}

// decodeJSON reads one JSON value of at most limit bytes and nothing after it. Fields that are not known are passed over,
// as the two sides may be of different versions.
func decodeJSON(r io.Reader, limit int64, v any) error {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(raw)) > limit {
		return fmt.Errorf("longer than %d bytes", limit)
	}
	return json.Unmarshal(raw, v)
}

// Check verifies that a reply is for this host and this key: the certificate leads to the pinned root and is valid at
// now, the roster holds the host, and a voter's issuer is of the cluster.
func (r Reply) Check(cfg Config, key *ecdsa.PublicKey, now time.Time) error {
	root, err := pki.ParseCert([]byte(cfg.CA))
	if err != nil {
		return fmt.Errorf("cannot use the cluster's root certificate: %w", err)
	}
	peer, leaf, err := pki.Verify(root, []byte(r.Certificate), now)
	if err != nil {
		return err
	}
	if want := (pki.Peer{Role: pki.RoleHost, ID: cfg.HostID, ClusterID: cfg.ClusterID}); peer != want {
		return fmt.Errorf("cannot use the certificate: it is for %s of cluster %s", peer, peer.ClusterID)
	}
	if !key.Equal(leaf.PublicKey) {
		return errors.New("cannot use the certificate: it is for another key")
	}
	if h, ok := r.Roster.ByID(cfg.HostID); !ok || h.Voter != (r.Voter != nil) {
		return errors.New("cannot use the answer: the roster does not have this host in this role")
	}
	if r.Voter == nil {
		return nil
	}
	return r.Voter.check(cfg)
}

func (v VoterRole) check(cfg Config) error {
	if v.State != StateNew && v.State != StateExisting {
		return fmt.Errorf("cannot vote: state %q is unknown", v.State)
	}
	if _, ok := v.InitialCluster[cfg.HostID]; !ok {
		return errors.New("cannot vote: the initial cluster does not have this host")
	}
	issuer, err := pki.LoadAuthority([]byte(v.IssuerCertificate), []byte(v.IssuerKey))
	if err != nil {
		return fmt.Errorf("cannot vote: %w", err)
	}
	if issuer.ClusterID() != cfg.ClusterID {
		return errors.New("cannot vote: the issuer is of another cluster")
	}
	return nil
}
