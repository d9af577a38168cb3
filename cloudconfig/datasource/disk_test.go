package datasource_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"

	"github.com/musterhq/muster/cloudconfig/datasource"
)

const config = "#cloud-config\nhostname: from-config\n"

// image makes an ISO 9660 file system with the library that seeds are made with.
func image(t testing.TB, label string, files map[string]string) string {
	t.Helper()
	w, err := iso9660.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Cleanup(); err != nil {
			t.Error(err)
		}
	}()
	for name, content := range files {
		if err := w.AddFile(strings.NewReader(content), name); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, label); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// disk is a machine with one disk, which only the kernel has told of.
func disk(t testing.TB, content string) datasource.Machine {
	t.Helper()
	return machine(t, map[string]string{
		"sys/class/block/loop0": "", "sys/class/block/vda": "", "sys/class/block/sr0": "", "dev/vda": strings.Repeat("\x00", 1<<16), "dev/sr0": content,
	})
}

var noCloudFiles = map[string]string{
	"meta-data": "instance-id: i-1\nlocal-hostname: node-1\npublic-keys: {a: ssh-ed25519 AAAA, b: [ssh-ed25519 BBBB]}\n", "user-data": config,
}

func noCloudData() datasource.Data {
	return datasource.Data{InstanceID: "i-1", Hostname: "node-1", UserData: []byte(config), SSHKeys: []string{"ssh-ed25519 AAAA", "ssh-ed25519 BBBB"}}
}

func TestNoCloudDisk(t *testing.T) {
	for _, label := range []string{"cidata", "CIDATA"} {
		fetched(t, datasource.NoCloud{Machine: disk(t, image(t, label, noCloudFiles))}, noCloudData())
	}
	addressed := map[string]string{"meta-data": "instance-id: i-1\nlocal-ipv4: 10.0.0.7\npublic-ipv4: dhcp\n", "user-data": config}
	want := datasource.Data{InstanceID: "i-1", UserData: []byte(config)}
	want.Addresses.PrivateIPv4 = netip.MustParseAddr("10.0.0.7")
	fetched(t, datasource.NoCloud{Machine: disk(t, image(t, "cidata", addressed))}, want)
	notHere(t, datasource.NoCloud{Machine: disk(t, image(t, "other", noCloudFiles))})
	notHere(t, datasource.NoCloud{Machine: disk(t, image(t, "cidata", map[string]string{"other": ""}))})

	m := machine(t, map[string]string{"dev/vdb1": image(t, "whatever", noCloudFiles)})
	if err := os.MkdirAll(filepath.Join(m.Root, "dev/disk/by-label"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../vdb1", filepath.Join(m.Root, "dev/disk/by-label/cidata")); err != nil {
		t.Fatal(err)
	}
	fetched(t, datasource.NoCloud{Machine: m}, noCloudData())
}

// TestGenisoimage reads what the usual tool makes, with each of its ways to keep long names.
func TestGenisoimage(t *testing.T) {
	tool, err := exec.LookPath("genisoimage")
	if err != nil {
		t.Skip("genisoimage is not installed: only the library's own images are read (Debian: apt-get install genisoimage)")
	}
	dir := t.TempDir()
	for name, content := range noCloudFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, options := range map[string][]string{
		"Rock Ridge and Joliet": {"-joliet", "-rock"}, "Rock Ridge": {"-rock"}, "Joliet": {"-joliet"}, "neither": nil, "long": {"-l"},
	} {
		out := filepath.Join(t.TempDir(), "seed.iso")
		args := append([]string{"-quiet", "-output", out, "-volid", "cidata"}, options...)
		if text, err := exec.CommandContext(t.Context(), tool, append(args, dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { fetched(t, datasource.NoCloud{Machine: disk(t, string(content))}, noCloudData()) })
	}
}

// boot is a boot sector with a label.
func boot(fat32 bool, label string) string {
	var sector [1 << 12]byte
	signature, at, kind, name := 38, 43, 54, "FAT16   "
	if fat32 {
		signature, at, kind, name = 66, 71, 82, "FAT32   "
	}
	sector[signature] = 0x29
	copy(sector[at:], label+strings.Repeat(" ", 11-len(label)))
	copy(sector[kind:], name)
	binary.LittleEndian.PutUint16(sector[510:], 0xaa55)
	return string(sector[:])
}

func TestNoCloudFAT(t *testing.T) {
	for _, fat32 := range []bool{true, false} {
		m := disk(t, boot(fat32, "CIDATA"))
		dir, unmounted := t.TempDir(), 0
		m.Mount = func(device, kind string) (string, func() error, error) {
			if device != filepath.Join(m.Root, "dev/sr0") || kind != "vfat" {
				t.Errorf("mounts %s as %s", device, kind)
			}
			return dir, func() error { unmounted++; return nil }, nil
		}
		notHere(t, datasource.NoCloud{Machine: m})
		for name, content := range noCloudFiles {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fetched(t, datasource.NoCloud{Machine: m}, noCloudData())
		if unmounted != 2 {
			t.Errorf("unmounted %d times", unmounted)
		}
		m.Mount = func(string, string) (string, func() error, error) { return "", nil, errors.New("no FAT here") }
		refused(t, datasource.NoCloud{Machine: m}, "no FAT here")
	}
	notHere(t, datasource.NoCloud{Machine: disk(t, boot(true, "EFI"))})
}

func TestConfigDrive(t *testing.T) {
	files := map[string]string{
		"openstack/latest/user_data": config,
		"openstack/latest/meta_data.json": `{"uuid": "9f0c-1", "hostname": "node-1.novalocal", "name": "node-1", "availability_zone": "nova",
			"public_keys": {"b": "ssh-ed25519 BBBB\n", "a": "ssh-ed25519 AAAA"}, "random_seed": "x"}`,
		"openstack/latest/network_data.json": `{"links": [{"id": "tap0", "type": "bond"}], "networks": [
			{"id": "n0", "type": "ipv4", "link": "tap0", "ip_address": "203.0.113.9", "netmask": "255.255.255.0", "routes": []},
			{"id": "n1", "type": "ipv4", "ip_address": "10.184.0.7/19"}, {"type": "ipv6", "ip_address": "2001:db8::9"}, {"type": "ipv4_dhcp"}],
			"services": []}`,
	}
	want := datasource.Data{
		InstanceID: "9f0c-1", Hostname: "node-1.novalocal", UserData: []byte(config), SSHKeys: []string{"ssh-ed25519 AAAA", "ssh-ed25519 BBBB"},
	}
	want.Addresses.PublicIPv4 = netip.MustParseAddr("203.0.113.9")
	want.Addresses.PrivateIPv4 = netip.MustParseAddr("10.184.0.7")
	want.Addresses.PublicIPv6 = netip.MustParseAddr("2001:db8::9")
	fetched(t, datasource.ConfigDrive{Machine: disk(t, image(t, "config-2", files))}, want)

	delete(files, "openstack/latest/user_data")
	delete(files, "openstack/latest/network_data.json")
	files["openstack/latest/meta_data.json"] = `{"uuid": "9f0c-1", "name": "node-1"}`
	fetched(t, datasource.ConfigDrive{Machine: disk(t, image(t, "config-2", files))}, datasource.Data{InstanceID: "9f0c-1", Hostname: "node-1"})

	files["openstack/latest/network_data.json"] = "["
	refused(t, datasource.ConfigDrive{Machine: disk(t, image(t, "config-2", files))}, "network_data.json is not JSON")
	files["openstack/latest/meta_data.json"] = "["
	refused(t, datasource.ConfigDrive{Machine: disk(t, image(t, "config-2", files))}, "meta_data.json is not JSON")
	notHere(t, datasource.ConfigDrive{Machine: disk(t, image(t, "cidata", files))})
	if _, err := (datasource.ConfigDrive{Machine: disk(t, image(t, "config-2", map[string]string{"x": ""}))}).Fetch(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a config drive without metadata: %v", err)
	}
}

func TestSeed(t *testing.T) {
	files := map[string]string{}
	for name, content := range noCloudFiles {
		files["var/lib/cloud/seed/nocloud-net/"+name] = content
	}
	fetched(t, datasource.Seed{Machine: machine(t, files)}, noCloudData())

	local := datasource.Data{InstanceID: "i-2", Hostname: "node-2", UserData: []byte(config)}
	local.Addresses.PrivateIPv4 = netip.MustParseAddr("127.0.0.2")
	const meta = `{"instance_id": "i-2", "local_hostname": "node-2", "local_ipv4": "127.0.0.2", "ports": {"api": 1}}`
	fetched(t, datasource.Seed{Machine: machine(t, map[string]string{"user-data": config, "meta-data.json": meta})}, local)
	refused(t, datasource.Seed{Machine: machine(t, map[string]string{"user-data": config, "meta-data.json": "{}"})}, "it has no instance_id")
	refused(t, datasource.Seed{Machine: machine(t, map[string]string{"meta-data.json": meta})}, "user-data")
}

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
