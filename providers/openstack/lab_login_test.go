//go:build lab

package openstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/musterhq/muster/providers"
)

// TestLabLeastPrivilege gives the driver an application credential that may do what policy.yaml lists and nothing else, and
// takes a host through its life with it. The services themselves refuse every other call.
func TestLabLeastPrivilege(t *testing.T) {
	l := newLab(t, "lab")
	l.file = l.restricted(t, accessRules(t))
	p := l.provider(t)
	t.Cleanup(func() { endAll(t, newLab(t, "lab").provider(t)) })
	settings := labSettings(func(s *Settings) { s.FloatingIP, s.ServerGroup, s.KeyPair = "public", "anti-affinity", "laptop" })
	if err := p.Check(t.Context(), []any{settings}); err != nil {
		t.Error(err)
	}
	made, err := p.Create(t.Context(), testRequest("web-1", settings))
	if err != nil {
		t.Fatal(err)
	}
	labWait(t, p, 1)
	if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), testCluster)); err != nil {
		t.Error(err)
	}
	if left := l.leftovers(t, p, testCluster); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// The rules are in force: without that for making servers, none is made.
	rules := accessRules(t)
	for i, rule := range rules {
		if rule.Method == "POST" && rule.Path == "/v2.1/servers" {
			rules[i].Method = "GET"
		}
	}
	l.file = l.restricted(t, rules)
	if _, err := l.provider(t).Create(t.Context(), testRequest("web-2", settings)); !errors.Is(err, providers.ErrAuth) {
		t.Errorf("create without the right to make servers says %v", err)
	}
	if err := p.Cleanup(t.Context(), testCluster); err != nil {
		t.Error(err)
	}
}

// accessRules are the calls of policy.yaml as Keystone takes them. Discovery needs no login.
func accessRules(t *testing.T) []applicationcredentials.AccessRule {
	t.Helper()
	var rules []applicationcredentials.AccessRule
	for service, calls := range readPolicy(t) {
		if service == "identity" || service == "block-storage" { // the lab has none
			continue
		}
		for _, each := range calls {
			method, path, _ := strings.Cut(each.Call, " ")
			rules = append(rules, applicationcredentials.AccessRule{Service: service, Method: method, Path: strings.TrimSuffix(path, "{$}")})
		}
	}
	return rules
}

// restricted makes an application credential that lives as long as the test, and writes a clouds.yaml for it.
func (l *lab) restricted(t *testing.T, rules []applicationcredentials.AccessRule) string {
	t.Helper()
	s, err := newLab(t, "lab").provider(t).session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	login, ok := s.compute.GetAuthResult().(tokens.CreateResult)
	if !ok {
		t.Fatalf("logged in as %T", s.compute.GetAuthResult())
	}
	user, err := login.ExtractUser()
	if err != nil {
		t.Fatal(err)
	}
	keystone := &gophercloud.ServiceClient{ProviderClient: s.compute.ProviderClient, Endpoint: l.keystone}
	name := l.name + "-" + uuid.NewString()
	made, err := applicationcredentials.Create(t.Context(), keystone, user.ID, applicationcredentials.CreateOpts{
		Name: name, Roles: []applicationcredentials.Role{{Name: "member"}}, AccessRules: rules,
	}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := applicationcredentials.Delete(context.WithoutCancel(t.Context()), keystone, user.ID, made.ID).ExtractErr(); err != nil {
			t.Error(err)
		}
	})
	text := fmt.Sprintf("clouds: {test: {auth_type: v3applicationcredential, auth: {auth_url: %q, application_credential_id: %q,"+
		" application_credential_secret: %q}, region_name: RegionOne}}\n", l.URL(), made.ID, made.Secret)
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
