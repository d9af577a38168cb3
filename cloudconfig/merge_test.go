package cloudconfig_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
)

func parsed(t testing.TB, body string) cloudconfig.Document {
	t.Helper()
	doc, err := cloudconfig.Parse("f", []byte("#cloud-config\n"+body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestMerge(t *testing.T) {
	base := parsed(t, `
hostname: node-1
users: [default, {name: core, shell: /bin/sh}]
ssh_authorized_keys: [a, b]
write_files: [{path: /etc/muster/host.json, content: secret}, {path: /etc/motd, content: base}]
bootcmd: [base]
runcmd: [base]
`)
	over := parsed(t, `
hostname: node-1
users: [{name: core, shell: /bin/bash}, other]
ssh_authorized_keys: [b, c]
write_files: [{path: /etc/motd, content: over}, {path: /etc/issue, content: over}]
bootcmd: [over]
runcmd: [over]
`)
	want := parsed(t, `
hostname: node-1
users: [default, {name: core, shell: /bin/bash}, other]
ssh_authorized_keys: [a, b, c]
write_files: [{path: /etc/muster/host.json, content: secret}, {path: /etc/motd, content: over}, {path: /etc/issue, content: over}]
bootcmd: [base, over]
runcmd: [over, base]
`)
	before := string(base.Render()) + string(over.Render())
	got, err := cloudconfig.Merge(base, over)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if string(base.Render())+string(over.Render()) != before {
		t.Error("merging changed a document")
	}
	for name, tc := range map[string]struct{ base, over string }{
		"base alone": {"hostname: a\nruncmd: [x]\n", ""},
		"over alone": {"", "hostname: a\nruncmd: [x]\nusers: [b]\n"},
	} {
		got, err := cloudconfig.Merge(parsed(t, tc.base), parsed(t, tc.over))
		if diff := cmp.Diff(parsed(t, tc.base+tc.over), got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	base := parsed(t, "hostname: node-1\nwrite_files: [{path: /etc/muster/host.json}]\n")
	for over, want := range map[string]string{
		"hostname: web\n": "cannot set the hostname `web`: the cluster calls this host `node-1`",
		"write_files: [{path: /etc/muster/host.json}]\n":  "cannot write `/etc/muster/host.json`: `/etc/muster` is muster's own",
		"write_files: [{path: /etc/muster/unit/other}]\n": "cannot write `/etc/muster/unit/other`: `/etc/muster` is muster's own",
		"write_files: [{path: /etc/muster}]\n":            "cannot write `/etc/muster`: `/etc/muster` is muster's own",
	} {
		if _, err := cloudconfig.Merge(base, parsed(t, over)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", over, err)
		}
	}
	// Documents need not come from Parse.
	sly := cloudconfig.Document{WriteFiles: []cloudconfig.File{{Path: "/etc/x/../muster//host.json"}}}
	if _, err := cloudconfig.Merge(base, sly); err == nil {
		t.Error("a path that is not clean reaches a reserved file")
	}
}
