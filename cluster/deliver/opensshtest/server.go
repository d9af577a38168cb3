// Package opensshtest runs genuine OpenSSH servers for tests.
package opensshtest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// SSHD is where Debian has the server.
const SSHD = "/usr/sbin/sshd"

// Start runs a server with a configuration file until the test ends. As root it insists on a directory in /run, which it
// gets in a mount namespace of its own; the test is skipped where there can be none.
func Start(t *testing.T, config string) {
	t.Helper()
	command := []string{SSHD, "-D", "-e", "-f", config}
	if os.Getuid() == 0 {
		if err := exec.CommandContext(t.Context(), "unshare", "-m", "true").Run(); err != nil {
			t.Skipf("root needs a mount namespace to start sshd, and cannot make one: %v", err)
		}
		script := "mount -t tmpfs muster-test /run && mkdir /run/sshd && exec " + strings.Join(command, " ")
		command = []string{"unshare", "-m", "sh", "-c", script}
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log.String())
		}
	})
}
