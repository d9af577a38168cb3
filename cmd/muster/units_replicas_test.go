package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStartOfTemplates: a template's file that asks for replicas is started itself, another only stored.
func TestStartOfTemplates(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"web@.service":  "[Service]\nExecStart=/bin/web\n[X-Muster]\nReplicas=3\n",
		"mere@.service": "[Service]\nExecStart=/bin/mere\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := newSmallFleet()
	status, _, stderr := asks(t, f, "start", "--no-block", "./web@.service", "./mere@.service")
	if want := map[string]string{"web@": "launched", "mere@": "inactive"}; status != statusDone || cmp.Diff(want, desiredOf(f)) != "" {
		t.Errorf("status %d, %v, want %v\n%s", status, desiredOf(f), want, stderr)
	}
	status, _, stderr = asks(t, f, "start", "--no-block", "./mere@.service")
	if status != statusUsage || !strings.Contains(stderr, "Replicas=3") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
