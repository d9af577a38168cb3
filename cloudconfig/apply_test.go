package cloudconfig_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
)

func read(t *testing.T, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestApplyOncePerInstance(t *testing.T) {
	root := t.TempDir()
	_, doc := everythingParsed(t)
	doc.WriteFiles = append(doc.WriteFiles, cloudconfig.NewFile("/top", []byte("\xff\x00"), "0600"))
	got, err := cloudconfig.Apply(root, "i-1", doc)
	if err != nil {
		t.Fatal(err)
	}
	want := cloudconfig.Result{
		Written: []string{"/etc/motd", "/opt/run", "/opt/a", "/opt/b", "/top"},
		Ignored: []string{"hostname", "users", "ssh_authorized_keys", "bootcmd", "runcmd", "owner of /opt/run"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for path, want := range map[string]struct {
		content string
		mode    string
	}{
		"/etc/motd": {"Welcome.\n\nBye.\n", "-rw-r--r--"}, "/opt/run": {"#!/bin/sh\nexit 0\n", "-rwxr-xr-x"},
		"/opt/a": {"hello", "-rw-r--r--"}, "/opt/b": {"zipped", "urwxr-xr-x"}, "/top": {"\xff\x00", "-rw-------"},
	} {
		info, err := os.Lstat(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			continue
		}
		if content := read(t, root, path); content != want.content || info.Mode().String() != want.mode {
			t.Errorf("%s: %q %s", path, content, info.Mode())
		}
	}

	for _, path := range []string{"/etc/motd", "/top"} {
		if err := os.WriteFile(filepath.Join(root, path), []byte("changed since"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err = cloudconfig.Apply(root, "i-1", doc)
	if err != nil || !cmp.Equal(got, cloudconfig.Result{Repeated: true}) || read(t, root, "top") != "changed since" {
		t.Errorf("the same instance: %+v, %v", got, err)
	}
	got, err = cloudconfig.Apply(root, "i-2", doc)
	if err != nil || got.Repeated || read(t, root, "top") != "\xff\x00" {
		t.Errorf("another instance: %+v, %v", got, err)
	}
	var record struct {
		InstanceID string `json:"instance_id"`
		Files      []struct{ Path, SHA256 string }
	}
	if err := json.Unmarshal([]byte(read(t, root, cloudconfig.RecordPath)), &record); err != nil {
		t.Fatal(err)
	}
	if record.InstanceID != "i-2" || len(record.Files) != 5 || len(record.Files[4].SHA256) != 64 {
		t.Errorf("record %+v", record)
	}
}

func TestApplyIsRepeatedAfterAFailure(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	doc := parsed(t, "write_files: [{path: /a, content: x}, {path: /b, content: x}, {path: /c, content: x}]\n")
	got, err := cloudconfig.Apply(root, "i-1", doc)
	if err == nil || !strings.Contains(err.Error(), "cannot write /b below "+root) || len(got.Written) != 1 {
		t.Fatalf("a file in place of a directory: %+v, %v", got, err)
	}
	if entries, _ := os.ReadDir(root); len(entries) != 2 {
		t.Errorf("temporary files are left: %v", entries)
	}
	// What a crash may leave.
	if err := os.WriteFile(filepath.Join(root, ".muster-c"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	got, err = cloudconfig.Apply(root, "i-1", doc)
	if err != nil || len(got.Written) != 3 {
		t.Errorf("after mending: %+v, %v", got, err)
	}
	if _, err := os.Lstat(filepath.Join(root, ".muster-c")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half file is left: %v", err)
	}
}

func TestApplyStaysBelowRoot(t *testing.T) {
	outside := t.TempDir()
	for name, path := range map[string]string{
		"dots": "/../x", "dots inside": "/a/../../x", "relative": "x", "absolute link": "/abs/x", "relative link": "/rel/x",
		"link of a link": "/chain/x", "directory below a link": "/abs/new/x",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for link, target := range map[string]string{"abs": outside, "rel": "../" + filepath.Base(outside), "chain": "abs"} {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			doc := cloudconfig.Document{WriteFiles: []cloudconfig.File{{Path: path, Content: "x"}}}
			got, err := cloudconfig.Apply(root, "i-1", doc)
			if err == nil {
				t.Errorf("written: %+v", got)
			}
			if entries, _ := os.ReadDir(outside); len(entries) > 0 {
				t.Errorf("written outside: %v", entries)
			}
		})
	}
}

func TestApplyReplacesLinksAndFollowsThoseInside(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"file": outside, "run": "real"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	doc := parsed(t, "write_files: [{path: /file, content: mine}, {path: /run/x, content: inside}]\n")
	if _, err := cloudconfig.Apply(root, "i-1", doc); err != nil {
		t.Fatal(err)
	}
	if read(t, outside) != "precious" || read(t, root, "file") != "mine" || read(t, root, "real", "x") != "inside" {
		t.Error("a link was followed, or was not")
	}
}

func TestApplyRefuses(t *testing.T) {
	root := t.TempDir()
	record := filepath.Join(root, cloudconfig.RecordPath)
	if err := os.MkdirAll(filepath.Dir(record), 0o755); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{
		"{":                                  "cannot read /var/lib/muster/firstboot.json: unexpected end of JSON input",
		`{"version":2,"instance_id":"i-1"}`:  "cannot read /var/lib/muster/firstboot.json: version 2 is not known",
		`{"version":1,"instance_id":"i-0x"}`: "cannot write /x below " + root + ": `9` is no file mode",
	} {
		if err := os.WriteFile(record, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		doc := cloudconfig.Document{WriteFiles: []cloudconfig.File{{Path: "/x", Permissions: "9"}}}
		if _, err := cloudconfig.Apply(root, "i-1", doc); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := cloudconfig.Apply(root, "", cloudconfig.Document{}); err == nil {
		t.Error("no instance ID is no error")
	}
	if _, err := cloudconfig.Apply(filepath.Join(root, "none"), "i-1", cloudconfig.Document{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no root directory: %v", err)
	}
}
