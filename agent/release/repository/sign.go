package repository

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// signers are the keys that ordinary changes need.
type signers map[string][]key

// onlineRoles change with every release.
var onlineRoles = []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}

func (r *Repository) signers(s *state, roles ...string) (signers, error) {
	all := signers{}
	for _, role := range roles {
		named := s.root.Signed.Roles[role]
		keys, err := loadKeys([]string{r.Keys}, role, named.KeyIDs, nil)
		if err != nil {
			return nil, err
		}
		if len(keys) < named.Threshold {
			return nil, fmt.Errorf("cannot sign the %s: %d of the keys that the root names are in %s, and it takes %d; name the directory with --keys",
				role, len(keys), r.Keys, named.Threshold)
		}
		all[role] = keys
	}
	return all, nil
}

// commit writes the next version of targets, if they changed, and of snapshot and timestamp, which is what makes it be seen.
func (r *Repository) commit(s *state, keys signers, targetsChanged bool) error {
	now := r.Now().UTC().Truncate(time.Second)
	if targetsChanged {
		s.targets.Signed.Version++
		s.targets.Signed.Expires = now.Add(TargetsLife)
		meta, err := write(r, s.targets, keys[metadata.TARGETS], versioned(metadata.TARGETS, s.targets.Signed.Version), s.targets.Signed.Version)
		if err != nil {
			return err
		}
		s.snapshot.Signed.Meta["targets.json"] = meta
	}
	s.snapshot.Signed.Version++
	s.snapshot.Signed.Expires = now.Add(r.Life)
	meta, err := write(r, s.snapshot, keys[metadata.SNAPSHOT], versioned(metadata.SNAPSHOT, s.snapshot.Signed.Version), s.snapshot.Signed.Version)
	if err != nil {
		return err
	}
	s.timestamp.Signed.Version++
	s.timestamp.Signed.Expires = now.Add(r.Life)
	s.timestamp.Signed.Meta["snapshot.json"] = meta
	_, err = write(r, s.timestamp, keys[metadata.TIMESTAMP], "timestamp.json", s.timestamp.Signed.Version)
	return err
}

// write signs metadata, writes it, and returns what names it elsewhere.
func write[T metadata.Roles](r *Repository, md *metadata.Metadata[T], keys []key, name string, version int64) (*metadata.MetaFiles, error) {
	md.Signatures = nil
	for _, k := range keys {
		signer, err := k.signer()
		if err == nil {
			_, err = md.Sign(signer)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot sign %s: %w", name, err)
		}
	}
	data, err := md.ToBytes(true)
	if err != nil {
		return nil, fmt.Errorf("cannot sign %s: %w", name, err)
	}
	if err := writeFile(r.metadata(name), data, 0o644); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Version: version, Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}, nil
}

// change loads the repository, lets a function change its targets, and commits. The function says whether it did.
func (r *Repository) change(f func(*state) (bool, error)) error {
	unlock, err := lock(r.Keys)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.load()
	if err != nil {
		return err
	}
	if err := s.verify(); err != nil {
		return err
	}
	keys, err := r.signers(s, onlineRoles...)
	if err != nil {
		return err
	}
	changed, err := f(s)
	if err != nil {
		return err
	}
	return r.commit(s, keys, changed)
}

// Refresh signs snapshot and timestamp again, and targets when half their life is over, so that hosts go on trusting them.
func (r *Repository) Refresh() error {
	return r.change(func(s *state) (bool, error) {
		return s.targets.Signed.Expires.Sub(r.Now()) < TargetsLife/2, nil
	})
}

// Rotate makes a new root: with new keys for some roles, if any are named, and a new life. It needs as many of the root's keys as
// the root asks for, in files or directories; passphrase encrypts the new root key, if there is one.
func (r *Repository) Rotate(rootKeys []string, roles []string, ask Passphrase, passphrase string) error {
	unlock, err := lock(r.Keys)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.load()
	if err != nil {
		return err
	}
	root := s.root.Signed
	named := root.Roles[metadata.ROOT]
	signing, err := loadKeys(append([]string{r.Keys}, rootKeys...), metadata.ROOT, named.KeyIDs, ask)
	if err != nil {
		return err
	}
	if len(signing) < named.Threshold {
		return fmt.Errorf("cannot sign the root: %d of its keys are here, and it takes %d; bring their files and name them with --root-key",
			len(signing), named.Threshold)
	}
	for _, role := range withBoth(roles) {
		made, err := r.replaceKeys(&s.root.Signed, role, passphrase)
		if err != nil {
			return err
		}
		if role == metadata.ROOT {
			signing = append(signing, made...)
		}
	}
	s.root.Signed.Version++
	s.root.Signed.Expires = r.Now().UTC().Truncate(time.Second).Add(RootLife)
	if _, err := write(r, s.root, signing, versioned(metadata.ROOT, s.root.Signed.Version), s.root.Signed.Version); err != nil {
		return err
	}
	keys, err := r.signers(s, onlineRoles...)
	if err != nil {
		return err
	}
	return r.commit(s, keys, true)
}

// withBoth adds the snapshot to the timestamp and the other way round: hosts forget both when a key of either was replaced.
func withBoth(roles []string) []string {
	seen := map[string]bool{}
	for _, role := range roles {
		seen[role] = true
		if role == metadata.SNAPSHOT || role == metadata.TIMESTAMP {
			seen[metadata.SNAPSHOT], seen[metadata.TIMESTAMP] = true, true
		}
	}
	var all []string
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		if seen[role] {
			all = append(all, role)
		}
	}
	return all
}

// replaceKeys makes as many new keys for a role as it has, in the root that is to be.
func (r *Repository) replaceKeys(root *metadata.RootType, role, passphrase string) ([]key, error) {
	named := root.Roles[role]
	if named == nil {
		return nil, errors.New("cannot replace the keys of a role that the root does not name")
	}
	if role != metadata.ROOT {
		passphrase = ""
	}
	old := named.KeyIDs
	named.KeyIDs = nil
	var made []key
	for range old {
		k, err := r.createKey(role, passphrase)
		if err != nil {
			return nil, err
		}
		root.Keys[k.id] = k.public
		named.KeyIDs = append(named.KeyIDs, k.id)
		made = append(made, k)
	}
	for _, id := range old {
		delete(root.Keys, id)
	}
	return made, nil
}
