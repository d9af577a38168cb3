package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/musterhq/muster/cluster/pki"
)

// refresh is one walk through the client's workflow (TUF specification, section 5.3 to 5.6), over every mirror. It is made by the
// library's trustedmetadata; what is done here is what comes around it: where files come from and go to, their bounds, several
// mirrors, and what a refusal means.
type refresh struct {
	c       *Client
	set     *trustedmetadata.TrustedMetadata
	mirrors []string            // that were not refused, the best first
	refused map[string]*Refusal // by mirror
	last    error               // of a mirror that did not answer
}

// run returns what the repository has.
func (r *refresh) run(ctx context.Context) (*metadata.TargetsType, error) {
	if err := r.loadRoot(); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{r.roots, r.timestamp, r.snapshot, r.targets}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	r.accuse()
	return &r.set.Targets[metadata.TARGETS].Signed, nil
}

// loadRoot starts from the root that this host came to trust, or the one that it was given.
func (r *refresh) loadRoot() error {
	data, err := os.ReadFile(r.c.path(metadata.ROOT))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = r.c.cfg.Root, nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the trusted root: %w", err)
	}
	if err := wellFormed(metadata.ROOT, data); err != nil {
		return fmt.Errorf("cannot trust the root that this host was given: %w; `muster release status` shows where the right one is", err)
	}
	set, err := trustedmetadata.New(data)
	if err != nil {
		return fmt.Errorf("cannot trust the root that this host was given: %w", err)
	}
	set.RefTime = r.c.cfg.Now()
	r.set = set
	return nil
}

// roots follows the chain of roots, each signed by the one before.
func (r *refresh) roots(ctx context.Context) error {
	for range maxRoots {
		next := r.set.Root.Signed.Version + 1
		name := fmt.Sprintf("%d.root.json", next)
		err := r.fromAny(ctx, name, maxRoot, func(data []byte) error {
			if err := wellFormed(metadata.ROOT, data); err != nil {
				return err
			}
			if _, err := r.set.UpdateRoot(data); err != nil {
				return err
			}
			return r.c.keep(metadata.ROOT, data)
		}, Rollback)
		if errors.Is(err, errAbsent) {
			return nil // this is the newest
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot follow the root: there are more than %d new ones; give the host the newest", maxRoots)
}

// timestamp asks every mirror, and prefers those whose timestamp is the newest from then on.
func (r *refresh) timestamp(ctx context.Context) error {
	r.local(metadata.TIMESTAMP, func(data []byte) error { _, err := r.set.UpdateTimestamp(data); return err })
	var best []string
	var newest int64
	for _, mirror := range slices.Clone(r.mirrors) {
		data, err := r.c.remote.read(ctx, fileURL(mirror, "metadata/timestamp.json"), maxTimestamp)
		var version int64
		if err == nil {
			version, err = r.takeTimestamp(data)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.refuse(mirror, "timestamp.json", err, Rollback)
		case version > newest:
			best, newest = append([]string{mirror}, best...), version
		default:
			best = append(best, mirror)
		}
	}
	if len(best) == 0 {
		return r.failure("timestamp.json")
	}
	r.mirrors = best
	return nil
}

// takeTimestamp verifies a timestamp and returns its version. The one that is known already is taken again.
func (r *refresh) takeTimestamp(data []byte) (int64, error) {
	if err := wellFormed(metadata.TIMESTAMP, data); err != nil {
		return 0, err
	}
	got, err := metadata.Timestamp().FromBytes(data)
	if err != nil {
		return 0, err
	}
	if err := r.set.Root.VerifyDelegate(metadata.TIMESTAMP, got); err != nil {
		return 0, err
	}
	var known, knownSnapshot int64
	if r.set.Timestamp != nil {
		known, knownSnapshot = r.set.Timestamp.Signed.Version, r.set.Timestamp.Signed.Meta["snapshot.json"].Version
	}
	if err := errors.Join(leap(known, got.Signed.Version), leap(knownSnapshot, got.Signed.Meta["snapshot.json"].Version)); err != nil {
		return 0, err
	}
	_, err = r.set.UpdateTimestamp(data)
	if is[*metadata.ErrEqualVersionNumber](err) {
		if r.set.Timestamp.Signed.IsExpired(r.set.RefTime) {
			return 0, &metadata.ErrExpiredMetadata{Msg: "it expired at " + r.set.Timestamp.Signed.Expires.Format(time.RFC3339)}
		}
		return got.Signed.Version, nil
	}
	if err != nil {
		return 0, err
	}
	return got.Signed.Version, r.c.keep(metadata.TIMESTAMP, data)
}

func (r *refresh) snapshot(ctx context.Context) error {
	want := r.set.Timestamp.Signed.Meta["snapshot.json"]
	if r.local(metadata.SNAPSHOT, func(data []byte) error { _, err := r.set.UpdateSnapshot(data, true); return err }) {
		return nil
	}
	name := fmt.Sprintf("%d.snapshot.json", want.Version)
	return r.mustFromAny(ctx, name, bound(want.Length, maxSnapshot), func(data []byte) error {
		if err := wellFormed(metadata.SNAPSHOT, data); err != nil {
			return err
		}
		if err := r.rolledBack(data); err != nil {
			return err
		}
		if _, err := r.set.UpdateSnapshot(data, false); err != nil {
			return err
		}
		return r.c.keep(metadata.SNAPSHOT, data)
	})
}

// rolledBack tells a snapshot whose targets are older than those that are known, or leap, from one of another time.
func (r *refresh) rolledBack(data []byte) error {
	got, err := metadata.Snapshot().FromBytes(data)
	if err != nil {
		return err
	}
	if err := r.set.Root.VerifyDelegate(metadata.SNAPSHOT, got); err != nil || r.set.Snapshot == nil {
		return err
	}
	known, now := r.set.Snapshot.Signed.Meta["targets.json"].Version, got.Signed.Meta["targets.json"].Version
	if now < known {
		return fmt.Errorf("%w: from targets %d to %d", Rollback, known, now)
	}
	return leap(known, now)
}

func (r *refresh) targets(ctx context.Context) error {
	want := r.set.Snapshot.Signed.Meta["targets.json"]
	take := func(data []byte) error {
		if err := wellFormed(metadata.TARGETS, data); err != nil {
			return err
		}
		_, err := r.set.UpdateTargets(data)
		return err
	}
	if r.local(metadata.TARGETS, take) {
		return nil
	}
	name := fmt.Sprintf("%d.targets.json", want.Version)
	return r.mustFromAny(ctx, name, bound(want.Length, maxTargetsMD), func(data []byte) error {
		if err := take(data); err != nil {
			return err
		}
		return r.c.keep(metadata.TARGETS, data)
	})
}

// bound is how long a file may be whose metadata says its length, or does not.
func bound(length, most int64) int64 {
	if length > 0 && length < most {
		return length
	}
	return most
}

// local takes what was kept of a role. What does not verify any more, as after a key was replaced, counts as absent.
func (r *refresh) local(role string, take func([]byte) error) bool {
	data, err := os.ReadFile(r.c.path(role))
	if err != nil || wellFormed(role, data) != nil {
		return false
	}
	return take(data) == nil
}

// fromAny gives take what the first mirror has that take does not refuse. Mirrors that are refused are asked no more. It is
// errAbsent when a mirror does not have the file and none has a good one.
func (r *refresh) fromAny(ctx context.Context, name string, most int64, take func([]byte) error, version Attack) error {
	absent := false
	for _, mirror := range slices.Clone(r.mirrors) {
		data, err := r.c.remote.read(ctx, fileURL(mirror, "metadata/"+name), most)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			err = take(data)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, errAbsent) {
			absent = true
			continue
		}
		r.refuse(mirror, name, err, version)
	}
	if absent {
		return fmt.Errorf("cannot read %s: %w", name, errAbsent)
	}
	return r.failure(name)
}

// mustFromAny is fromAny for files that metadata names, so that a mirror must have them.
func (r *refresh) mustFromAny(ctx context.Context, name string, most int64, take func([]byte) error) error {
	err := r.fromAny(ctx, name, most, take, MixAndMatch)
	if errors.Is(err, errAbsent) && len(r.refused) > 0 {
		return r.failure(name)
	}
	return err
}

// refuse asks a mirror no more in this walk, and raises the alarm if what it did is an attack.
func (r *refresh) refuse(mirror, name string, err error, version Attack) {
	r.mirrors = slices.DeleteFunc(r.mirrors, func(m string) bool { return m == mirror })
	attack, ok := attackOf(err, version)
	if !ok {
		r.last = fmt.Errorf("cannot use %s of %s: %w", name, mirror, err)
		r.c.cfg.Log.Warn("a mirror of releases is of no use", "mirror", mirror, "file", name, "err", err)
		return
	}
	r.refused[mirror] = &Refusal{Attack: attack, Subject: name, Source: mirror, Err: err}
	r.c.alarm(r.refused[mirror])
}

// failure is why no mirror was of use: an attack comes before a mere silence.
func (r *refresh) failure(name string) error {
	for _, mirror := range r.c.cfg.Mirrors {
		if refusal := r.refused[mirror]; refusal != nil {
			return refusal
		}
	}
	if r.last != nil {
		return r.last
	}
	return fmt.Errorf("cannot read %s: no mirror has it; `muster release status` on the repository's directory tells what is missing", name)
}

// accuse raises the alarm of each mirror that was refused while another had the truth.
func (r *refresh) accuse() {
	for _, mirror := range r.c.cfg.Mirrors {
		if refusal := r.refused[mirror]; refusal != nil {
			r.c.alarm(&Refusal{Attack: MaliciousMirror, Subject: refusal.Subject, Source: mirror, Err: refusal})
		}
	}
}

// path is where a role's metadata is kept on this host.
func (c *Client) path(role string) string { return filepath.Join(c.cfg.Dir, role+".json") }

func (c *Client) keep(role string, data []byte) error { return pki.WriteFile(c.path(role), data) }
