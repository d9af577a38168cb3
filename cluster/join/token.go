package join

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Errors of a join. Those of the token are final: the host needs new user-data. An Admitter returns them, and Run returns
// them on the host, as they travel with the answer.
var (
	ErrTokenUnknown = errors.New("the join token is not known to the cluster")
	ErrTokenExpired = errors.New("the join token has expired")
	ErrTokenUsed    = errors.New("the join token was used with another key")
	ErrTokenHost    = errors.New("the join token belongs to another host")
	ErrBadRequest   = errors.New("the join request is malformed")
	// ErrNotForming says that this side cannot admit hosts now; the host asks again.
	ErrNotForming = errors.New("cannot admit hosts at the moment")
	// ErrNotWaiting says that the host dialled did not begin to speak: it has joined already, or is about to listen.
	ErrNotWaiting = errors.New("the host does not wait to be admitted")
)

// tokenBytes is how much randomness a token's secret has.
const tokenBytes = 32

// NewToken makes a secret for user-data and its hash for the record.
func NewToken() (secret, hash string) {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	return secret, HashToken(secret)
}

// HashToken is the SHA-256 of a secret in hexadecimal, the name of a token in records.
func HashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// MatchToken reports in constant time whether secret is the one with this hash.
func MatchToken(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashToken(secret)), []byte(hash)) == 1
}

// Redeem decides whether a token, which the caller found by the hash of the secret, admits the host that presents it. It
// returns the token as it is to be recorded. pubHash is the pki.PublicKeyHash of the request's key.
//
// The first use must come before the token expires. The same key may repeat the join after that, because its answer may
// have been lost, for as long as the record is kept.
func Redeem(tok store.Token, req Request, pubHash string, now time.Time) (store.Token, error) {
	if tok.Host.ID != req.HostID || tok.Host.Name != req.Host {
		return tok, ErrTokenHost
	}
	if tok.UsedBy != "" {
		if subtle.ConstantTimeCompare([]byte(tok.UsedBy), []byte(pubHash)) != 1 {
			return tok, ErrTokenUsed
		}
		return tok, nil
	}
	if !now.Before(tok.Expires) {
		return tok, ErrTokenExpired
	}
	tok.UsedBy = pubHash
	return tok, nil
}

// Place completes what a token says of a host with where it listens: the address from which it dialled, which it cannot
// choose, and the ports that it names.
func Place(h roster.Host, req Request, remote netip.Addr) (roster.Host, error) {
	h.Address = remote.Unmap().WithZone("").String()
	h.Ports = req.Facts.Ports.OrDefault()
	if err := h.Validate(); err != nil {
		return roster.Host{}, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return h, nil
}
