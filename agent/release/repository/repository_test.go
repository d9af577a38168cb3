package repository_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

// fixture is a repository and a clock.
type fixture struct {
	*repository.Repository
	t    *testing.T
	now  time.Time
	dir  string
	file string // to add
}

func newFixture(t *testing.T, o repository.InitOptions) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{t: t, now: time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC), dir: dir, file: filepath.Join(dir, "musterd")}
	f.Repository = &repository.Repository{
		Dir: filepath.Join(dir, "repo"), Keys: filepath.Join(dir, "keys"), Life: repository.DefaultLife, Now: func() time.Time { return f.now }, Work: 10,
	}
	f.must(f.Init(o))
	f.must(os.WriteFile(f.file, []byte("a program"), 0o600))
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) add(version string) error {
	return f.Add(f.t.Context(), release.Custom{Version: version, Engine: "dir", Arch: "any"}, []string{f.file})
}

func (f *fixture) channels(version string) []string {
	f.t.Helper()
	c, err := f.Catalog()
	f.must(err)
	for _, r := range c.Releases {
		if r.Version == version {
			return r.Channels
		}
	}
	return nil
}

func TestPromote(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1})
	f.must(f.add("1.0"))
	for _, step := range []struct {
		channel string
		want    int
	}{{"alpha", 1}, {"stable", 3}, {"beta", 3}} {
		if step.channel != "alpha" {
			f.must(f.Promote(repository.Select{Version: "1.0"}, step.channel))
		}
		if got := f.channels("1.0"); !slices.Equal(got, release.Channels[:step.want]) {
			t.Errorf("after %s: %v", step.channel, got)
		}
	}
	if err := f.Promote(repository.Select{Version: "1.0"}, "nightly"); err == nil || !strings.Contains(err.Error(), "alpha, beta, stable") {
		t.Errorf("no such channel: %v", err)
	}
	if err := f.Promote(repository.Select{Version: "2.0"}, "beta"); !errors.Is(err, repository.ErrUnknown) {
		t.Errorf("no such release: %v", err)
	}
}

// A version means the same bytes for ever, and a revoked one does not come back under any spelling.
func TestVersionsAreNotReused(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1})
	f.must(f.add("1.0"))
	if err := f.add("1.0.0"); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("added twice: %v", err)
	}
	f.must(f.add("1.1"))
	f.must(f.Revoke(repository.Select{Version: "1.0"}, "it leaks", ""))
	for _, version := range []string{"1.0", "1.0.0", "0.9"} {
		if err := f.add(version); err == nil || !strings.Contains(err.Error(), "choose a newer version") {
			t.Errorf("%s was added after 1.0 was revoked: %v", version, err)
		}
	}
	c, err := f.Catalog()
	f.must(err)
	if len(c.Releases) != 1 || c.Minimum["dir"] != "1.1" || c.Revoked["dir/1.0"] != "it leaks" {
		t.Errorf("the catalog: %+v", c)
	}
	f.must(f.Revoke(repository.Select{Version: "1.1"}, "it crashes", "")) // nothing newer: the minimum stays
	if c, err = f.Catalog(); err != nil || c.Minimum["dir"] != "1.1" || len(c.Releases) != 0 {
		t.Errorf("the catalog: %+v %v", c, err)
	}
}

func TestKeysThatAreEncrypted(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1, Passphrase: "correct horse"})
	f.must(f.add("1.0")) // without the root
	ask := func(answer string) repository.Passphrase {
		return func(string) (string, error) { return answer, nil }
	}
	if err := f.Rotate(nil, nil, ask("wrong"), ""); !errors.Is(err, repository.ErrPassphrase) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	f.must(f.Rotate(nil, []string{"root", "targets"}, ask("correct horse"), "another"))
	f.must(f.Rotate(nil, nil, ask("another"), ""))
	f.must(f.add("1.1"))
}

// A key that is kept elsewhere is found there, and missed when it is not.
func TestRootIsOffline(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 2, Threshold: 2})
	keys, err := filepath.Glob(filepath.Join(f.Keys, "root-*.key"))
	f.must(err)
	safe := filepath.Join(t.TempDir(), "safe.key")
	f.must(os.Rename(keys[0], safe))
	f.must(f.add("1.0"))
	if err := f.Rotate(nil, nil, nil, ""); err == nil || !strings.Contains(err.Error(), "1 of its keys are here, and it takes 2") {
		t.Errorf("one of two keys: %v", err)
	}
	f.must(f.Rotate([]string{safe}, nil, nil, ""))
	roles, err := f.Roles()
	f.must(err)
	if roles[0].Version != 2 || roles[0].Threshold != 2 {
		t.Errorf("the root: %+v", roles[0])
	}
}

func TestNothingIsSignedOnTopOfWhatOthersChanged(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1})
	f.must(f.add("1.0"))
	file := filepath.Join(f.Dir, "metadata", "2.targets.json")
	data, err := os.ReadFile(file)
	f.must(err)
	f.must(os.WriteFile(file, []byte(strings.Replace(string(data), `"length": 9`, `"length": 8`, 1)), 0o600))
	if err := f.Refresh(); err == nil || !strings.Contains(err.Error(), "others changed") {
		t.Errorf("signed: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1})
	f.now = f.now.Add(repository.TargetsLife * 3 / 4)
	f.must(f.Refresh())
	roles, err := f.Roles()
	f.must(err)
	for i, life := range []time.Duration{0, repository.TargetsLife, f.Life, f.Life} {
		if i > 0 && !roles[i].Expires.Equal(f.now.Add(life)) {
			t.Errorf("%s expires at %s", roles[i].Name, roles[i].Expires)
		}
	}
}

func TestNoRepository(t *testing.T) {
	r := &repository.Repository{Dir: t.TempDir(), Keys: t.TempDir(), Now: time.Now}
	if _, err := r.Catalog(); !errors.Is(err, repository.ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := r.Init(repository.InitOptions{RootKeys: 1, Threshold: 2}); err == nil {
		t.Error("two of one keys shall sign")
	}
	if err := r.Init(repository.InitOptions{RootKeys: 1, Threshold: 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.Init(repository.InitOptions{RootKeys: 1, Threshold: 1}); err == nil {
		t.Error("made twice")
	}
}
