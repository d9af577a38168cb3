package openstack

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// TestCheck finds what would go wrong, says it in words that help, and makes nothing.
func TestCheck(t *testing.T) {
	cloud := openstacktest.New(t)
	first, second := cloud.PlantImage("twin", "active"), cloud.PlantImage("twin", "active")
	cloud.PlantImage("half", "queued")
	ids := []string{min(first, second), max(first, second)}
	p := testProvider(t, cloud, withNodes)
	for _, test := range []struct {
		name   string
		change func(*Settings)
		class  error
		says   string
	}{
		{"all is well", func(*Settings) {}, nil, ""},
		{"the only network", func(s *Settings) { s.Networks = nil }, providers.ErrInvalid, "2 networks of its own"},
		{"image by ID", func(s *Settings) { s.Image = first }, nil, ""},
		{"no image", func(s *Settings) { s.Image = "debain" }, providers.ErrNotFound, "image debain not found in region TestRegion; nearest names: debian, debian-13"},
		{"two images", func(s *Settings) { s.Image = "twin" }, providers.ErrInvalid, "give the ID of one: " + strings.Join(ids, ", ")},
		{"image not whole", func(s *Settings) { s.Image = "half" }, providers.ErrInvalid, "not active"},
		{"no flavor", func(s *Settings) { s.Flavor = "m1.smal" }, providers.ErrNotFound, "nearest names: m1.small, "},
		{"no network", func(s *Settings) { s.Networks = []string{"privat"} }, providers.ErrNotFound, "network privat not found in region TestRegion; nearest names: private"},
		{"floating IP of an inner network", func(s *Settings) { s.FloatingIP = openstacktest.Network }, providers.ErrInvalid, "not external"},
		{"no key", func(s *Settings) { s.KeyPair = "laptpo" }, providers.ErrNotFound, "no key pair laptpo"},
		{"no zone", func(s *Settings) { s.AvailabilityZones = []string{"zone-d"} }, providers.ErrNotFound, "nearest names: zone-a, zone-b, zone-c"},
		{"no group", func(s *Settings) { s.SecurityGroups = []string{"web"} }, providers.ErrNotFound, "security group web not found"},
		{"no volume type", func(s *Settings) { s.BootVolume = &Volume{Size: 20, Type: "fsat"} }, providers.ErrNotFound, "volume type fsat not found in region TestRegion; nearest names: fast"},
		{"volume type", func(s *Settings) { s.BootVolume = &Volume{Size: 20, Type: "fast"} }, nil, ""},
		{"bare metal", func(s *Settings) { s.Flavor, s.BareMetal = openstacktest.Metal, true }, nil, ""},
		{"node", func(s *Settings) { s.Flavor, s.Node = "", "rack-1" }, nil, ""},
		{"no node", func(s *Settings) { s.Flavor, s.Node = "", "rack-99" }, providers.ErrNotFound, "node rack-99 not found"},
		{"no class", func(s *Settings) { s.Flavor, s.ResourceClass = "", "baremetal.smal" }, providers.ErrNotFound, "nearest names: baremetal.small"},
		{"floating IP of a node", func(s *Settings) { s.Flavor, s.Node, s.FloatingIP = "", "rack-1", "pubic" }, providers.ErrNotFound, "nearest names: public"},
		{"volume too small", func(s *Settings) { s.BootVolume = &Volume{Size: 1} }, providers.ErrInvalid, "needs a disk of 2 GiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := p.Check(t.Context(), []any{testSettings(test.change)})
			if !errors.Is(err, test.class) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("check says %v, want %q", err, test.says)
			}
		})
	}
	for call := range cloud.Calls() {
		if !strings.HasPrefix(call, http.MethodGet) && !strings.HasSuffix(call, "/auth/tokens") {
			t.Errorf("check made the call %s", call)
		}
	}
}

// TestCheckMany looks up once what hosts have in common.
func TestCheckMany(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	var many []any
	for range 200 {
		many = append(many, testSettings(func(s *Settings) {
			s.KeyPair, s.BootVolume, s.AvailabilityZones = openstacktest.KeyPair, &Volume{Size: 20, Type: "fast"}, []string{"zone-a"}
		}))
	}
	if err := p.Check(t.Context(), many); err != nil || total(cloud.Calls()) > 20 {
		t.Errorf("%d calls to check 200 hosts: %v, %v", total(cloud.Calls()), cloud.Calls(), err)
	}
}

// TestCheckLogin is not content with a login that is none, or that is not enough.
func TestCheckLogin(t *testing.T) {
	cloud := openstacktest.New(t)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for name, test := range map[string]struct {
		change map[string]string // of the environment
		role   string
		class  error
		says   string
	}{
		"member":           {nil, "member", nil, ""},
		"reader":           {nil, "reader", providers.ErrAuth, "making hosts needs `member`"},
		"wrong password":   {map[string]string{"OS_PASSWORD": "guessed"}, "member", providers.ErrAuth, "requires authentication"},
		"wrong name":       {map[string]string{"OS_USERNAME": "nobody"}, "member", providers.ErrAuth, "requires authentication"},
		"no project":       {map[string]string{"OS_PROJECT_NAME": ""}, "member", providers.ErrAuth, "set `project_name`"},
		"another region":   {map[string]string{"OS_REGION_NAME": "Elsewhere"}, "member", providers.ErrNotFound, "in region Elsewhere"},
		"no region":        {map[string]string{"OS_REGION_NAME": ""}, "member", nil, ""},
		"token":            {asToken(cloud.Token()), "member", nil, ""},
		"token of nothing": {asToken("spent"), "member", providers.ErrAuth, "requires authentication"},
		"nobody there":     {map[string]string{"OS_AUTH_URL": "http://127.0.0.1:1/v3"}, "member", providers.ErrUnavailable, "cannot log in"},
		"no Keystone":      {map[string]string{"OS_AUTH_URL": elsewhere.URL + "/v3"}, "member", providers.ErrAuth, "cannot log in"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, of := range []map[string]string{cloud.Environment(), {"OS_TOKEN": ""}, test.change} {
				for key, value := range of {
					t.Setenv(key, value)
				}
			}
			cloud.Role = test.role
			p, err := New("cloud-a", *NewConfig(), providers.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			err = p.Check(t.Context(), []any{testSettings()})
			if !errors.Is(err, test.class) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("check says %v, want %q", err, test.says)
			}
		})
	}
}

// asToken is the environment of somebody who has a token and nothing else.
func asToken(token string) map[string]string {
	return map[string]string{
		"OS_TOKEN": token, "OS_USERNAME": "", "OS_PASSWORD": "", "OS_PROJECT_NAME": "", "OS_USER_DOMAIN_NAME": "",
		"OS_PROJECT_DOMAIN_NAME": "",
	}
}

func TestCheckQuota(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud, withNodes)
	var hosts []any
	for range 3 {
		hosts = append(hosts, everySetting(), nodeSettings(func(s *Settings) { s.ResourceClass = "baremetal.small" }))
	}
	for quota, says := range map[string]string{
		"instances":            "3 instances are needed and 2 of 2 are free",
		"cores":                "3 cores are needed and 2 of 2 are free",
		"ram":                  "3072 ram are needed and 2 of 2 are free",
		"server_group_members": "3 server-group-members are needed and 2 of 2 are free",
		"port":                 "9 ports are needed and 2 of 2 are free",
		"floatingip":           "3 floating-ips are needed and 2 of 2 are free",
		"volumes":              "3 volumes are needed and 2 of 2 are free",
		"gigabytes":            "60 gigabytes are needed and 2 of 2 are free",
		"security_group":       "",
	} {
		cloud.Quotas = map[string]int{quota: 2}
		err := p.Check(t.Context(), hosts)
		if says == "" && err != nil || says != "" && (!errors.Is(err, providers.ErrQuota) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: check says %v, want %q", quota, err, says)
		}
	}
	cloud.Quotas = nil
	for range 3 {
		hosts = append(hosts, hosts...)
	}
	if err := p.Check(t.Context(), hosts); !errors.Is(err, providers.ErrQuota) || !strings.Contains(err.Error(), "24 nodes of resource class baremetal.small are needed and 8 are available") {
		t.Errorf("check of more nodes than there are says %v", err)
	}
	hosts = hosts[:2]
	// A network that does not tell its quotas is no reason to refuse.
	cloud.SetFault(func(call openstacktest.Call) openstacktest.Fault {
		if strings.HasSuffix(call.Pattern, "details.json") {
			return openstacktest.Fault{Status: http.StatusForbidden}
		}
		return openstacktest.Fault{}
	})
	if err := p.Check(t.Context(), hosts); err != nil {
		t.Error(err)
	}
}

// TestQuotaOfCreate fills each quota, and checks that a host that does not fit leaves nothing.
func TestQuotaOfCreate(t *testing.T) {
	for _, quota := range []string{"instances", "port", "floatingip", "security_group"} {
		t.Run(quota, func(t *testing.T) {
			t.Parallel()
			cloud := openstacktest.New(t)
			cloud.Quotas = map[string]int{quota: 0}
			p := testProvider(t, cloud)
			if _, err := p.Create(t.Context(), testRequest("web-1", everySetting())); !errors.Is(err, providers.ErrQuota) {
				t.Errorf("create says %v", err)
			}
			if n := cloud.Count("port") + cloud.Count("server") + cloud.Count("floating"); n != 0 {
				t.Errorf("left behind: %v", cloud.Everything())
			}
			tearDown(t, cloud, p)
		})
	}
}
