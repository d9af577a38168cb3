package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/join"
)

func TestRuntimes(t *testing.T) {
	for name, want := range map[string]string{
		"":        "", // the directory of a test is not all of a host
		"process": "",
		"systemd": "cannot reach systemd at unix:path=", // there is none in an empty directory
		"docker":  `cannot run units with "docker"; it has the runtimes process and systemd`,
	} {
		a := &agent{host: host{Config: join.Config{Runtime: name}, root: t.TempDir(), instance: "i-1"}, log: slog.New(slog.DiscardHandler)}
		err := a.openRuntime(t.Context())
		if err == nil {
			a.close()
		}
		if got := errorText(err); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestChosenRuntime(t *testing.T) {
	booted := t.TempDir()
	none := filepath.Join(booted, "none")
	file := filepath.Join(booted, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ root, systemd, want string }{
		{"/", booted, "systemd"},
		{"//", booted, "systemd"},
		{"/", none, "process"},
		{"/", file, "process"},
		{"/srv/host", booted, "process"},
		{"", booted, "process"}, // the working directory
	} {
		if got := chosenRuntime(tt.root, tt.systemd); got != tt.want {
			t.Errorf("%q beside %s: %s, want %s", tt.root, tt.systemd, got, tt.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
