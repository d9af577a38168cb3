package hcloud

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/hcloud/hcloudtest"
)

// listedCalls are the calls of calls.yaml.
func listedCalls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("calls.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var listed map[string][]struct{ Call, For string }
	if err := yaml.Unmarshal(text, &listed); err != nil {
		t.Fatal(err)
	}
	var calls []string
	for permission, list := range listed {
		for _, each := range list {
			if reads := strings.HasPrefix(each.Call, http.MethodGet); reads != (permission == "read") || each.For == "" {
				t.Errorf("%s: %+v needs another permission, or does not say what it is for", permission, each)
			}
			calls = append(calls, each.Call)
		}
	}
	slices.Sort(calls)
	return calls
}

// TestCalls holds the list to what the test cloud lets through, which fails every test in which another call is made, and
// makes every call that is listed.
func TestCalls(t *testing.T) {
	cloud := hcloudtest.New(t)
	listed := listedCalls(t)
	if known := slices.Sorted(slices.Values(cloud.Patterns())); !slices.Equal(known, listed) {
		t.Errorf("the test cloud knows\n%s\n\ncalls.yaml lists\n%s", strings.Join(known, "\n"), strings.Join(listed, "\n"))
	}
	p := testProvider(t, cloud)
	req := testRequest("web-1", everySetting())
	if err := p.Check(t.Context(), []any{req.Settings}); err != nil {
		t.Fatal(err)
	}
	made, err := p.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	o := p.owner(testCluster)
	cloud.Labels(o.serverName(req.Identity), req.Tags())
	cloud.Labels(o.group(), map[string]string{providers.TagCluster: testCluster})
	other := testProvider(t, cloud, func(c *Config) { c.Allow.SSH = everywhere })
	if _, err := other.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := cloud.PowerOff(made.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	tearDown(t, cloud)
	if called := slices.Sorted(maps.Keys(cloud.Calls())); !slices.Equal(called, listed) {
		t.Errorf("called\n%s\n\ncalls.yaml lists\n%s", strings.Join(called, "\n"), strings.Join(listed, "\n"))
	}
}
