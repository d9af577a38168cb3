package quadlet_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/golden"
)

// TestRefused compares what is said of files that are wrong.
func TestRefused(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range archive.Files {
		_, warnings, err := quadlet.Parse(unitfile.UnitName(f.Name), f.Data)
		fmt.Fprintf(&got, "-- %s --\n", f.Name)
		if err != nil {
			fmt.Fprintln(&got, err)
		}
		for _, w := range warnings {
			fmt.Fprintf(&got, "warning: %v\n", w)
		}
	}
	golden.Compare(t, "testdata/refused.golden", got.String())
}
