//go:build lab

package image

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// report is what testdata/report.sh says of a host after any boot.
const report = `hostname=node-1 node-1
machine-id=1
account=ops adm
password=!
address=10.0.2.15 640 root:adm
secret=600 root:root 600 root:root
units=active active active
failed=
runs=once
output=1 600
journal=0
container=up
grown=yes
resolver=1
read-only=yes
opt=writable
fleetctl=/usr/bin/fleetctl usage: musterd fd-forward SOCKET
`

const joining = `msg="joining the cluster" cluster=lab endpoints=\[\] listening=\[::\]:7400`

// TestHost boots a host for the first time from its seed, a second time without it, and a third time from the other slot.
func TestHost(t *testing.T) {
	script, err := os.ReadFile("testdata/report.sh")
	if err != nil {
		t.Fatal(err)
	}
	g, h := newGuest(t, "testdata/operator.yaml"), hardware{disk: newDisk(t)}
	identity := ""
	check := func(name string, h hardware) {
		t.Run(name, func(t *testing.T) {
			m := start(t, h)
			m.await(joining)
			g.answers(m)
			if diff := cmp.Diff(report, g.shell(m, string(script))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			ids := g.shell(m, "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
			if identity != "" && ids != identity {
				t.Errorf("the host was %q and is %q", identity, ids)
			}
			identity = ids
			m.powerOff()
			if strings.Contains(m.console.text(), "canary") {
				t.Error("the console tells secrets")
			}
		})
	}
	h.seed = g.seed(t)
	check("first", h)
	h.seed = ""
	check("second", h)
	if t.Failed() {
		return
	}
	h.label = "muster_2"
	secondSlot(t, filepath.Join(images(t), "muster_1.root"), h.label, h.disk)
	check("other slot", h)
}

// secondSlot writes a root to the second slot, as an update does.
func secondSlot(t *testing.T, path, label, disk string) {
	t.Helper()
	slots := partitions(t, disk)
	if len(slots) != 4 || slots[2].Name != "_empty" {
		t.Fatalf("partitions %+v", slots)
	}
	root, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	target, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := target.Seek(slots[2].Start*512, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, root); err != nil {
		t.Fatal(err)
	}
	run(t, "sfdisk", "--quiet", "--part-label", disk, "3", label)
}

// TestFirmware boots the disk as a machine with UEFI does.
func TestFirmware(t *testing.T) {
	g := newGuest(t, "")
	m := start(t, hardware{disk: newDisk(t), seed: g.seed(t), firmware: true})
	m.await(joining)
	g.answers(m)
}

// TestSources gives a host its user-data in every way that a machine of its own has.
func TestSources(t *testing.T) {
	g := newGuest(t, "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := map[string]string{"/user-data": string(g.userData), "/meta-data": metaData}[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, page)
	}))
	defer server.Close()
	// QEMU's own network has this machine's loopback at 10.0.2.2.
	url := strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	drive := volume(t, "config-2", map[string]string{
		"openstack/latest/meta_data.json": `{"uuid": "i-1", "hostname": "node-1"}`, "openstack/latest/user_data": string(g.userData),
	})
	for source, h := range map[string]hardware{
		"configdrive": {seed: drive},
		"nocloud-net": {args: []string{"-smbios", "type=1,serial=ds=nocloud;s=" + url + "/"}},
		"cmdline":     {words: "cloud-config-url=" + url + "/user-data"},
	} {
		t.Run(source, func(t *testing.T) {
			h.disk = newDisk(t)
			m := start(t, h)
			m.await(`msg="found the data source" source=` + source)
			g.answers(m)
		})
	}
}

// TestOffline has a host without a network: it waits to be dialled all the same.
func TestOffline(t *testing.T) {
	g := newGuest(t, "")
	start(t, hardware{disk: newDisk(t), seed: g.seed(t), offline: true}).await(joining)
}
