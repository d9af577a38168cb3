package cloudconfig_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func remoteBoot() cloudconfig.FirstBoot {
	b := firstBoot()
	b.Musterd = downloads(strings.Repeat("0f", 32), "https://a.example/musterd")
	b.Variables = variables()
	return b
}

// TestUserDataForMusterd sends what cloud-init does not know to musterd.
func TestUserDataForMusterd(t *testing.T) {
	doc := operator(t, `
manage_etc_hosts: localhost
users: [default, {name: ops, passwd: $6$x$y}]
write_files: [{path: /etc/motd, content: "${muster.host} at $private_ipv4\n"}]
coreos: {units: [{name: hello.service, command: start, content: "[Service]\nExecStart=/bin/echo hello\n"}]}
runcmd: [echo late]
`)
	data, err := cloudconfig.UserData(remoteBoot(), doc)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/operator.yaml", data)
	outer, err := cloudconfig.Parse("user-data", data)
	if err != nil {
		t.Fatal(err)
	}
	if len(outer.Uses) > 0 {
		t.Errorf("variables in muster's own files are taken for the host's: %v", outer.Uses)
	}
	for _, f := range outer.WriteFiles {
		if f.Path != cloudconfig.OperatorPath {
			continue
		}
		inner, err := cloudconfig.Parse(f.Path, []byte(f.Content))
		if err != nil || !cmp.Equal(inner.Addresses(), []string{"private_ipv4"}) || len(inner.CoreOS.Units) != 1 || f.Permissions != "0600" {
			t.Errorf("%+v, %v", inner, err)
		}
	}
}

// TestUserDataSmall holds muster's own part to its figure: below 6 KiB on EC2, whose limit is 16 KiB.
func TestUserDataSmall(t *testing.T) {
	b := remoteBoot()
	certificate := "-----BEGIN CERTIFICATE-----\\n" + strings.Repeat(strings.Repeat("M", 64)+"\\n", 10) + "-----END CERTIFICATE-----\\n"
	b.Config = []byte(fmt.Sprintf(`{
  "version": 1,
  "cluster_id": "0b0e7f6e-7f5a-4a43-9c3f-6a3d5a0e1c55",
  "cluster_name": "production-cluster",
  "host": "node-10000",
  "host_id": "0123456789abcdef0123456789abcdef",
  "generation": 12,
  "provider": "ec2-frankfurt",
  "labels": {"zone": "eu-central-1a", "role": "web", "disk": "ssd"},
  "ca": "%s",
  "endpoints": ["192.0.2.1:7443", "192.0.2.2:7443", "192.0.2.3:7443", "192.0.2.4:7443", "192.0.2.5:7443"],
  "token": "%s",
  "lease_ms": 5000
}
`, certificate, strings.Repeat("t", 43)))
	b.Musterd = downloads(strings.Repeat("0f", 32),
		"https://muster-releases.s3.eu-central-1.amazonaws.com/v1.2.3/musterd-linux-amd64", "http://192.0.2.10:8080/musterd-linux-amd64")
	data, err := cloudconfig.UserData(b, cloudconfig.Document{})
	if err != nil {
		t.Fatal(err)
	}
	const most = 6 << 10
	if len(data) >= most {
		t.Errorf("the user-data has %d bytes, %d or more", len(data), most)
	}
	t.Logf("%d bytes, %d in gzip", len(data), len(cloudconfig.Gzip(data)))
}

// TestSchema has cloud-init itself read what is rendered.
func TestSchema(t *testing.T) {
	cloudInit, err := exec.LookPath("cloud-init")
	if err != nil {
		t.Skip("cloud-init is not installed: its schema is not checked (Debian: apt-get install cloud-init)")
	}
	_, all := everythingParsed(t)
	all.Hostname, all.ManageEtcHosts = "", cloudconfig.HostsWhole
	everything, err := cloudconfig.UserData(remoteBoot(), all)
	if err != nil {
		t.Fatal(err)
	}
	documents := map[string][]byte{"everything": everything}
	for _, name := range []string{"remote.yaml", "operator.yaml"} {
		if documents[name], err = os.ReadFile(filepath.Join("testdata", name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range documents {
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), cloudInit, "schema", "--config-file", file).CombinedOutput()
		if err != nil || strings.Contains(strings.ToLower(string(out)), "deprecat") {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, data)
		}
	}
}
