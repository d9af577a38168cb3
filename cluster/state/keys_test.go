package state

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
)

func mustKeys(t *testing.T, d *Dir, now time.Time) Keys {
	t.Helper()
	keys, err := d.Keys(now)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestKeysAreKept(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	first, again := mustKeys(t, d, epoch), mustKeys(t, d, epoch.Add(time.Hour))
	if !first.Root.Cert.Equal(again.Root.Cert) || !first.Issuer.Cert.Equal(again.Issuer.Cert) ||
		string(first.Operator.CertPEM) != string(again.Operator.CertPEM) {
		t.Error("keys were made anew although nothing was due")
	}
	peer, _, err := pki.Verify(first.Root.Cert, first.Operator.CertPEM, epoch)
	if err != nil || peer.Role != pki.RoleOperator || peer.ClusterID != d.Cluster().ID {
		t.Errorf("operator is %v, %v", peer, err)
	}
	if s := fmt.Sprintf("%v %+v", first, first); strings.Contains(s, "PRIVATE") {
		t.Error("keys print themselves")
	}
}

func TestKeysAreRenewed(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	first := mustKeys(t, d, epoch)
	day := mustKeys(t, d, epoch.Add(13*time.Hour))
	if string(day.Operator.CertPEM) == string(first.Operator.CertPEM) || !day.Issuer.Cert.Equal(first.Issuer.Cert) {
		t.Error("after 13 hours the operator's credentials alone are due")
	}
	year := mustKeys(t, d, epoch.Add(200*24*time.Hour))
	if year.Issuer.Cert.Equal(first.Issuer.Cert) || !year.Root.Cert.Equal(first.Root.Cert) {
		t.Error("after 200 days the issuer is due, the root is not")
	}
}

func TestTornPairsAreMended(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	first := mustKeys(t, d, epoch)
	for _, name := range []string{nameIssuer, nameOperator} {
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := pki.WriteFile(d.file(name, "key"), pki.EncodeKey(key)); err != nil { // and then the process dies
			t.Fatal(err)
		}
	}
	mended := mustKeys(t, d, epoch)
	if _, _, err := pki.Verify(first.Root.Cert, mended.Operator.CertPEM, epoch); err != nil {
		t.Error(err)
	}
}

func TestRootIsNeverMadeTwice(t *testing.T) {
	d := mustCreate(t, t.TempDir())
	mustKeys(t, d, epoch)
	if err := os.Remove(d.file(nameRoot, "key")); err != nil {
		t.Fatal(err)
	}
	mustKeys(t, d, epoch) // nobody knows the root yet
	if err := d.Journal().Append(Entry{Kind: KindFormed}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(d.file(nameRoot, "key")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Keys(epoch); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Keys = %v, want an error that asks for the backup", err)
	}
}

func TestReadersRenewTheOperator(t *testing.T) {
	parent := t.TempDir()
	d := mustCreate(t, parent)
	r, err := OpenReader(parent, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Operator(epoch); err == nil {
		t.Error("credentials out of nothing")
	}
	keys := mustKeys(t, d, epoch)
	later := epoch.Add(20 * time.Hour)
	root, pair, err := r.Operator(later)
	if err != nil || !root.Equal(keys.Root.Cert) {
		t.Fatalf("Operator: %v", err)
	}
	if _, _, err := pki.Verify(root, pair.CertPEM, later.Add(10*time.Hour)); err != nil {
		t.Error(err)
	}
}
