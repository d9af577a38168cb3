package fleetapi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestStatements: every statement about the API has a step of a conversation, and every conversation a statement, but for
// those about what fleet did not have.
func TestStatements(t *testing.T) {
	steps, used := map[string]bool{}, map[string]bool{"replicas": true}
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.Files {
			steps[conversation(path)+": "+file.Name] = true
		}
	}
	text, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		statement, step, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !ok || !steps[step] {
			t.Errorf("%s: there is no step %q", statement, step)
		}
		name, _, _ := strings.Cut(step, ": ")
		used[name] = true
	}
	for _, path := range paths {
		if !used[conversation(path)] {
			t.Errorf("no statement is about %s", path)
		}
	}
}

func conversation(path string) string { return strings.TrimSuffix(filepath.Base(path), ".txtar") }
