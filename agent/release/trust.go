package release

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Bounds of metadata files in bytes, and of how far a version may leap at once.
const (
	maxRoot      = 512 << 10
	maxTimestamp = 16 << 10
	maxSnapshot  = 1 << 20
	maxTargetsMD = 16 << 20

	// maxRoots is how many new roots are taken at once. Who rotates a key every day is caught up with after a year.
	maxRoots = 512
	// maxLeap is how much newer than what is known a version may be. A repository that is refreshed every minute gets there in
	// two years.
	maxLeap = 1_000_000
	// maxVersion is the highest whole number that every reader of JSON has the same of (RFC 8259, section 6).
	maxVersion = 1<<53 - 1
)

// errMalformed is metadata that is none.
var errMalformed = errors.New("it is not TUF metadata")

// outline is what of a metadata file must be there before the library reads it, which it does before it knows who wrote it.
type outline struct {
	Signed struct {
		Type        string                      `json:"_type"`
		Version     int64                       `json:"version"`
		Keys        map[string]*json.RawMessage `json:"keys"`
		Roles       map[string]*json.RawMessage `json:"roles"`
		Meta        map[string]*json.RawMessage `json:"meta"`
		Targets     map[string]*json.RawMessage `json:"targets"`
		Delegations json.RawMessage             `json:"delegations"`
	} `json:"signed"`
}

// needs are the entries that a role's metadata has.
var needs = map[string]struct{ roles, meta []string }{
	metadata.ROOT:      {roles: metadata.TOP_LEVEL_ROLE_NAMES[:]},
	metadata.TIMESTAMP: {meta: []string{"snapshot.json"}},
	metadata.SNAPSHOT:  {meta: []string{"targets.json"}},
	metadata.TARGETS:   {},
}

// wellFormed refuses metadata that the library would stumble over.
func wellFormed(role string, data []byte) error {
	var o outline
	if err := json.Unmarshal(data, &o); err != nil {
		return fmt.Errorf("%w: %v", errMalformed, err)
	}
	s := o.Signed
	if s.Type != role {
		return fmt.Errorf("%w: it is a %q, not a %s", errMalformed, s.Type, role)
	}
	if s.Version < 1 || len(s.Delegations) > 0 {
		return fmt.Errorf("%w: its version is below 1, or it delegates", errMalformed)
	}
	for _, entries := range []map[string]*json.RawMessage{s.Keys, s.Roles, s.Meta, s.Targets} {
		for name, entry := range entries {
			if entry == nil {
				return fmt.Errorf("%w: %q is null", errMalformed, name)
			}
		}
	}
	for _, name := range needs[role].roles {
		if s.Roles[name] == nil {
			return fmt.Errorf("%w: it has no role %s", errMalformed, name)
		}
	}
	for _, name := range needs[role].meta {
		if s.Meta[name] == nil {
			return fmt.Errorf("%w: it does not name %s", errMalformed, name)
		}
	}
	return nil
}

// attackOf tells which attack an error of the library stands for; version is what a version that does not fit stands for.
func attackOf(err error, version Attack) (Attack, bool) {
	if attack := Attack(""); errors.As(err, &attack) {
		return attack, true
	}
	switch {
	case is[*metadata.ErrExpiredMetadata](err):
		return IndefiniteFreeze, true
	case is[*metadata.ErrUnsignedMetadata](err):
		return KeyCompromise, true
	case is[*metadata.ErrLengthOrHashMismatch](err):
		return MixAndMatch, true
	case is[*metadata.ErrBadVersionNumber](err):
		return version, true
	}
	return "", false
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// leap refuses a version that is too far from the one that is known; 0 is none.
func leap(known, got int64) error {
	if got > maxVersion || known > 0 && got-known > maxLeap {
		return fmt.Errorf("%w: from version %d to %d", FastForward, known, got)
	}
	return nil
}
