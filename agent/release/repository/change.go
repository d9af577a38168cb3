package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/version"
)

// InitOptions are how a repository begins.
type InitOptions struct {
	RootKeys   int    // how many there are; 1 at least
	Threshold  int    // how many of them sign a root
	Passphrase string // encrypts the root's keys; empty is not
}

// Init makes an empty repository and its keys.
func (r *Repository) Init(o InitOptions) error {
	if o.Threshold < 1 || o.RootKeys < o.Threshold {
		return fmt.Errorf("cannot have %d root keys of which %d sign: choose at least one of each, and no more that sign than there are",
			o.RootKeys, o.Threshold)
	}
	if _, err := r.newestRoot(); err == nil {
		return fmt.Errorf("cannot make a repository in %s: there is one already; `muster release status %s` shows it", r.Dir, r.Dir)
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{filepath.Join(r.Dir, "metadata"), 0o755}, {filepath.Join(r.Dir, "targets"), 0o755}, {r.Keys, 0o700}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return fmt.Errorf("cannot make a repository: %w", err)
		}
	}
	unlock, err := lock(r.Keys)
	if err != nil {
		return err
	}
	defer unlock()
	now := r.Now().UTC().Truncate(time.Second)
	s := &state{
		root: metadata.Root(now.Add(RootLife)), targets: metadata.Targets(now), snapshot: metadata.Snapshot(now),
		timestamp: metadata.Timestamp(now),
	}
	s.targets.Signed.Version, s.snapshot.Signed.Version, s.timestamp.Signed.Version = 0, 0, 0
	keys, err := r.makeKeys(s.root, o)
	if err != nil {
		return err
	}
	if _, err := write(r, s.root, keys[metadata.ROOT], versioned(metadata.ROOT, 1), 1); err != nil {
		return err
	}
	setExtension(s, release.Extension{})
	return r.commit(s, keys, true)
}

func (r *Repository) makeKeys(root *metadata.Metadata[metadata.RootType], o InitOptions) (signers, error) {
	keys := signers{}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		n, passphrase := 1, ""
		if role == metadata.ROOT {
			n, passphrase = o.RootKeys, o.Passphrase
			root.Signed.Roles[role].Threshold = o.Threshold
		}
		for range n {
			k, err := r.createKey(role, passphrase)
			if err != nil {
				return nil, err
			}
			if err := root.Signed.AddKey(k.public, role); err != nil {
				return nil, fmt.Errorf("cannot name the %s key: %w", role, err)
			}
			keys[role] = append(keys[role], k)
		}
	}
	return keys, nil
}

// Add brings a release into the first channel. Files are copied and named as they are where they come from.
func (r *Repository) Add(ctx context.Context, custom release.Custom, paths []string) error {
	custom.Channels = release.Channels[:1]
	custom.Files = nil
	for _, path := range paths {
		custom.Files = append(custom.Files, filepath.Base(path))
	}
	slices.Sort(custom.Files)
	if err := custom.Check(); err != nil {
		return fmt.Errorf("cannot add release %s: %w", custom.Version, err)
	}
	return r.change(func(s *state) (bool, error) {
		if err := mayAdd(s, custom); err != nil {
			return false, err
		}
		dir := filepath.Join(r.Dir, "targets", filepath.FromSlash(custom.Dir()))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return false, fmt.Errorf("cannot add release %s: %w", custom.Version, err)
		}
		for _, path := range paths {
			file, err := copyTarget(ctx, dir, path, filepath.Base(path))
			if err != nil {
				return false, fmt.Errorf("cannot add release %s: %w", custom.Version, err)
			}
			if err := setTarget(s, custom, file); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// mayAdd refuses a version that was there, and what no host could have.
func mayAdd(s *state, custom release.Custom) error {
	catalog, err := release.ReadCatalog(s.targets.Signed)
	if err != nil {
		return err
	}
	if err := catalog.Allows(custom.Engine, custom.Version); err != nil {
		return fmt.Errorf("cannot add release %s: %w; choose a newer version", custom.Version, err)
	}
	for _, have := range catalog.Releases {
		if have.Engine == custom.Engine && have.Arch == custom.Arch && version.Compare(have.Version, custom.Version) == 0 {
			return fmt.Errorf("cannot add release %s: it is there already, and a version never means other files; choose a newer version",
				custom.Version)
		}
	}
	return nil
}

func setTarget(s *state, custom release.Custom, file release.File) error {
	data, err := json.Marshal(custom)
	if err != nil {
		return fmt.Errorf("cannot describe release %s: %w", custom.Version, err)
	}
	raw := json.RawMessage(data)
	target := metadata.TargetFile()
	target.Length, target.Custom, target.Path = file.Size, &raw, custom.Dir()+"/"+file.Name
	var sum metadata.HexBytes
	if err := sum.UnmarshalJSON([]byte(`"` + file.SHA256 + `"`)); err != nil {
		return fmt.Errorf("cannot describe release %s: %w", custom.Version, err)
	}
	target.Hashes["sha256"] = sum
	s.targets.Signed.Targets[target.Path] = target
	return nil
}

// Select is which releases a change is about: those of a version, and of an engine and an architecture if they are given.
type Select struct{ Version, Engine, Arch string }

func (w Select) picks(r release.Release) bool {
	return version.Compare(r.Version, w.Version) == 0 && (w.Engine == "" || w.Engine == r.Engine) && (w.Arch == "" || w.Arch == r.Arch)
}

// ErrUnknown is a release that the repository does not have.
var ErrUnknown = errors.New("there is no such release")

func (s *state) pick(w Select) (release.Catalog, []release.Release, error) {
	catalog, err := release.ReadCatalog(s.targets.Signed)
	if err != nil {
		return catalog, nil, err
	}
	var picked []release.Release
	for _, r := range catalog.Releases {
		if w.picks(r) {
			picked = append(picked, r)
		}
	}
	if len(picked) == 0 {
		return catalog, nil, fmt.Errorf("cannot find release %s: %w; `muster release list` shows those there are", w.Version, ErrUnknown)
	}
	return catalog, picked, nil
}

// Promote brings releases into a channel, and into those that are bolder.
func (r *Repository) Promote(w Select, channel string) error {
	n := slices.Index(release.Channels, channel)
	if n < 0 {
		return fmt.Errorf("cannot promote release %s: there is no channel %q; choose %s", w.Version, channel,
			strings.Join(release.Channels, ", "))
	}
	return r.change(func(s *state) (bool, error) {
		_, picked, err := s.pick(w)
		if err != nil {
			return false, err
		}
		for _, p := range picked {
			p.Channels = release.Channels[:max(n+1, len(p.Channels))]
			for _, file := range p.Contents {
				if err := setTarget(s, p.Custom, file); err != nil {
					return false, err
				}
			}
		}
		return true, nil
	})
}

// Revoke takes releases of a version back for ever, on every architecture of its engine. What is older is not installed any more
// either: the minimum becomes the given version or, if that is empty, the next newer release that stays; without one, the
// minimum stays and hosts keep what they have.
func (r *Repository) Revoke(w Select, why, minimum string) error {
	return r.change(func(s *state) (bool, error) {
		catalog, picked, err := s.pick(Select{Version: w.Version, Engine: w.Engine})
		if err != nil {
			return false, err
		}
		ext := release.Extension{Minimum: catalog.Minimum, Revoked: catalog.Revoked}
		for _, p := range picked {
			for _, file := range p.Contents {
				delete(s.targets.Signed.Targets, p.Dir()+"/"+file.Name)
			}
			set(&ext.Revoked, p.Engine+"/"+p.Version, why)
			if least := atLeast(catalog, p, minimum); version.Compare(least, ext.Minimum[p.Engine]) > 0 && least != "" {
				set(&ext.Minimum, p.Engine, least)
			}
		}
		setExtension(s, ext)
		return true, nil
	})
}

// atLeast is the minimum that a revoked release leaves.
func atLeast(c release.Catalog, revoked release.Release, minimum string) string {
	if minimum != "" {
		return minimum
	}
	for _, r := range c.Releases { // the oldest first
		if r.Engine == revoked.Engine && version.Compare(r.Version, revoked.Version) > 0 {
			return r.Version
		}
	}
	return ""
}

func set(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

func setExtension(s *state, ext release.Extension) {
	ext.Version = 1
	if ext.Minimum == nil {
		ext.Minimum = map[string]string{}
	}
	if ext.Revoked == nil {
		ext.Revoked = map[string]string{}
	}
	s.targets.Signed.UnrecognizedFields = map[string]any{release.ExtensionField: ext}
}
