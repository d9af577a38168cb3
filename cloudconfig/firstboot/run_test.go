package firstboot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/datasource"
	"github.com/musterhq/muster/cloudconfig/firstboot"
	"github.com/musterhq/muster/cloudconfig/golden"
)

// image is what a root directory has before its first boot.
var image = map[string]string{
	"etc/passwd":                            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n# kept\n",
	"etc/group":                             "root:x:0:\nsudo:x:27:\nusers:x:100:\ndocker:x:233:old\n",
	"etc/shadow":                            "root:*:19000:0:99999:7:::\n",
	"etc/gshadow":                           "root:*::\nsudo:*::\n",
	"etc/hosts":                             "127.0.0.1 localhost\n127.0.1.1 image\n",
	"etc/machine-id":                        "0123456789abcdef0123456789abcdef\n",
	"etc/skel/.profile":                     "# profile\n",
	"root/.bashrc":                          "",
	"bin/bash":                              "",
	"run/systemd/system/.keep":              "",
	"proc/sys/kernel/random/boot_id":        "boot-1\n",
	"usr/lib/systemd/system/docker.service": "[Service]\nExecStart=/usr/bin/dockerd\n[Install]\nWantedBy=multi-user.target\n",
	"usr/lib/systemd/system/locksmithd.service": "[Service]\nExecStart=/usr/lib/locksmith/locksmithd\n",
}

func imageRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range image {
		put(t, root, name, content)
	}
	return root
}

func put(t testing.TB, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// source is a data source that is here, or not.
type source struct {
	data datasource.Data
	err  error
}

func (s *source) Name() string { return "test" }

func (s *source) Fetch(context.Context) (datasource.Data, error) { return s.data, s.err }

// system notes what a machine would have been told.
type system struct {
	root  string
	calls []string
	fail  func(call string) error
}

func (s *system) Run(_ context.Context, output io.Writer, name string, args ...string) error {
	call := strings.Join(append([]string{name}, args...), " ")
	call = strings.ReplaceAll(call, s.root, "")
	path := name
	if len(args) > 0 && strings.HasPrefix(args[0], s.root) {
		path = args[0]
	}
	if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(path, s.root) {
		call += "\n" + string(text)
		fmt.Fprintln(output, string(text))
	}
	s.calls = append(s.calls, call)
	if s.fail != nil {
		return s.fail(call)
	}
	return nil
}

func (s *system) SetHostname(name string) error {
	s.calls = append(s.calls, "hostname "+name)
	return nil
}

func everyAddress() cloudconfig.Addresses {
	return cloudconfig.Addresses{
		PrivateIPv4: netip.MustParseAddr("10.0.0.7"), PublicIPv4: netip.MustParseAddr("203.0.113.7"),
		PrivateIPv6: netip.MustParseAddr("fd00::7"), PublicIPv6: netip.MustParseAddr("2001:db8::7"),
	}
}

func boots(root, userData string) (firstboot.Options, *source, *system) {
	from := &source{data: datasource.Data{InstanceID: "i-1", Hostname: "given", UserData: []byte(userData), Addresses: everyAddress()}}
	running := &system{root: root}
	return firstboot.Options{
		Root: root, Sources: []datasource.Source{from}, System: running, Wait: time.Nanosecond, NetworkWait: time.Nanosecond,
		Now: func() time.Time { return time.Unix(20000*86400, 0) },
	}, from, running
}

// dump prints everything below a root that a first boot changed.
func dump(t *testing.T, root string, calls []string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root+"/")
		switch {
		case err != nil:
			return err
		case d.IsDir(), name == "etc/.pwd.lock", strings.HasPrefix(name, "var/lib/muster/"):
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, "-- %s -> %s --\n", name, target)
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if was, ok := image[name]; ok && was == string(text) {
				return nil
			}
			info, _ := d.Info()
			fmt.Fprintf(&b, "-- %s %04o --\n%s", name, info.Mode().Perm(), text)
			if !bytes.HasSuffix(text, []byte("\n")) {
				b.WriteString("\n")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) > 0 {
		b.WriteString("-- calls --\n" + strings.Join(calls, "\n") + "\n")
	}
	return b.String()
}

// TestCorpus applies cloud-configs as they were written for coreos-cloudinit.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../testdata/2014/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			root := imageRoot(t)
			o, _, running := boots(root, string(text))
			if err := firstboot.Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, strings.TrimSuffix(file, ".yaml")+".golden", dump(t, root, running.calls))

			before := dump(t, root, nil)
			running.calls = nil
			if err := firstboot.Run(t.Context(), o); err != nil || len(running.calls) > 0 {
				t.Errorf("the second boot of the instance did something: %v, %v", running.calls, err)
			}
			if diff := cmp.Diff(before, dump(t, root, nil)); diff != "" {
				t.Errorf("the second boot of the instance changed files: %s", diff)
			}
		})
	}
}

const everyPart = `#cloud-config
hostname: web-1
manage_etc_hosts: true
users:
  - default
  - {name: ops, sudo: "ALL=(ALL) ALL", groups: [sudo, wheel], lock_passwd: true, passwd: $6$x$y, ssh_authorized_keys: [ssh-ed25519 BBBB]}
ssh_authorized_keys: [ssh-ed25519 AAAA]
write_files:
  - {path: /etc/address, content: "$private_ipv4\n"}
bootcmd: [echo boot $private_ipv4]
runcmd: [cd /srv, [touch, "it's"]]
`

func TestOnceForEveryInstance(t *testing.T) {
	root := imageRoot(t)
	o, from, running := boots(root, everyPart)
	from.data.SSHKeys = []string{"ssh-ed25519 CLOUD"}
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/every-part.golden", dump(t, root, running.calls))

	var record cloudconfig.Record
	text, err := os.ReadFile(filepath.Join(root, cloudconfig.RecordPath))
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil || !record.Done("i-1") || !record.Commands || record.Source != "test" {
		t.Errorf("record %+v, %v", record, err)
	}
	for _, f := range record.Files {
		if info, err := os.Lstat(filepath.Join(root, f.Path)); err != nil || fmt.Sprintf("%04o", info.Mode().Perm()) != f.Mode || len(f.SHA256) != 64 {
			t.Errorf("recorded %+v, there is %v, %v", f, info, err)
		}
	}

	put(t, root, "etc/address", "changed since")
	put(t, root, "proc/sys/kernel/random/boot_id", "boot-2\n")
	running.calls = nil
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/bin/sh /var/lib/muster/bootcmd\n#!/bin/sh\necho boot 10.0.0.7\n"}, running.calls); diff != "" {
		t.Errorf("the second boot: %s", diff)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "etc/address")); string(text) != "changed since" {
		t.Errorf("the second boot wrote %s", text)
	}

	running.calls, from.data.InstanceID = nil, "i-2"
	if err := firstboot.Run(t.Context(), o); err != nil || len(running.calls) != 3 {
		t.Errorf("another instance: %q, %v", running.calls, err)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "etc/address")); string(text) != "10.0.0.7\n" {
		t.Errorf("another instance wrote %s", text)
	}
}

func TestSourceAwayAtALaterBoot(t *testing.T) {
	root := imageRoot(t)
	o, from, running := boots(root, everyPart)
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	*from, running.calls = source{err: datasource.ErrNotHere}, nil
	put(t, root, "proc/sys/kernel/random/boot_id", "boot-2\n")
	o.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.8")}, nil }
	if err := firstboot.Run(t.Context(), o); err != nil || len(running.calls) != 1 || !strings.Contains(running.calls[0], "echo boot 10.0.0.8") {
		t.Errorf("%q, %v", running.calls, err)
	}

	o, from, _ = boots(imageRoot(t), "")
	from.err = datasource.ErrNotHere
	if err := firstboot.Run(t.Context(), o); !errors.Is(err, datasource.ErrNotHere) {
		t.Errorf("a host that nobody told anything: %v", err)
	}
}

func TestFailedStepsAreRepeatedCommandsAreNot(t *testing.T) {
	root := imageRoot(t)
	put(t, root, "srv/blocked/file", "")
	o, _, running := boots(root, `#cloud-config
write_files: [{path: /srv/blocked, content: x}, {path: /srv/free, content: x}]
coreos: {units: [{name: none.service, enable: true}]}
runcmd: [once]
`)
	err := firstboot.Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "files: cannot write /srv/blocked") || !strings.Contains(err.Error(), "unit none.service: it cannot be enabled") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "srv/free")); err != nil || len(running.calls) != 3 {
		t.Errorf("a failure stopped what follows: %v, %q", err, running.calls)
	}
	if err := os.RemoveAll(filepath.Join(root, "srv/blocked")); err != nil {
		t.Fatal(err)
	}
	put(t, root, "etc/systemd/system/none.service", "[Install]\nWantedBy=x.target\n")
	running.calls = nil
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := []string{"hostname given", "systemctl daemon-reload"}
	if diff := cmp.Diff(want, running.calls); diff != "" {
		t.Errorf("the second run: %s", diff)
	}
	if err := firstboot.Run(t.Context(), o); err != nil || len(running.calls) != 2 {
		t.Errorf("the third run: %q, %v", running.calls, err)
	}
}

func TestFailingCommandIsReportedOnce(t *testing.T) {
	root := imageRoot(t)
	o, _, running := boots(root, "#cloud-config\nruncmd: [exit 3]\n")
	running.fail = func(call string) error {
		if strings.HasPrefix(call, "/bin/sh") {
			return errors.New("exit status 3")
		}
		return nil
	}
	err := firstboot.Run(t.Context(), o)
	if want := "runcmd failed: exit status 3; what it printed is in /var/lib/muster/firstboot.out"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(root, "var/lib/muster/runcmd")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the script is left: %v", err)
	}
}

func TestMissingAddress(t *testing.T) {
	root := imageRoot(t)
	o, from, running := boots(root, "#cloud-config\nhostname: a\nwrite_files:\n- path: /x\n  content: |\n    one\n    two $public_ipv6\n")
	from.data.Addresses = cloudconfig.Addresses{}
	o.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.8")}, nil }
	err := firstboot.Run(t.Context(), o)
	if want := "cannot use the user-data: user-data:7: `public_ipv6` has no value here; write `\\$public_ipv6` if the name itself is meant"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if len(running.calls) > 0 {
		t.Errorf("it went on: %q", running.calls)
	}
	// It comes while the host waits.
	times := 0
	o.NetworkWait = time.Minute
	o.Addresses = func() ([]netip.Addr, error) {
		if times++; times < 3 {
			return nil, nil
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8::9")}, nil
	}
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "x")); string(text) != "one\ntwo 2001:db8::9\n" {
		t.Errorf("wrote %q", text)
	}
}

func TestOperator(t *testing.T) {
	root := imageRoot(t)
	o, from, running := boots(root, "")
	o.Operator = true
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	put(t, root, strings.TrimPrefix(cloudconfig.OperatorPath, "/"), "#cloud-config\nwrite_files: [{path: /x, content: $private_ipv4}]\nruncmd: [a]\n")
	put(t, root, "var/lib/cloud/data/instance-id", "i-cloud\n")
	from.err = datasource.ErrNotHere
	o.Addresses = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.0.0.8")}, nil }
	for range 2 {
		if err := firstboot.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(root, "x")); string(text) != "10.0.0.8" || len(running.calls) != 1 {
		t.Errorf("wrote %q, %q", text, running.calls)
	}
	if _, err := os.Lstat(filepath.Join(root, cloudconfig.RecordPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it took the record of the user-data: %v", err)
	}
}

func TestPartsAndScripts(t *testing.T) {
	root := imageRoot(t)
	parts := []cloudconfig.Part{
		{Data: []byte("#cloud-config\nhostname: a\nruncmd: [one]\n")},
		{Data: []byte("#!/usr/bin/env python3\nprint(1)\n")},
		{Data: []byte("#cloud-config\nhostname: b\nruncmd: [two $private_ipv4]\n")},
	}
	o, _, running := boots(root, string(cloudconfig.Gzip(cloudconfig.Multipart(parts))))
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"hostname b", "/bin/sh /var/lib/muster/runcmd\n#!/bin/sh\none\ntwo 10.0.0.7\n",
		"/var/lib/muster/script-1\n#!/usr/bin/env python3\nprint(1)\n",
	}
	if diff := cmp.Diff(want, running.calls); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutASystem(t *testing.T) {
	root := imageRoot(t)
	o, _, _ := boots(root, everyPart)
	o.System = nil
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "left the commands alone") {
		t.Errorf("log %s", &log)
	}
}

func TestUnitFile(t *testing.T) {
	text := firstboot.UnitFile("/usr/bin/musterd")
	if !strings.Contains(text, "\nExecStart=/usr/bin/musterd firstboot --root /\n") || strings.Contains(text, "@") {
		t.Errorf("%s", text)
	}
}
