package spec_test

import (
	"testing"
)

// TestContainerUnits reads units of Quadlet's files, which are services.
func TestContainerUnits(t *testing.T) {
	s, _ := load(t, `
-- units/web@.container --
[Container]
Image=localhost/web
-- units/db.container --
[Container]
Image=localhost/db
-- cluster.yaml --
version: 1
cluster: demo
providers: {here: {driver: local}}
hosts: {node: {count: 1, provider: here}}
units:
  - {file: units/web@.container, instances: 1..2}
  - {file: units/db.container}
`)
	want := map[string]string{
		"web@.service": "inactive", "web@1.service": "launched", "web@2.service": "launched", "db.service": "launched",
	}
	if len(s.Units) != len(want) {
		t.Errorf("units %+v", s.Units)
	}
	for _, u := range s.Units {
		if u.Desired != want[u.Name] {
			t.Errorf("%s shall be %q", u.Name, u.Desired)
		}
	}
}
