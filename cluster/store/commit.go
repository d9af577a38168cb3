package store

import (
	"errors"
	"fmt"
	"strings"
)

// MaxOps is how many Ops, and how many Guards, one Commit may have (etcd's --max-txn-ops, whose default it is).
const MaxOps = 128

// ErrInvalid says that a commit breaks the rules of Commit; no store would take it.
var ErrInvalid = errors.New("invalid commit")

// errClosed is what a client says after Close.
var errClosed = fmt.Errorf("%w: the client is closed", ErrUnavailable)

// check refuses a commit that one implementation would take and another not.
func (c Commit) check() error {
	if len(c.Ops) > MaxOps || len(c.Guards) > MaxOps {
		return fmt.Errorf("cannot commit: %w: %d ops and %d guards, at most %d of each",
			ErrInvalid, len(c.Ops), len(c.Guards), MaxOps)
	}
	for _, g := range c.Guards {
		if g.Key == "" {
			return fmt.Errorf("cannot commit: %w: guard without key", ErrInvalid)
		}
	}
	return c.checkOps()
}

func (c Commit) checkOps() error {
	keys := make(map[string]bool, len(c.Ops))
	var prefixes []string
	for _, op := range c.Ops {
		switch {
		case op.Key == "" && !op.Prefix:
			return fmt.Errorf("cannot commit: %w: op without key", ErrInvalid)
		case op.Prefix && !op.Delete:
			return fmt.Errorf("cannot commit: %w: put of prefix %q", ErrInvalid, op.Key)
		case op.Prefix:
			prefixes = append(prefixes, op.Key)
		case keys[op.Key]:
			return fmt.Errorf("cannot commit: %w: key %q twice", ErrInvalid, op.Key)
		default:
			keys[op.Key] = true
		}
	}
	for i, prefix := range prefixes {
		for key := range keys {
			if strings.HasPrefix(key, prefix) {
				return fmt.Errorf("cannot commit: %w: key %q also under prefix %q", ErrInvalid, key, prefix)
			}
		}
		for _, other := range prefixes[i+1:] {
			if strings.HasPrefix(other, prefix) || strings.HasPrefix(prefix, other) {
				return fmt.Errorf("cannot commit: %w: prefixes %q and %q overlap", ErrInvalid, prefix, other)
			}
		}
	}
	return nil
}
