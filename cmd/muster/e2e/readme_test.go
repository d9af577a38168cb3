package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shBlocks matches the shell blocks of a Markdown file.
var shBlocks = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestReadme runs every command of README.md, in order, in one shell, as a newcomer would paste them.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repoRoot(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	blocks := shBlocks.FindAllSubmatch(readme, -1)
	if len(blocks) < 5 {
		t.Fatalf("README.md has only %d blocks of commands", len(blocks))
	}
	for _, block := range blocks {
		script.WriteString("echo '--- block'\n")
		script.Write(block[1])
	}

	dir := t.TempDir()
	c := &cluster{
		t: t, dir: dir, state: filepath.Join(dir, "state"),
		file: filepath.Join(repoRoot(), "examples", "local", "cluster.yaml"), known: map[string]bool{},
	}
	t.Cleanup(c.destroy)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Dir = repoRoot()
	shell.Env = append(os.Environ(), "MUSTER_STATE_DIR="+c.state, "TMPDIR="+dir, "MUSTER_FILE=")
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	started := time.Now()
	err = shell.Run()
	printed := strings.Split(out.String(), "--- block\n")
	if err != nil {
		t.Fatalf("block %d of README.md fails after %v: %v\n%s\n%s", len(printed)-1, time.Since(started), err,
			blocks[max(0, len(printed)-2)][1], printed[len(printed)-1])
	}
	t.Logf("the tour takes %v", time.Since(started).Round(time.Second))
	checkTour(t, printed[1:])
	if left := c.processes(); len(left) > 0 {
		t.Errorf("processes left after the tour: %v", left)
	}
}

// checkTour looks for what the text of README.md says about its commands.
func checkTour(t *testing.T, printed []string) {
	t.Helper()
	for _, claim := range []struct {
		block int
		want  string
	}{
		{1, "3 of 3 hosts ready, 3 of 3 voters healthy"},
		{1, "8 of 8 units running"},
		{2, `"instance":"6"`},
		{3, "api@1.service is running on node-"},
		{4, "2 of 3 hosts ready"},
		{4, "8 of 8 units running"},
		{5, "3 of 3 hosts ready, 3 of 3 voters healthy"},
		{6, "clock.service: running on node-"},
		{7, "/database\n10.0.0.7:5432\n"},
		{8, "nothing to do"},
		{9, "cluster demo is gone"},
		{10, "cluster mine: 3 to create"},
		{11, "node.yaml is a good cloud-config"},
		{11, "hostname: node-1"},
	} {
		if claim.block >= len(printed) || !strings.Contains(printed[claim.block], claim.want) {
			t.Errorf("%q is not in what block %d prints:\n%s", claim.want, claim.block, printed[min(claim.block, len(printed)-1)])
		}
	}
}
