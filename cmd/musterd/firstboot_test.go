package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// put writes a file of a host's root directory.
func put(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFirstBoot(t *testing.T) {
	root := t.TempDir()
	put(t, root, "meta-data.json", `{"instance_id": "i-1", "local_hostname": "n1"}`)
	put(t, root, "user-data", "#cloud-config\nhostname: n1\nwrite_files:\n  - path: /etc/motd\n    content: hello\n")
	var stderr bytes.Buffer
	if err := run(t.Context(), []string{"firstboot", "--root", root}, nil, nil, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	for path, want := range map[string]string{"etc/motd": "hello", "etc/hostname": "n1\n"} {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

// TestFirstBootOperator has a host on which cloud-init has applied the user-data and left the operator's part.
func TestFirstBootOperator(t *testing.T) {
	root := t.TempDir()
	args := []string{"firstboot", "--operator", "--root", root}
	var stderr bytes.Buffer
	if err := run(t.Context(), args, nil, nil, &stderr); err != nil {
		t.Errorf("a host without an operator's cloud-config: %v\n%s", err, &stderr)
	}
	put(t, root, "var/lib/cloud/data/instance-id", "i-1\n")
	put(t, root, "etc/muster/cloud-config.yaml", "#cloud-config\nwrite_files:\n  - path: /etc/motd\n    content: theirs\n")
	if err := run(t.Context(), args, nil, nil, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc/motd")); err != nil || string(got) != "theirs" {
		t.Errorf("the file has %q, %v", got, err)
	}
}

func TestFirstBootRefuses(t *testing.T) {
	broken := t.TempDir()
	put(t, broken, "meta-data.json", `{"instance_id": "i-1", "local_hostname": "n1"}`)
	put(t, broken, "user-data", "#cloud-config\nwrite_file: []\n")
	for _, c := range []struct {
		name  string
		args  []string
		usage bool
		err   string
	}{
		{"nobody told it", []string{"--root", t.TempDir(), "--wait", "1ns"}, false, "nobody told this host"},
		{"bad user-data", []string{"--root", broken}, false, "write_files"},
		{"argument", []string{"again"}, true, "argument"},
		{"unknown flag", []string{"--rot"}, true, "not defined"},
	} {
		var stderr bytes.Buffer
		err := run(t.Context(), append([]string{"firstboot"}, c.args...), nil, nil, &stderr)
		var bad *usageError
		if err == nil || !strings.Contains(err.Error(), c.err) || errors.As(err, &bad) != c.usage {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// TestFirstBootExits sees what whoever starts musterd sees: the exit status.
func TestFirstBootExits(t *testing.T) {
	if root := os.Getenv("MUSTERD_TEST_ROOT"); root != "" {
		os.Args = []string{"musterd", "firstboot", "--wait", "1ns", "--root", root}
		main()
		return
	}
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFirstBootExits$")
	self.Env = append(os.Environ(), "MUSTERD_TEST_ROOT="+t.TempDir())
	out, err := self.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "musterd: nobody told this host") {
		t.Errorf("%v\n%s", err, out)
	}
}
