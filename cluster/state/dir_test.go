package state

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func clock() time.Time { return epoch }

func mustCreate(t *testing.T, parent string) *Dir {
	t.Helper()
	d, err := Create(parent, "demo", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestParent(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"own variable", map[string]string{EnvParent: "/a/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/a/b"},
		{"XDG", map[string]string{"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/muster"},
		{"relative XDG is ignored, as its specification says", map[string]string{"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/muster"},
		{"home", map[string]string{"HOME": "/h"}, "/h/.local/state/muster"},
		{"nothing", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parent(func(k string) string { return tt.env[k] })
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("Parent() = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestCreateKeepsIdentity(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "state")
	d := mustCreate(t, parent)
	first := d.Cluster()
	if first.ID == "" || first.Name != "demo" || !first.Created.Equal(epoch) {
		t.Errorf("new cluster is %+v", first)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustCreate(t, parent)
	if diff := cmp.Diff(first, again.Cluster()); diff != "" {
		t.Errorf("identity changed:\n%s", diff)
	}
	r, err := OpenReader(parent, "demo")
	if err != nil {
		t.Fatalf("a reader needs no lock: %v", err)
	}
	if r.Cluster() != first {
		t.Errorf("reader sees %+v", r.Cluster())
	}
}

func TestEverythingIsPrivate(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	if _, err := d.Keys(epoch); err != nil {
		t.Fatal(err)
	}
	if err := d.Tokens().Put(map[string]store.Token{"h": {V: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveRoster(roster.Roster{{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(d.Path(), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	parent := t.TempDir()
	writeFile := func(name, content string) {
		t.Helper()
		path := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(parent, "open"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(parent, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile("file", "")
	writeFile("newer/cluster.json", `{"v":2,"id":"x","name":"newer"}`)
	writeFile("empty/cluster.json", `{"v":1}`)
	writeFile("broken/cluster.json", `{`)
	writeFile("orphan/journal.jsonl", "")
	writeFile("future/cluster.json", `{"v":1,"id":"x","name":"future"}`)
	writeFile("future/journal.jsonl", `{"v":9,"kind":"intent"}`+"\n")
	writeFile("tokens/cluster.json", `{"v":1,"id":"x","name":"tokens"}`)
	writeFile("tokens/tokens.json", `{"v":2}`)
	tests := map[string]string{
		"open":      "chmod 700",
		"newer":     "its version is 2",
		"empty":     "has no ID",
		"broken":    "cannot read",
		"orphan":    "from a backup",
		"future":    "another version of muster",
		"tokens":    "tokens.json: its version is 2",
		"../x":      "not a DNS label",
		"":          "not a DNS label",
		"providers": "reserved",
	}
	for name, want := range tests {
		d, err := Create(parent, name, clock)
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Create(%q) = %v, want an error with %q", name, err, want)
		}
	}
	if _, err := Create(parent, "file", clock); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestNoCluster(t *testing.T) {
	parent := t.TempDir()
	if _, err := Open(parent, "demo", clock); !errors.Is(err, ErrNoCluster) {
		t.Errorf("Open = %v", err)
	}
	if _, err := OpenReader(parent, "demo"); !errors.Is(err, ErrNoCluster) {
		t.Errorf("OpenReader = %v", err)
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	_, err := Open(parent, "demo", clock)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("second writer got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(parent, "demo", clock)
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	_ = again.Close()
}

// TestLockOutlivesItsHolder: the child of a killed process may hold the lock for a moment.
func TestLockOutlivesItsHolder(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(dead.Process.Pid)
	if err := os.WriteFile(filepath.Join(parent, "demo", fileLock), []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		next, err := Open(parent, "demo", clock)
		if err == nil {
			err = next.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("Open while the lock is held: %v", err)
	case <-time.After(4 * inheritPause):
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestClosedDirRefusesWrites(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	_ = d.Close()
	if err := d.Journal().Append(Entry{Kind: KindFormed}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append = %v", err)
	}
	if _, err := d.Journal().Compact(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Compact = %v", err)
	}
	if err := d.Tokens().Put(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Put = %v", err)
	}
	if err := d.Tokens().Clear(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Clear = %v", err)
	}
}

func TestRemove(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRemoveCutShort(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	old := d.Cluster().ID
	if err := os.Rename(d.Path(), removedPath(d.Path())); err != nil { // and then the process dies
		t.Fatal(err)
	}
	_ = d.Close()
	if _, err := Open(parent, "demo", clock); !errors.Is(err, ErrNoCluster) {
		t.Errorf("Open = %v", err)
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("Open left %v", left)
	}
	if mustCreate(t, parent).Cluster().ID == old {
		t.Error("the removed cluster came back")
	}
}

func TestRosterIsRemembered(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	if members, err := d.Roster(); members != nil || err != nil {
		t.Errorf("a new cluster has %v, %v", members, err)
	}
	want := roster.Roster{{ID: "1", Name: "a", Voter: true}}
	if err := d.SaveRoster(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Roster()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Roster: %v\n%s", err, diff)
	}
}

func TestTokens(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	if err := d.Tokens().Put(map[string]store.Token{"a": {V: 1, Expires: epoch}, "b": {V: 1}}); err != nil {
		t.Fatal(err)
	}
	use := func(token store.Token, ok bool) (store.Token, error) {
		if !ok {
			return token, errors.New("unknown")
		}
		token.UsedBy = "key"
		return token, nil
	}
	if err := d.Tokens().Update("a", use); err != nil {
		t.Fatal(err)
	}
	if err := d.Tokens().Update("c", use); err == nil {
		t.Error("an unknown token was used")
	}
	_ = d.Close()
	again := mustCreate(t, parent)
	if token, ok := again.Tokens().Get("a"); !ok || token.UsedBy != "key" || !token.Expires.Equal(epoch) {
		t.Errorf("token a is %+v, %v", token, ok)
	}
	if _, ok := again.Tokens().Get("c"); ok {
		t.Error("a refused update left a token")
	}
	if err := again.Tokens().Clear(); err != nil {
		t.Fatal(err)
	}
	if err := again.Tokens().Clear(); err != nil {
		t.Errorf("clearing twice: %v", err)
	}
	if _, ok := again.Tokens().Get("a"); ok {
		t.Error("a token is left after Clear")
	}
}
