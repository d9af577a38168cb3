package ignition_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_4"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cloudconfig/ignition"
)

func addresses() cloudconfig.Addresses {
	return cloudconfig.Addresses{
		PrivateIPv4: netip.MustParseAddr("10.0.0.7"), PublicIPv4: netip.MustParseAddr("203.0.113.7"),
		PrivateIPv6: netip.MustParseAddr("fd00::7"), PublicIPv6: netip.MustParseAddr("2001:db8::7"),
	}
}

// accepted has Ignition's own package read a configuration, and gives nothing but complaints.
func accepted(t testing.TB, data []byte) {
	t.Helper()
	_, report, err := v3_4.Parse(data)
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("Ignition says %v\n%s\n%s", err, report.String(), data)
	}
}

const everything = `#cloud-config
hostname: web-1.example.com
manage_etc_hosts: true
users:
  - default
  - {name: ops, uid: 1500, passwd: $6$x$y, groups: [sudo, web], sudo: "ALL=(ALL) ALL", ssh_authorized_keys: [ssh-ed25519 BBBB ops]}
  - {name: locked, passwd: $6$x$z, lock_passwd: true, shell: /bin/bash, no_create_home: true}
ssh_authorized_keys: [ssh-ed25519 AAAA me]
write_files:
  - {path: /etc/motd, content: "100% & <more>\n", permissions: "0640", owner: "root:ops"}
  - {path: /etc/bin, encoding: b64, content: /wA=, owner: "1500:1500"}
  - {path: /etc/zip, encoding: gz+b64, content: H4sIAAAAAAACA6vKLChITeECAKwAOscHAAAA}
coreos:
  update: {group: stable, reboot_strategy: "off"}
  flannel: {etcd_password: secret}
  etcd2: {name: a}
  units:
    - {name: a.service, enable: true, command: start, content: "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"}
    - {name: b.service, mask: true}
    - {name: c.service, command: restart}
    - {name: d.service, drop_ins: [{name: x.conf, content: "[Service]\n"}]}
    - {name: e.network, runtime: true, content: "[Match]\n"}
bootcmd: [echo early]
runcmd: [[touch, "it's"], echo late]
`

func TestRender(t *testing.T) {
	doc, err := cloudconfig.Parse("f", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	data, err := ignition.Render(doc)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, data)
	golden.Compare(t, "testdata/everything.json", data)

	empty, err := ignition.Render(cloudconfig.Document{})
	if err != nil || string(empty) != "{\n  \"ignition\": {\n    \"version\": \"3.4.0\"\n  }\n}\n" {
		t.Errorf("%s, %v", empty, err)
	}
	accepted(t, empty)
}

func TestHost(t *testing.T) {
	host := cloudconfig.FirstBoot{
		Hostname: "node-1", ConfigPath: "/etc/muster/host.json", Config: []byte("{}\n"),
		Musterd: []cloudconfig.Download{{Architecture: "amd64", URLs: []string{"https://a.example/musterd"}, SHA256: strings.Repeat("0f", 32)}},
	}
	operator, err := cloudconfig.ParseOperator("f", []byte("#cloud-config\nwrite_files: [{path: /x, content: $private_ipv4}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := host.Merge(operator)
	if err != nil {
		t.Fatal(err)
	}
	data, err := ignition.Render(doc)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, data)
	golden.Compare(t, "testdata/host.json", data)
}

func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../testdata/2014/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := cloudconfig.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ignition.Render(doc); (len(doc.Addresses()) > 0) != (err != nil) {
			t.Errorf("%s with variables: %v", name, err)
		}
		if doc, err = doc.ExpandAddresses(addresses()); err != nil {
			t.Fatal(err)
		}
		data, err := ignition.Render(doc)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, data)
	}
}

func TestRefuses(t *testing.T) {
	doc, err := cloudconfig.Parse("f", []byte("#cloud-config\nruncmd:\n- a $public_ipv4 \\$private_ipv4\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = ignition.Render(doc)
	if want := "f:3:3: `public_ipv4` has no value here: Ignition cannot fill it in"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = ignition.Render(cloudconfig.Document{WriteFiles: []cloudconfig.File{{Path: "/x", Encoding: cloudconfig.Base64, Content: "%"}}})
	if err == nil || !strings.HasPrefix(err.Error(), "cannot render /x: the content is not base64") {
		t.Errorf("got %v", err)
	}
}

// FuzzRender checks that Ignition reads whatever a valid cloud-config becomes.
func FuzzRender(f *testing.F) {
	f.Add([]byte(everything))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "file:") {
			return // a secret's file: nothing is to be read here
		}
		doc, err := cloudconfig.Parse("f", data)
		if err != nil || len(doc.Uses) > 0 {
			return
		}
		out, err := ignition.Render(doc)
		if err != nil {
			return
		}
		if _, report, err := v3_4.Parse(out); err != nil && !known(report.String()) {
			t.Fatalf("%v\n%s\n%s", err, report.String(), out)
		}
	})
}

// known are conflicts between parts of a document, which Ignition finds and we leave to it.
func known(report string) bool {
	for _, text := range []string{"duplicate", "conflict", "error validating", "invalid unit content"} {
		if strings.Contains(strings.ToLower(report), text) {
			return true
		}
	}
	return false
}
