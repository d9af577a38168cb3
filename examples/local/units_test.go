// Package local holds the example's files against the parsers that will read them.
package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/agent/unitfile"
)

func TestUnitsAreSound(t *testing.T) {
	paths, err := filepath.Glob("units/*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %v, %v", paths, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if _, warnings, err := unitfile.Parse(name, content); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", name, err, warnings)
		}
	}
}
