package agent

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/join"
)

func TestRuntimes(t *testing.T) {
	for name, want := range map[string]string{
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

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
