package firstboot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/firstboot"
)

// TestSecretsStayOutOfLogs puts a distinct canary into every field that may hold a secret, and looks for them in the log,
// the error and every file that others may read.
func TestSecretsStayOutOfLogs(t *testing.T) {
	n := 0
	var canaries []string
	canary := func() string {
		n++
		canaries = append(canaries, fmt.Sprintf("canary%03dsecret", n))
		return canaries[len(canaries)-1]
	}
	good := fmt.Sprintf(`#cloud-config
users:
  - {name: ops, passwd: %s, gecos: Ops}
write_files:
  - {path: /etc/token, permissions: "0600", content: %s}
  - {path: /etc/blocked, permissions: "0600", content: %s}
coreos:
  etcd2: {name: a}
  fleet: {etcd_password: %s}
  locksmith: {etcd_password: %s}
  flannel: {etcd_password: %s}
bootcmd: [curl -H %s https://x, [early, %s]]
runcmd: [login --token %s, [tool, %s], fail]
`, canary(), canary(), canary(), canary(), canary(), canary(), canary(), canary(), canary(), canary())
	for name, tc := range map[string]struct {
		userData string
		fails    bool
	}{
		"applied":             {good, true},
		"a number as content": {"#cloud-config\nwrite_files: [{path: /x, content: " + numeric(&canaries) + "}]\n", true},
		"not base64":          {"#cloud-config\nwrite_files: [{path: /x, encoding: b64, content: '" + canary() + "%'}]\n", true},
		"a list as content":   {"#cloud-config\nwrite_files: [{path: /x, content: [" + canary() + "]}]\n", true},
		"a list as password":  {"#cloud-config\nusers: [{name: a, passwd: [" + canary() + "]}]\n", true},
		"a wrong option":      {"#cloud-config\ncoreos: {flannel: {etcd_password: [" + canary() + "]}}\n", true},
		"no cloud-config":     {"token: " + canary() + "\n", true},
		"a script":            {"#!/bin/sh\nlogin " + canary() + "\n", true},
		"no YAML":             {"#cloud-config\nwrite_files: [{content: " + canary() + "\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := imageRoot(t)
			put(t, root, "etc/blocked/file", "")
			o, _, running := boots(root, tc.userData)
			running.fail = func(call string) error {
				if strings.HasPrefix(call, "/bin/sh") {
					return errors.New("exit status 1")
				}
				return nil
			}
			var log bytes.Buffer
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			err := firstboot.Run(t.Context(), o)
			if (err != nil) != tc.fails {
				t.Fatalf("error %v", err)
			}
			said := log.String() + fmt.Sprint(err)
			for _, c := range canaries {
				if strings.Contains(said, c) {
					t.Errorf("%s is told:\n%s", c, said)
				}
			}
			searchReadable(t, root, canaries)
		})
	}
}

// numeric is a canary of digits, which YAML takes for a number.
func numeric(canaries *[]string) string {
	*canaries = append(*canaries, "31415926535")
	return "31415926535"
}

// searchReadable looks for canaries in files that others than their owner can read.
func searchReadable(t *testing.T, root string, canaries []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o077 == 0 {
			return err
		}
		if strings.HasSuffix(path, "etc/shadow") { // keeps the mode that the image gives it
			return nil
		}
		text, err := os.ReadFile(path)
		if slices.ContainsFunc(canaries, func(c string) bool { return bytes.Contains(text, []byte(c)) }) {
			t.Errorf("%s with mode %v holds a secret", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
