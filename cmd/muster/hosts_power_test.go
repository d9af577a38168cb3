package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// TestStopAsksTheVoters stops a voter of a cluster that formed and does not answer.
func TestStopAsksTheVoters(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("MUSTER_STATE_DIR", filepath.Join(dir, "state"))
	file := filepath.Join(dir, "cluster.yaml")
	content := "version: 1\ncluster: demo\nproviders:\n  a: {driver: fake}\nhosts:\n  node: {count: 3, provider: a}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	muster := func(args ...string) (status int, said string) {
		var out bytes.Buffer
		known := providers.NewRegistry(fake.Driver())
		status = runWith(t.Context(), known, append(args, "-f", file), strings.NewReader(""), &out, &out)
		return status, out.String()
	}
	if status, said := muster("up", "--no-wait"); status != statusDone {
		t.Fatal(said)
	}
	pretendFormed(t, filepath.Join(dir, "state"))
	status, said := muster("hosts", "stop", "node-2", "--yes")
	if status != statusFailed {
		t.Errorf("status %d", status)
	}
	for _, part := range []string{
		"cannot stop node-2: no majority of the voters is sure to remain: the voters cannot be asked", "`muster status -f ", "--force",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in what it says:\n%s", part, said)
		}
	}
	if status, said := muster("hosts", "stop", "node-2", "--yes", "--force"); status != statusDone || !strings.Contains(said, "ends; a voter\n") {
		t.Errorf("by force: status %d\n%s", status, said)
	}
}

// pretendFormed writes down that the cluster of a state directory formed, at addresses where nobody listens.
func pretendFormed(t *testing.T, parent string) {
	t.Helper()
	dir, err := state.Open(parent, "demo", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	var members roster.Roster
	for _, m := range dir.Journal().View().Sorted() {
		id := providers.Identity{Cluster: dir.Cluster().ID, Host: m.Name, Generation: m.Generation}
		members = append(members, roster.Host{
			ID: id.ID(), Name: m.Name, Generation: m.Generation, Provider: m.Provider, Voter: true,
			Address: "127.0.0.9", Ports: roster.Ports{API: 1, Client: 2, Peer: 3},
		})
	}
	if err := dir.SaveRoster(members); err != nil {
		t.Fatal(err)
	}
	if err := dir.Journal().Append(state.Entry{Kind: state.KindFormed}); err != nil {
		t.Fatal(err)
	}
}
