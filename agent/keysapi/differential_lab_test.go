//go:build lab

package keysapi

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readLines are a file's lines but for comments and empty ones.
func readLines(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines
}

// readDifferences are the requests that are answered otherwise on purpose, with the reasons.
func readDifferences(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, line := range readLines(t, "testdata/differences.txt") {
		request, reason, ok := strings.Cut(line, " | ")
		if !ok || reason == "" {
			t.Fatalf("differences.txt: no reason: %s", line)
		}
		all[request] = reason
	}
	return all
}

var earlier = regexp.MustCompile(`INDEX\((\d+)\)`)

// TestLabRequests sends every request of the list to a genuine server and to ours.
func TestLabRequests(t *testing.T) {
	p := startPair(t)
	differences := readDifferences(t)
	var indices []string
	lines := readLines(t, "testdata/requests.txt")
	for _, line := range lines {
		parts := append(strings.SplitN(line, " ", 3), "")
		a := ask{parts[0], earlier.ReplaceAllStringFunc(parts[1], func(s string) string {
			n, _ := strconv.Atoi(earlier.FindStringSubmatch(s)[1])
			return indices[len(indices)-n]
		}), parts[2]}
		genuine, ours := p.genuine.do(a), p.ours.do(a)
		indices = append(indices, genuine.header.Get("X-Etcd-Index"))
		diff := cmp.Diff(show(a, genuine), show(a, ours))
		switch _, listed := differences[line]; {
		case diff != "" && !listed:
			t.Errorf("%s (- genuine, + ours):\n%s", a, diff)
		case diff == "" && listed:
			t.Errorf("%s: no longer differs; remove it from differences.txt", line)
		}
		delete(differences, line)
	}
	for line := range differences {
		t.Errorf("differences.txt: there is no request %s", line)
	}
	t.Logf("%d requests", len(lines))
}
