package cloudconfig_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func firstBoot() cloudconfig.FirstBoot {
	return cloudconfig.FirstBoot{
		Hostname:   "node-1",
		ConfigPath: "/etc/muster/host.json",
		Config:     []byte("{\n  \"version\": 1,\n  \"ca\": \"-----BEGIN CERTIFICATE-----\\nMIIB\\n\"\n}\n"),
	}
}

func downloads(sum string, urls ...string) []cloudconfig.Download {
	var all []cloudconfig.Download
	for _, arch := range []string{"arm64", "amd64"} {
		all = append(all, cloudconfig.Download{Architecture: arch, URLs: urls, SHA256: sum})
	}
	return all
}

func TestUserData(t *testing.T) {
	local, err := cloudconfig.UserData(firstBoot(), cloudconfig.Document{})
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/local.yaml", local)

	remote := firstBoot()
	remote.Musterd = downloads(strings.Repeat("0f", 32), "https://a.example/musterd", "https://b.example/it's?a=1&b=$(x)")
	operator := parsed(t, "ssh_authorized_keys: [ssh-ed25519 AAAA me]\nruncmd: [[mkdir, /srv]]\n")
	data, err := cloudconfig.UserData(remote, operator)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/remote.yaml", data)
	doc, err := cloudconfig.Parse("remote.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if string(doc.Render()) != string(data) {
		t.Error("the user-data does not come back the same")
	}
}

// TestUserDataAwaits is for a host to which musterd is brought.
func TestUserDataAwaits(t *testing.T) {
	b := firstBoot()
	b.Awaits, b.Variables = true, variables()
	data, err := cloudconfig.UserData(b, parsed(t, "runcmd: [[mkdir, /srv]]\n"))
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/awaits.yaml", data)
}

func TestUserDataRefuses(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	for want, mend := range map[string]func(*cloudconfig.FirstBoot){
		"cannot write the host's configuration to `/tmp/x`: it is not in /etc/muster": func(b *cloudconfig.FirstBoot) { b.ConfigPath = "/tmp/x" },
		"cannot write the host's configuration to `/etc/muster/../x`: it is not in /etc/muster": func(b *cloudconfig.FirstBoot) {
			b.ConfigPath = "/etc/muster/../x"
		},
		"cannot fetch musterd for `z80`: the architecture `z80` is not known": func(b *cloudconfig.FirstBoot) {
			b.Musterd = []cloudconfig.Download{{Architecture: "z80", URLs: []string{"http://a/b"}, SHA256: sum}}
		},
		"cannot fetch musterd for `amd64`: no URL is given": func(b *cloudconfig.FirstBoot) { b.Musterd = downloads(sum) },
		"cannot fetch musterd for `amd64`: `0F` is no SHA-256 in lower-case hexadecimal digits": func(b *cloudconfig.FirstBoot) {
			b.Musterd = downloads("0F", "http://a/b")
		},
		"cannot fetch musterd for `amd64`: `ftp://a/b` is no http or https URL": func(b *cloudconfig.FirstBoot) {
			b.Musterd = downloads(sum, "http://a/b", "ftp://a/b")
		},
		"cannot fetch musterd for `amd64`: it is given twice": func(b *cloudconfig.FirstBoot) {
			b.Musterd = append(downloads(sum, "http://a/b"), downloads(sum, "http://a/b")...)
		},
	} {
		b := firstBoot()
		mend(&b)
		if _, err := cloudconfig.UserData(b, cloudconfig.Document{}); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	_, err := cloudconfig.UserData(firstBoot(), parsed(t, "hostname: other\n"))
	if want := "cannot merge the cloud-config of host node-1: cannot set the hostname `other`: the cluster calls this host `node-1`"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// BenchmarkUserData renders what 10,000 hosts get: the figure to reach is below 2 s in all.
func BenchmarkUserData(b *testing.B) {
	boot := firstBoot()
	boot.Config = []byte(`{"ca":"` + strings.Repeat("MIIBejCCASCgAwIBAgIRAK", 40) + `"}`)
	boot.Musterd = downloads(strings.Repeat("0f", 32), "https://a.example/musterd")
	boot.Variables = variables()
	operator := operator(b, "ssh_authorized_keys: [ssh-ed25519 AAAA me]\nwrite_files: [{path: /etc/motd, content: '${muster.host}'}]\nruncmd: [[mkdir, /srv]]\n")
	const hosts = 10_000
	for b.Loop() {
		for i := range hosts {
			boot.Hostname = fmt.Sprintf("node-%d", i+1)
			if _, err := cloudconfig.UserData(boot, operator); err != nil {
				b.Fatal(err)
			}
		}
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(seconds, "s/10k-hosts")
	if seconds >= 2 {
		b.Errorf("rendering for %d hosts took %.1f s", hosts, seconds)
	}
}
