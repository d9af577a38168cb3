package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfiguration has nginx, where there is one, check what is made for it.
func TestConfiguration(t *testing.T) {
	for name, tt := range map[string]struct {
		servers []string
		want    []string
	}{
		"nobody": {nil, []string{"server 127.0.0.1:9 down;", `return 200 '[]';`}},
		"two": {
			[]string{"10.0.0.1:8081", "[::1]:8082"},
			[]string{"server 10.0.0.1:8081 max_fails", "server [::1]:8082 max_fails", `return 200 '["10.0.0.1:8081","[::1]:8082"]';`},
		},
	} {
		n := nginx{dir: t.TempDir(), listen: "127.0.0.1:8000"}
		made := string(configuration(n.dir, n.listen, tt.servers))
		for _, want := range tt.want {
			if !strings.Contains(made, want) {
				t.Errorf("%s: no %q in\n%s", name, want, made)
			}
		}
		if err := n.write(tt.servers); err != nil {
			t.Fatal(err)
		}
		if path, err := exec.LookPath("nginx"); err != nil {
			t.Log("nginx is not asked: it is not here (Debian: nginx-light)")
		} else if out, err := exec.CommandContext(t.Context(), path, "-t", "-q", "-p", n.dir, "-c", n.config(), "-e", "stderr").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if left, _ := filepath.Glob(n.config() + ".next"); left != nil {
			t.Errorf("left: %q", left)
		}
	}
}
