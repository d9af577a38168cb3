package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	version = "v1.2.3"
	for _, c := range []struct {
		name           string
		args           []string
		usage          bool
		stdout, stderr string
		err            string
	}{
		{"version", []string{"--version"}, false, "musterd v1.2.3\n", "", ""},
		{"help", []string{"--help"}, false, "", "-root", ""},
		{"unknown flag", []string{"--rot", "/"}, true, "", "-root", "not defined"},
		{"bad level", []string{"--log-level", "loud"}, true, "", "loud", "invalid value"},
		{"argument", []string{"start"}, true, "", "start", "argument"},
		{"no cluster", []string{"--root", t.TempDir()}, false, "", "", "muster up"},
	} {
		var stdout, stderr bytes.Buffer
		err := run(t.Context(), c.args, nil, &stdout, &stderr)
		var bad *usageError
		if got := errors.As(err, &bad); got != c.usage {
			t.Errorf("%s: %v, wrong command line: %v, want %v", c.name, err, got, c.usage)
		}
		if (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
		if stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: printed %q and %q", c.name, stdout.String(), stderr.String())
		}
	}
}
