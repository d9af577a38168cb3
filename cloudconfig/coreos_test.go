package cloudconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
)

func TestCoreOSFindings(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"update":         {"coreos: {update: {reboot-strategy: rebot, group: \"a\\nb\", channel: a}}\n", "f:2:36: no reboot strategy is called `rebot`; did you mean `reboot`?\nf:2:50: it has more than one line\nf:2:58: unknown key `channel`; there are `reboot_strategy`, `group` and `server`"},
		"an off that is": {"coreos: {update: {reboot-strategy: off}}\n", ""},
		"options":        {"coreos:\n  etcd2:\n    advertise-client-url: x\n    name: [a]\n    debug:\n  fleet: {metadata: 'a=b,c'}\n", "f:4:5: etcd2 has no option `advertise_client_url`; did you mean `advertise_client_urls`?\nf:5:11: `name` must be a string, not a list\nf:6:11: `debug` has no value; give it a string, or remove the key\nf:7:21: `c` is no metadata; write key=value,key=value"},
		"units":          {"coreos:\n  units:\n  - {command: start}\n  - {name: a}\n  - {name: a/b.service}\n  - {name: a.service, command: strat}\n  - {name: a.service, mask: true, content: \"[Unit]\\n\"}\n", "f:4:5: a unit needs a `name`\nf:5:12: `a` is no name of a unit; end it in .service, .socket, .timer, .mount or another of systemd's kinds\nf:6:12: `a/b.service` is no name of a unit; end it in .service, .socket, .timer, .mount or another of systemd's kinds\nf:7:32: no command is called `strat`; did you mean `start`?\nf:8:12: a second unit `a.service`\nf:8:29: masking the unit `a.service` would discard its content; remove one of them"},
		"sections":       {"coreos:\n  units:\n  - name: a.service\n    content: |\n      # a comment\n\n      Description=x\n  - name: b.service\n    drop-ins:\n    - name: x.conf\n      content: 'A=b'\n    - {name: x.conf}\n    - {name: x}\n    - {}\n", "f:8: no section of the unit file begins here; write a line such as [Service] before it\nf:12:16: no section of the unit file begins here; write a line such as [Service] before it\nf:13:14: a second drop-in `x.conf`\nf:14:14: `x` is no name of a drop-in; end it in .conf\nf:15:7: a drop-in needs a `name`"},
		"contents":       {"write_files:\n- {path: /a, content: 12345}\n- {path: /b, content: true}\n- {path: /c, encoding: b64, content: !!binary aGk=}\n", "f:3:23: `content` must be a string; put it in quotes\nf:4:23: `content` must be a string; put it in quotes\nf:5:24: the content is `!!binary`, and so base64 already; remove the encoding"},
		"hosts":          {"manage_etc_hosts: sometimes\n", "f:2:19: `sometimes` is no way to manage /etc/hosts; write true, false or localhost"},
		"both spellings": {"ssh-authorized-keys: [a]\nssh_authorized_keys: [b]\n", "f:3:1: duplicate key `ssh_authorized_keys`, first on line 2"},
		"github":         {"users: [{name: a, coreos-ssh-import-github: b}]\n", "f:2:19: unknown key `coreos_ssh_import_github`; there are `name`, `gecos`, `uid`, `primary_group`, `groups`, `homedir`, `shell`, `sudo`, `system`, `no_create_home`, `no_user_group`, `no_log_init`, `lock_passwd`, `passwd` and `ssh_authorized_keys`"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cloudconfig.Parse("f", []byte("#cloud-config\n"+tc.in))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	own := "coreos: {units: [{name: musterd.service, content: \"[Unit]\\n\"}, {name: musterd.service, drop_ins: [{name: a.conf}]}]}\n"
	_, err := cloudconfig.ParseOperator("f", []byte("#cloud-config\n"+own))
	if want := "f:2:25: `musterd.service` is muster's own; give it drop_ins\nf:2:71: a second unit `musterd.service`"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestManageEtcHosts(t *testing.T) {
	for in, want := range map[string]cloudconfig.EtcHosts{
		"true": cloudconfig.HostsWhole, "template": cloudconfig.HostsWhole, "localhost": cloudconfig.HostsLocalhost,
		"\"localhost\"": cloudconfig.HostsLocalhost, "false": cloudconfig.HostsAlone,
	} {
		doc := parsed(t, "manage_etc_hosts: "+in+"\n")
		again, err := cloudconfig.Parse("f", doc.Render())
		if err != nil || doc.ManageEtcHosts != want || again.ManageEtcHosts != want {
			t.Errorf("%s: %q, %q, %v", in, doc.ManageEtcHosts, again.ManageEtcHosts, err)
		}
	}
}

// TestCorpusRendersAndParses reads the documents of 2014 and those that they render to.
func TestCorpusRendersAndParses(t *testing.T) {
	files, err := filepath.Glob("testdata/2014/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := cloudconfig.ParseOperator(name, text)
		if err != nil {
			t.Error(err)
			continue
		}
		again, err := cloudconfig.ParseOperator(name, doc.Render())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(withoutPlaces(doc), withoutPlaces(again)); diff != "" {
			t.Errorf("%s: -parsed +rendered and parsed\n%s", name, diff)
		}
		expanded, err := doc.ExpandAddresses(addresses())
		if err != nil || len(expanded.Uses) > 0 {
			t.Errorf("%s: %v, %v", name, err, expanded.Uses)
		}
	}
}

// withoutPlaces leaves out where variables stand.
func withoutPlaces(doc cloudconfig.Document) cloudconfig.Document {
	var uses []cloudconfig.Use
	for _, u := range doc.Uses {
		uses = append(uses, cloudconfig.Use{Name: u.Name, Path: u.Path, Escaped: u.Escaped})
	}
	doc.Uses = uses
	return doc
}

func TestMergeCoreOS(t *testing.T) {
	base := parsed(t, `
manage_etc_hosts: localhost
coreos:
  update: {group: stable, reboot_strategy: reboot}
  etcd2: {name: a, debug: true}
  units: [{name: a.service, command: start}, {name: b.service, mask: true}]
`)
	over := parsed(t, `
manage_etc_hosts: true
coreos:
  update: {group: beta}
  etcd2: {name: b}
  fleet: {public_ip: "1"}
  units: [{name: a.service, command: stop}, {name: c.service, enable: true}]
`)
	want := parsed(t, `
manage_etc_hosts: true
coreos:
  update: {group: beta, reboot_strategy: reboot}
  etcd2: {name: b, debug: true}
  fleet: {public_ip: "1"}
  units: [{name: a.service, command: stop}, {name: b.service, mask: true}, {name: c.service, enable: true}]
`)
	before := string(base.Render()) + string(over.Render())
	got, err := cloudconfig.Merge(base, over)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if string(base.Render())+string(over.Render()) != before {
		t.Error("merging changed a document")
	}
}

func TestTemplate(t *testing.T) {
	doc, err := cloudconfig.ParseOperator("template", []byte(cloudconfig.Template))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Expand(cloudconfig.Variables{Host: "a", Cluster: "b"}); err != nil {
		t.Error(err)
	}
	// What is commented out in it is valid, too.
	var all strings.Builder
	for line := range strings.Lines(cloudconfig.Template) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && len(rest) > 1 && (rest[0] == 'c' && rest[1] == 'o' && rest[2] == 'r' || rest[0] == ' ' && rest[1] == ' ' && rest[2] != ' ') {
			line = rest
		}
		line = strings.Replace(line, "ssh_authorized_keys: []", "ssh_authorized_keys:", 1)
		all.WriteString(line)
	}
	if _, err := cloudconfig.ParseOperator("template", []byte(all.String())); err != nil {
		t.Errorf("%v\n%s", err, &all)
	}
}
