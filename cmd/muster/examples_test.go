package main

import (
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// TestExamples reads every example as `muster up` would and plans it on empty ground.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/cluster.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			s, err := spec.Load(file, drivers())
			if err != nil {
				t.Fatal(err)
			}
			if warnings, mistakes := unitMistakes(s.Units); len(warnings) > 0 || len(mistakes) > 0 {
				t.Errorf("%v, %v", mistakes, warnings)
			}
			nothing := map[string][]providers.Instance{}
			for _, p := range s.Providers {
				nothing[p.Name] = nil
			}
			p, err := plan.Make(s, plan.Observed{Instances: nothing})
			if err != nil {
				t.Fatal(err)
			}
			if made := p.Of(plan.Create); len(made) != len(s.Hosts()) || len(p.Actions) != len(made) {
				t.Errorf("%d of %d actions make the %d hosts", len(made), len(p.Actions), len(s.Hosts()))
			}
		})
	}
}
