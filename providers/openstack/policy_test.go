package openstack

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// policyCall is a call that policy.yaml lists.
type policyCall struct{ Call, Rule, Role, For string }

// readPolicy reads policy.yaml, by service.
func readPolicy(t *testing.T) map[string][]policyCall {
	t.Helper()
	text, err := os.ReadFile("policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var policy map[string][]policyCall
	if err := yaml.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	return policy
}

// policyPatterns are the calls that policy.yaml lists, under the paths of the test cloud.
func policyPatterns(t *testing.T) []string {
	t.Helper()
	prefix := map[string]string{
		"identity": "/identity", "compute": "/compute", "network": "/network", "image": "/image", "block-storage": "/volume",
		"baremetal": "/baremetal",
	}
	var patterns []string
	for service, calls := range readPolicy(t) {
		for _, each := range calls {
			method, path, found := strings.Cut(each.Call, " ")
			if !found || each.Rule == "" || each.For == "" || !slices.Contains([]string{"any", "reader", "member"}, each.Role) {
				t.Errorf("%s: %+v does not say what, by which rule, with which role and what for", service, each)
			}
			patterns = append(patterns, method+" "+prefix[service]+path)
		}
	}
	slices.Sort(patterns)
	return patterns
}

// TestPolicyIsTheTestCloud holds the document to what the test cloud lets through: the cloud fails every test in which
// another call is made, so what is not listed is not made.
func TestPolicyIsTheTestCloud(t *testing.T) {
	if got, want := openstacktest.New(t).Patterns(), policyPatterns(t); !slices.Equal(got, want) {
		t.Errorf("the test cloud knows\n%s\n\npolicy.yaml lists\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
