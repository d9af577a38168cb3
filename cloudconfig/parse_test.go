package cloudconfig_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/secret"
)

const everything = `#cloud-config
# A comment.
hostname: web-1.example.com
users:
  - default
  - name: core
    gecos: Core
    uid: 500
    primary_group: core
    groups: wheel, docker
    homedir: /home/core
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: false
    passwd: $6$salt$hash
    ssh_authorized_keys: [ssh-ed25519 AAAA core]
  - {name: robot, system: true, no_create_home: true, groups: [wheel], sudo: [a, b]}
ssh_authorized_keys:
  - ssh-ed25519 AAAA me
write_files:
  - path: /etc/motd
    content: |
      Welcome.

      Bye.
  - {path: /opt/run, content: "#!/bin/sh\nexit 0\n", owner: "core:core", permissions: 0755, encoding: text/plain}
  - {path: /opt/a, content: aGVsbG8=, permissions: '644', encoding: base64}
  - {path: /opt/b, content: GZIP, permissions: 0o4755, encoding: gzip+base64}
bootcmd:
  - echo early
runcmd:
  - [touch, "/a b"]
  - echo late | tee /x
`

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func everythingParsed(t testing.TB) (string, cloudconfig.Document) {
	t.Helper()
	zip := gzipped(t, "zipped")
	uid, no := 500, false
	return strings.Replace(everything, "GZIP", zip, 1), cloudconfig.Document{
		Hostname: "web-1.example.com",
		Users: []cloudconfig.User{
			{Name: "default"},
			{
				Name: "core", Gecos: "Core", UID: &uid, PrimaryGroup: "core", Groups: []string{"wheel", "docker"},
				HomeDir: "/home/core", Shell: "/bin/bash", Sudo: []string{"ALL=(ALL) NOPASSWD:ALL"}, LockPasswd: &no,
				Passwd: secret.New("$6$salt$hash"), SSHAuthorizedKeys: []string{"ssh-ed25519 AAAA core"},
			},
			{Name: "robot", System: true, NoCreateHome: true, Groups: []string{"wheel"}, Sudo: []string{"a", "b"}},
		},
		SSHAuthorizedKeys: []string{"ssh-ed25519 AAAA me"},
		WriteFiles: []cloudconfig.File{
			{Path: "/etc/motd", Content: "Welcome.\n\nBye.\n"},
			{Path: "/opt/run", Content: "#!/bin/sh\nexit 0\n", Owner: "core:core", Permissions: "0755"},
			{Path: "/opt/a", Content: "aGVsbG8=", Permissions: "0644", Encoding: cloudconfig.Base64},
			{Path: "/opt/b", Content: zip, Permissions: "4755", Encoding: cloudconfig.Gzip64},
		},
		BootCmd: []cloudconfig.Command{{Shell: "echo early"}},
		RunCmd:  []cloudconfig.Command{{Args: []string{"touch", "/a b"}}, {Shell: "echo late | tee /x"}},
	}
}

func TestParse(t *testing.T) {
	in, want := everythingParsed(t)
	got, err := cloudconfig.Parse("f", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	again, err := cloudconfig.Parse("f", got.Render())
	if err != nil {
		t.Fatalf("%v\n%s", err, got.Render())
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("-parsed +rendered and parsed\n%s", diff)
	}
	if !bytes.Equal(got.Render(), again.Render()) {
		t.Error("rendering is not deterministic")
	}
}

func TestParseEmpty(t *testing.T) {
	for _, in := range []string{
		"#cloud-config", "#cloud-config\n", "\ufeff#cloud-config \r\n\r\n# x\n", "#cloud-config\n{}\n", "#cloud-config\nusers:\nruncmd: []\n",
		string(cloudconfig.Document{}.Render()),
	} {
		if got, err := cloudconfig.Parse("f", []byte(in)); err != nil || !cmp.Equal(got, cloudconfig.Document{}) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestParseFindings(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"no header":   {"hostname: a\n", "f:1:1: this is no cloud-config; make `#cloud-config` its first line"},
		"a script":    {"#!/bin/sh\n", "f:1:1: this is no cloud-config; make `#cloud-config` its first line"},
		"nothing":     {"", "f:1:1: this is no cloud-config; make `#cloud-config` its first line"},
		"unknown key": {"#cloud-config\nruncmds: [a]\npackages: [b]\n", "f:2:1: unknown key `runcmds`; did you mean `runcmd`?\nf:3:1: unknown key `packages`; there are `hostname`, `manage_etc_hosts`, `users`, `ssh_authorized_keys`, `write_files`, `coreos`, `bootcmd` and `runcmd`"},
		"host name":   {"#cloud-config\nhostname: a_b\n", "f:2:11: `a_b` is no host name; use letters, digits and hyphens"},
		"users":       {"#cloud-config\nusers:\n- {shell: /bin/sh}\n- 'a b'\n- bob\n- {name: bob, groups: 'a,,b', ssh_authorized_keys: ['']}\n", "f:3:3: a user needs a `name`\nf:4:3: `a b` is no user name\nf:6:10: a second user `bob`\nf:6:15: `` is no group name\nf:6:53: this is no public key; give one line of a .pub file"},
		"paths":       {"#cloud-config\nwrite_files:\n- {content: a}\n- {path: a}\n- {path: /a/../b}\n- {path: /}\n- {path: /a/}\n- {path: /x}\n- {path: /x}\n", "f:3:3: a file needs a `path`\nf:4:10: `a` is not an absolute path\nf:5:10: `/a/../b` should be `/b`\nf:6:10: `/` is a directory\nf:7:10: `/a/` should be `/a`\nf:9:10: `/x` is written twice, first on line 8"},
		"permissions": {"#cloud-config\nwrite_files:\n- {path: /a, permissions: 644}\n- {path: /b, permissions: '0888'}\n- {path: /c, permissions: rw}\n- {path: /d, permissions: 0o17777}\n- {path: /e, permissions: [1]}\n", "f:3:27: the mode `644` would be read as a decimal number; write \"0644\"\nf:4:27: `0888` is no file mode; write four octal digits in quotes, such as \"0644\"\nf:5:27: `rw` is no file mode; write four octal digits in quotes, such as \"0644\"\nf:6:27: `0o17777` is no file mode; write four octal digits in quotes, such as \"0644\"\nf:7:27: `permissions` must be a string, not a list"},
		"owner":       {"#cloud-config\nwrite_files:\n- {path: /a, owner: 'a b'}\n", "f:3:21: `a b` is no owner; write user or user:group"},
		"encoding":    {"#cloud-config\nwrite_files:\n- {path: /a, encoding: gz}\n- {path: /b, encoding: b64, content: '%'}\n- {path: /c, encoding: gz+b64, content: aGk=}\n", "f:3:24: no text is gzip; write the content as `!!binary`, or the encoding as `gz+b64`\nf:4:38: the content is not base64: illegal base64 data at input byte 0\nf:5:41: the content is not gzip: unexpected EOF"},
		"commands":    {"#cloud-config\nruncmd: ['', [], [''], {a: b}, 1, [a, 2]]\nbootcmd: a\n", "f:2:10: the command is empty; remove it\nf:2:14: the command is empty; remove it\nf:2:18: the command is empty; remove it\nf:2:24: `runcmd[3]` must be a list, not a mapping\nf:2:32: `runcmd[4]` must be a string, not a whole number; put it in quotes: \"1\"\nf:2:39: `runcmd[5][1]` must be a string, not a whole number; put it in quotes: \"2\"\nf:3:10: `bootcmd` must be a list, not a string; write [a]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cloudconfig.Parse("f", []byte(tc.in))
			if err == nil {
				t.Fatal("no finding")
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestParseOperatorRefusesReservedFiles(t *testing.T) {
	in := "#cloud-config\nwrite_files:\n- {path: /etc/muster}\n- {path: /etc/muster/host.json}\n- {path: /etc/mustering}\n"
	if _, err := cloudconfig.Parse("f", []byte(in)); err != nil {
		t.Error(err)
	}
	_, err := cloudconfig.ParseOperator("f", []byte(in))
	want := "f:3:10: `/etc/muster` is in `/etc/muster`, which is muster's own; write it elsewhere\n" +
		"f:4:10: `/etc/muster/host.json` is in `/etc/muster`, which is muster's own; write it elsewhere"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestParseBoundsDecodedContent(t *testing.T) {
	bomb := gzipped(t, strings.Repeat("\x00", cloudconfig.MaxFileBytes))
	over := gzipped(t, strings.Repeat("\x00", cloudconfig.MaxFileBytes+1))
	file := "- {path: /%, encoding: gz+b64, content: " + bomb + "}\n"
	in := "#cloud-config\nwrite_files:\n" + strings.Replace(file, bomb, over, 1)
	for i := range 6 {
		in += strings.Replace(file, "%", string(rune('a'+i)), 1)
	}
	_, err := cloudconfig.Parse("f", []byte(in))
	want := "f:3:41: the content is not gzip: it has more than 16 MiB\nf:8:41: the files have more than 64 MiB up to here"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestFileBytesAndMode(t *testing.T) {
	_, doc := everythingParsed(t)
	wantMode := []fs.FileMode{0o644, 0o755, 0o644, 0o755 | fs.ModeSetuid}
	for i, want := range []string{"Welcome.\n\nBye.\n", "#!/bin/sh\nexit 0\n", "hello", "zipped"} {
		f := doc.WriteFiles[i]
		if data, err := f.Bytes(); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", f.Path, data, err)
		}
		if mode, err := f.Permissions.Mode(); err != nil || mode != wantMode[i] {
			t.Errorf("%s: %v, %v", f.Path, mode, err)
		}
	}
	for _, data := range []string{"", "text\n", "\xff\x00", " lead\n\n\ttab", "\r\n\u2028\x00"} {
		f := cloudconfig.NewFile("/f", []byte(data), "0600")
		doc, err := cloudconfig.Parse("f", cloudconfig.Document{WriteFiles: []cloudconfig.File{f}}.Render())
		if err != nil {
			t.Errorf("%q: %v", data, err)
			continue
		}
		if got, err := doc.WriteFiles[0].Bytes(); err != nil || string(got) != data {
			t.Errorf("%q came back as %q, %v", data, got, err)
		}
	}
	if _, err := cloudconfig.Permissions("9").Mode(); err == nil {
		t.Error("9 is a mode")
	}
	if got := (cloudconfig.Command{Args: []string{"a", "b"}}).String() + (cloudconfig.Command{Shell: "; c"}).String(); got != "a b; c" {
		t.Errorf("commands print %s", got)
	}
}
