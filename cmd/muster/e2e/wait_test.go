package e2e

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestUpWaitsForUnits has `up` wait for a unit that fits nowhere, exactly as long as it is told.
func TestUpWaitsForUnits(t *testing.T) {
	c := sleepers(t, 1, 1, 1)
	c.must("up", "--yes")
	file, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	c.writeFile("units/misfit.service", napUnit+"\n[X-Fleet]\nMachineMetadata=role=none\n")
	c.writeFile("cluster.yaml", string(file)+"  - file: units/misfit.service\n")
	r := c.run(2*time.Minute, nil, "up", "--yes", "--timeout", "6s")
	if r.code != 3 || !strings.Contains(r.output(), "misfit.service not running after 6s") {
		t.Errorf("exit status %d, want 3\n%s", r.code, r.output())
	}
}
