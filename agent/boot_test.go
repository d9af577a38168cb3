package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func TestBoot(t *testing.T) {
	o := newOperator(t)
	h := o.host(1, true)
	o.provide(h, "secret", nil)
	root := o.roots[h.Name]
	b, err := boot(root, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if b.Host != "node-1" || b.instance != "i-"+o.net+h.ID || b.address() != h.APIAddress() || b.ports != roster.DefaultPorts() {
		t.Errorf("booted as %+v", b)
	}
	facts := b.facts("v1")
	if facts.CPUs == 0 || facts.MemoryBytes == 0 || facts.BootID == "" || facts.Addresses[0] != h.Address || facts.Ports != roster.DefaultPorts() {
		t.Errorf("facts: %+v", facts)
	}
	if err := os.Remove(filepath.Join(root, metaDataFile)); err != nil {
		t.Fatal(err)
	}
	if b, err = boot(root, quiet()); err != nil || b.address() != ":7400" || b.instance != h.ID {
		t.Errorf("a host with a first boot of its own: %+v, %v", b, err)
	}
}

func TestBootRefuses(t *testing.T) {
	good := `{"version":1,"cluster_id":"c","host":"node-1","host_id":"` + id(1) + `","lease_ms":5000}`
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "muster up"},
		{"broken configuration", map[string]string{join.ConfigPath: "{"}, "host.json"},
		{"newer configuration", map[string]string{join.ConfigPath: strings.Replace(good, `"version":1`, `"version":9`, 1)}, "update it"},
		{"bad ID", map[string]string{join.ConfigPath: strings.Replace(good, id(1), "1", 1)}, "host_id"},
		{"no lease", map[string]string{join.ConfigPath: strings.Replace(good, "5000", "0", 1)}, "lease_ms"},
		{"broken metadata", map[string]string{join.ConfigPath: good, metaDataFile: "{"}, metaDataFile},
		{"bad address", map[string]string{join.ConfigPath: good, metaDataFile: `{"local_ipv4":"here"}`}, "local_ipv4"},
		{"no user-data", map[string]string{metaDataFile: `{"instance_id":"i","local_ipv4":"127.0.0.1"}`}, "user-data"},
		{"not user-data", map[string]string{metaDataFile: `{"instance_id":"i","local_ipv4":"127.0.0.1"}`, userDataFile: "#!/bin/sh\n"}, "#cloud-config"},
	} {
		root := t.TempDir()
		for path, content := range c.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := boot(root, quiet()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestOccupiedPort has another program on the API's port.
func TestOccupiedPort(t *testing.T) {
	o := newOperator(t)
	h := o.host(1, false)
	o.provide(h, "secret", nil)
	l, err := net.Listen("tcp", h.APIAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), Config{Root: o.roots[h.Name], Log: quiet()})
	if err == nil || !strings.Contains(err.Error(), h.APIAddress()+": another program") {
		t.Errorf("got %v", err)
	}
	if _, err := listen(t.Context(), "192.0.2.1:7400"); err == nil || !strings.Contains(err.Error(), "does not have the address") {
		t.Errorf("an address that is not ours: %v", err)
	}
}

// TestFirstBootAddresses fills the host's address into files that ask for it.
func TestFirstBootAddresses(t *testing.T) {
	root := t.TempDir()
	data := "#cloud-config\nwrite_files:\n- path: /etc/app.conf\n  content: listen $private_ipv4\n"
	if err := os.WriteFile(filepath.Join(root, userDataFile), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := firstBoot(root, "i-1", netip.MustParseAddr("127.1.2.3"), quiet()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc/app.conf")); err != nil || string(got) != "listen 127.1.2.3" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFactsOfNothing(t *testing.T) {
	if memory("/nonexistent") != 0 || kernelBootID("/nonexistent") != "" || memory(os.DevNull) != 0 {
		t.Error("facts are made up")
	}
}

// TestLongSocketPath goes without the socket where its path does not fit.
func TestLongSocketPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 120), "muster.sock")
	if _, err := listenSocket(t.Context(), path, 0o666); err == nil || !strings.Contains(err.Error(), "100 characters") {
		t.Errorf("got %v", err)
	}
}

// joined makes the storage of a host that has joined.
func joined(t *testing.T, o *operator, h roster.Host) (join.Storage, join.Identity) {
	t.Helper()
	o.members = roster.Roster{h}
	o.provide(h, "secret", nil)
	b, err := boot(o.roots[h.Name], quiet())
	if err != nil {
		t.Fatal(err)
	}
	storage, err := join.OpenStorage(o.roots[h.Name])
	if err != nil {
		t.Fatal(err)
	}
	key, err := storage.Key()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := o.Admit(t.Context(), join.Request{HostID: h.ID}, &key.PublicKey, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Save(b.Config, reply); err != nil {
		t.Fatal(err)
	}
	identity, err := storage.Load(b.Config)
	if err != nil {
		t.Fatal(err)
	}
	return storage, identity
}

// TestVoterRenews signs its own certificates, when half of their life is over and not before.
func TestVoterRenews(t *testing.T) {
	o := newOperator(t)
	h := o.host(1, true)
	storage, identity := joined(t, o, h)
	now := time.Now()
	c := &credentials{storage: storage, id: identity, self: h, cluster: clusterID, now: func() time.Time { return now }, log: quiet()}
	for _, step := range []struct {
		after   time.Duration
		renewed bool
	}{{0, true}, {time.Hour, false}, {13 * time.Hour, true}, {time.Hour, false}, {72 * time.Hour, true}} {
		now = now.Add(step.after)
		before := leaves(t, storage)
		next, err := c.renew(t.Context())
		if err != nil || next <= 0 || next > pki.LeafLifetime/2 {
			t.Fatalf("after %v: next in %v, %v", step.after, next, err)
		}
		after := leaves(t, storage)
		for i := 1; i < len(after); i++ { // the host's own is fresh at first
			if got := before[i] != after[i]; got != step.renewed {
				t.Errorf("after %v: certificate %d renewed: %v, want %v", step.after, i, got, step.renewed)
			}
		}
		if step.after > 12*time.Hour && before[0] == after[0] {
			t.Errorf("after %v: the host's certificate was not renewed", step.after)
		}
	}
}

// leaves are the serial numbers of a voter's certificates.
func leaves(t *testing.T, s join.Storage) [3]string {
	t.Helper()
	var serials [3]string
	for i, pair := range [][2]string{
		{s.CertFile(), s.KeyFile()}, {s.PeerFile(), s.PeerFile()}, {s.ControlFile(), s.ControlFile()},
	} {
		src, err := pki.NewSource(pair[0], pair[1])
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		serials[i] = src.Leaf().SerialNumber.String()
	}
	return serials
}

// TestHostRenews asks a voter with a certificate that has expired.
func TestHostRenews(t *testing.T) {
	o := newOperator(t)
	h := o.host(2, false)
	storage, identity := joined(t, o, h)
	mem := store.NewMemory(time.Now)
	defer mem.Close()
	record, err := store.Marshal(store.RosterRecord{Host: h})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put(store.RosterKey(h.ID), record)}}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(48 * time.Hour)
	voter := o.host(1, true)
	voter.Ports.API = serveAdmin(t, o, voter, &control.Admin{
		Store: mem, Issuer: o.issuer, Root: o.root.Cert, Log: quiet(), Now: func() time.Time { return now },
	})
	c := &credentials{
		storage: storage, id: identity, self: h, cluster: clusterID, now: func() time.Time { return now }, log: quiet(),
		voters: func() roster.Roster { return roster.Roster{voter} },
	}
	next, err := c.renew(t.Context())
	if err != nil || next < 11*time.Hour {
		t.Fatalf("next in %v, %v", next, err)
	}
	src, err := pki.NewSource(storage.CertFile(), storage.KeyFile())
	if err != nil || src.Leaf().NotAfter.Before(now) {
		t.Errorf("the certificate on disk: %v", err)
	}
}

// serveAdmin serves a voter's API and returns its port.
func serveAdmin(t *testing.T, o *operator, h roster.Host, admin api.Admin) int {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := o.issuer.SignHost(&key.PublicKey, h, clusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	src, err := pki.NewStaticSource(pki.Pair{CertPEM: chain, KeyPEM: pki.EncodeKey(key)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", h.Address+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &api.Server{ClusterID: clusterID, Admin: admin, Join: http.NotFoundHandler(), Log: quiet()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	config := pki.ServerConfig(o.root.Cert, src, tls.VerifyClientCertIfGiven)
	go func() { done <- api.Serve(ctx, tls.NewListener(l, config), server.Handler(), quiet()) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l.Addr().(*net.TCPAddr).Port
}

func TestMembers(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		var saved, told atomic.Int32
		m := &members{
			store: w.hosts[1].conn, self: id(1), log: quiet(),
			save:    func(roster.Roster) error { saved.Add(1); return nil },
			changed: func(roster.Roster) { told.Add(1) },
		}
		stop := w.background(m.run, func() {})
		defer stop()
		time.Sleep(time.Minute)
		if saved.Load() != 1 || told.Load() != 0 {
			t.Errorf("saved %d times, told %d times of voters; there is none", saved.Load(), told.Load())
		}
		h := w.view().Members()[1]
		h.Voter = true
		write(w, store.RosterKey(h.ID), store.Marshal[store.RosterRecord], store.RosterRecord{Host: h})
		time.Sleep(time.Minute)
		if saved.Load() != 2 || told.Load() != 1 || len(m.voters()) != 1 {
			t.Errorf("saved %d times, told %d times, voters %v", saved.Load(), told.Load(), m.voters())
		}
		w.commit(store.DeletePrefix(store.PrefixRoster))
		time.Sleep(time.Minute)
		if len(m.voters()) != 1 {
			t.Error("an empty roster was believed")
		}
	})
}

func TestMetaDataContract(t *testing.T) {
	var m metaData
	text := `{"instance_id":"i-1","local_hostname":"node-1","local_ipv4":"127.1.0.1","ports":{"api":1,"client":2,"peer":3}}`
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.InstanceID != "i-1" || m.LocalIPv4 != "127.1.0.1" || m.Ports.Peer != 3 {
		t.Errorf("read %+v, %v", m, err)
	}
}
