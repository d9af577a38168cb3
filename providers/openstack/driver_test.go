package openstack

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// TestForeignIsUntouched puts things of others beside the cluster's, which look as alike as they may, through the whole
// life of a cluster.
func TestForeignIsUntouched(t *testing.T) {
	cloud := openstacktest.New(t)
	theirs := providers.Identity{Cluster: "00000000-0f43-4a53-9f36-25c3d5a0a001", Host: "web-1", Generation: 1}
	other := owner{cluster: testCluster, provider: "cloud-b"}
	cloud.PlantServer("web-1", nil)
	cloud.PlantServer("web-1", map[string]string{"team": "billing"}, "muster.cluster="+testCluster)
	cloud.PlantServer("web-1", theirs.Tags(), clusterTag(theirs.Cluster), identityTag(theirs))
	cloud.PlantServer("web-1", other.metadata(testRequest("web-1", nil).Identity), clusterTag(testCluster), identityTag(testRequest("web-1", nil).Identity))
	half := testRequest("web-1", nil).Tags()
	delete(half, providers.TagGeneration)
	cloud.PlantServer("web-1", half, clusterTag(testCluster))
	cloud.PlantPort("muster.web-1.1", other.description(), "")
	cloud.PlantPort("muster.web-1.1", "", "")
	cloud.PlantGroup(other.group(), other.description())
	cloud.PlantGroup(owner{testCluster, "cloud-a"}.group(), "made by hand")
	cloud.PlantFloatingIP(other.description())
	cloud.PlantFloatingIP("spare")
	before := cloud.Everything()
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if err := p.Cleanup(t.Context(), testCluster); err != nil {
		t.Fatal(err)
	}
	if after := cloud.Everything(); !slices.Equal(before, after) {
		t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// atOnce does something with each of many hosts at the same time.
func atOnce(t *testing.T, hosts int, do func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	errs := make([]error, hosts)
	for i := range hosts {
		group.Go(func() { errs[i] = do(i) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestCallsOfHosts counts what 200 hosts cost, when one has logged in, found image, flavor and network, and made the group;
// and says how long they take where every call takes a tenth of a second.
func TestCallsOfHosts(t *testing.T) {
	const hosts = 200
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	made := make([]providers.Instance, hosts)
	create := func(i int) (err error) {
		made[i], err = p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), testSettings()))
		return err
	}
	destroy := func(i int) error { return p.Destroy(t.Context(), made[i]) }
	slowly := func(hosts int) time.Duration {
		cloud.Reset()
		cloud.SetFault(func(openstacktest.Call) openstacktest.Fault { return openstacktest.Fault{Slow: 100 * time.Millisecond} })
		defer cloud.SetFault(nil)
		began := time.Now()
		atOnce(t, hosts, create)
		return time.Since(began)
	}
	atOnce(t, 1, create)
	atOnce(t, 1, destroy)
	one := slowly(1)
	atOnce(t, 1, destroy)
	t.Logf("one host took %v, %d at once %v", one, hosts, slowly(hosts))
	if n := total(cloud.Calls()); n > 5*hosts {
		t.Errorf("%d calls for %d hosts, want at most 5 each: %v", n, hosts, cloud.Calls())
	}
	cloud.Reset()
	list, err := p.List(t.Context(), testCluster)
	if n := total(cloud.Calls()); err != nil || len(list) != hosts || n != 2 {
		t.Errorf("%d hosts listed with %d calls: %v", len(list), n, err)
	}
	cloud.Reset()
	atOnce(t, hosts, destroy)
	calls := cloud.Calls()
	looks := calls["GET /compute/v2.1/servers/{id}"]
	if n := total(calls) - looks; n > 5*hosts || looks > 4*hosts {
		t.Errorf("%d calls and %d looks for the end of %d hosts: %v", n, looks, hosts, calls)
	}
}

// TestUserData checks that Nova gets the very bytes, those that look like base64 too, up to its limit.
func TestUserData(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	noise := make([]byte, 60000)
	_, _ = rand.New(rand.NewSource(1)).Read(noise)
	for i, data := range [][]byte{[]byte("#cloud-config\n"), []byte("aGVsbG8="), noise[:49149]} {
		req := testRequest(fmt.Sprintf("web-%d", i+1), testSettings())
		req.UserData = data
		made, err := p.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _, drive := cloud.Requested(made.ID)
		if got, err := base64.StdEncoding.DecodeString(text); err != nil || !slices.Equal(got, data) || !drive {
			t.Errorf("%d bytes came as %d, config drive %t: %v", len(data), len(got), drive, err)
		}
	}
	req := testRequest("web-9", testSettings())
	req.UserData = noise
	if _, err := p.Create(t.Context(), req); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("create with %d bytes of noise says %v", len(noise), err)
	}
	req.UserData = []byte(strings.Repeat("a", 100000))
	if _, err := p.Create(t.Context(), req); err != nil {
		t.Errorf("create with data that fits in gzip says %v", err)
	}
}

// TestTokenExpires lets the token expire between and during calls.
func TestTokenExpires(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	if _, err := p.List(t.Context(), testCluster); err != nil {
		t.Fatal(err)
	}
	cloud.ForgetTokens()
	if _, err := p.Create(t.Context(), testRequest("web-1", testSettings())); err != nil {
		t.Fatal(err)
	}
	if n := cloud.Calls()["POST /identity/v3/auth/tokens"]; n != 2 {
		t.Errorf("logged in %d times", n)
	}
	if n := cloud.Count("server"); n != 1 {
		t.Errorf("%d servers", n)
	}
}

// TestLateServer takes a claim over while the server that it is for is still on its way: only one of the two may live.
func TestLateServer(t *testing.T) {
	cloud := openstacktest.New(t)
	cloud.Bind, cloud.Build, cloud.Hide = 2*testSettle, 3*testSettle, 2*testSettle
	req := testRequest("web-1", testSettings())
	asked := func(call openstacktest.Call) bool { return call.Pattern == "POST /compute/v2.1/servers" }
	if !crash(t, cloud, req, asked, true) {
		t.Fatal("no server was asked for")
	}
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := providers.Pause(t.Context(), 4*testSettle); err != nil {
		t.Fatal(err)
	}
	list, err := p.List(t.Context(), testCluster)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || list[0].State != providers.StateRunning {
		t.Errorf("listed %v, want %s running: %v", list, made.ID, err)
	}
	all := strings.Join(cloud.Everything(), "\n")
	if strings.Count(all, "ACTIVE") != 1 || strings.Count(all, "ERROR") != 1 {
		t.Errorf("one of two servers lives:\n%s", all)
	}
	again, err := p.Create(t.Context(), req)
	if err != nil || again.ID != made.ID {
		t.Errorf("created again as %s: %v", again.ID, err)
	}
	tearDown(t, cloud, p)
}

// TestStart lets hosts go on that somebody stopped in each way that Nova knows.
func TestStart(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), testRequest("web-1", testSettings()))
	if err != nil {
		t.Fatal(err)
	}
	wait := p.pauses()
	for _, status := range []string{statusShutoff, statusPaused, statusSuspended, statusShelved, statusShelvedOffloaded} {
		for cloud.SetStatus(made.ID, status) != nil { // until it is built
			if err := wait.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		list, err := p.List(t.Context(), testCluster)
		if err != nil || len(list) != 1 || list[0].State != providers.StateStopped {
			t.Errorf("%s: listed %v: %v", status, list, err)
		}
		for range 2 { // the second finds it running
			if err := p.Start(t.Context(), made); err != nil {
				t.Errorf("%s: %v", status, err)
			}
		}
		if list, err = p.List(t.Context(), testCluster); err != nil || len(list) != 1 || list[0].State != providers.StateRunning {
			t.Errorf("%s: listed %v after the start: %v", status, list, err)
		}
	}
}

// TestConsole reads what a host says, once and until it is gone.
func TestConsole(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), testRequest("web-1", testSettings()))
	if err != nil {
		t.Fatal(err)
	}
	const said = "booting web-1\nMUSTER HOST IS UP\n"
	var heard strings.Builder
	if err := p.Console(t.Context(), made, false, &heard); err != nil || heard.String() != said {
		t.Errorf("heard %q: %v", heard.String(), err)
	}
	gone := make(chan error)
	heard.Reset()
	go func() { gone <- p.Console(t.Context(), made, true, &heard) }()
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err != nil && !errors.Is(err, providers.ErrNotFound) || heard.Len() > 0 && heard.String() != said {
		t.Errorf("heard %q while the host ended: %v", heard.String(), err)
	}
	if err := p.Console(t.Context(), made, false, &heard); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("the console of a host that is gone says %v", err)
	}
}

// TestGivenGroups uses a security group and a server group that exist, and makes none.
func TestGivenGroups(t *testing.T) {
	cloud := openstacktest.New(t)
	cloud.PlantGroup("web", "")
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), testRequest("web-1", testSettings(func(s *Settings) { s.SecurityGroups = []string{"web"} })))
	if err != nil {
		t.Fatal(err)
	}
	if n := cloud.Calls()["POST /network/v2.0/security-groups"]; n != 0 {
		t.Errorf("%d groups made", n)
	}
	if err := errors.Join(p.Destroy(t.Context(), made), p.Cleanup(t.Context(), testCluster)); err != nil {
		t.Error(err)
	}
	if n := cloud.Count("security group"); n != 1 {
		t.Errorf("%d groups left", n)
	}
}

// TestLogin refuses what is no login, and takes what is one.
func TestLogin(t *testing.T) {
	cloud := openstacktest.New(t)
	for key, value := range cloud.Environment() {
		t.Setenv(key, value)
	}
	open := func(change func(*Config)) error {
		config := NewConfig()
		change(config)
		p, err := New("cloud-a", *config, providers.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		_, err = p.List(t.Context(), testCluster)
		return err
	}
	if err := open(func(*Config) {}); err != nil {
		t.Errorf("environment: %v", err)
	}
	if err := open(func(c *Config) { c.Region = "Elsewhere" }); !errors.Is(err, providers.ErrNotFound) || !strings.Contains(err.Error(), "Elsewhere") {
		t.Errorf("another region: %v", err)
	}
	if err := open(func(c *Config) { c.Cloud = "nowhere" }); !errors.Is(err, providers.ErrAuth) {
		t.Errorf("no such cloud: %v", err)
	}
	t.Setenv("OS_PASSWORD", "wrong")
	if err := open(func(*Config) {}); !errors.Is(err, providers.ErrAuth) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
	for _, key := range []string{"OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME"} {
		t.Setenv(key, "")
	}
	t.Setenv("OS_APPLICATION_CREDENTIAL_ID", "id")
	t.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", openstacktest.Password)
	if err := open(func(*Config) {}); err != nil {
		t.Errorf("application credential: %v", err)
	}
	t.Setenv("OS_AUTH_URL", "")
	if err := open(func(*Config) {}); !errors.Is(err, providers.ErrAuth) || !strings.Contains(err.Error(), "clouds.yaml") {
		t.Errorf("no credentials: %v", err)
	}
}

// TestErrorsAreClassified lets the cloud refuse as it may.
func TestErrorsAreClassified(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	for status, class := range map[int]error{
		http.StatusBadRequest: providers.ErrInvalid, http.StatusForbidden: providers.ErrAuth, http.StatusNotFound: providers.ErrNotFound,
		http.StatusConflict: providers.ErrConflict, http.StatusRequestEntityTooLarge: providers.ErrQuota,
		http.StatusTooManyRequests: providers.ErrThrottled, http.StatusInternalServerError: providers.ErrUnavailable,
		http.StatusServiceUnavailable: providers.ErrUnavailable, http.StatusGatewayTimeout: providers.ErrUnavailable,
	} {
		cloud.Reset()
		cloud.SetFault(func(call openstacktest.Call) openstacktest.Fault {
			if strings.Contains(call.Pattern, "/servers/") {
				return openstacktest.Fault{Status: status}
			}
			return openstacktest.Fault{}
		})
		if _, err := p.List(t.Context(), testCluster); !errors.Is(err, class) {
			t.Errorf("%d: %v, want %v", status, err, class)
		}
		if n := cloud.Calls()["GET /compute/v2.1/servers/detail"]; n != 1 {
			t.Errorf("%d: %d tries, and one is all", status, n)
		}
	}
}

func TestAdded(t *testing.T) {
	for _, test := range []struct{ before, now, want string }{
		{"", "", ""},
		{"", "boot\n", "boot\n"},
		{"boot\n", "boot\nlogin:", "login:"},
		{"boot\nkernel\n", "kernel\nlogin:", "login:"},
		{"boot\n", "another log\n", "another log\n"},
	} {
		if got := added(test.before, test.now); got != test.want {
			t.Errorf("after %q, %q adds %q, want %q", test.before, test.now, got, test.want)
		}
	}
}

func TestZoneOf(t *testing.T) {
	zones := strings.Fields(openstacktest.Zones)
	for host, want := range map[string]string{"web-1": "zone-a", "web-2": "zone-b", "web-3": "zone-c", "web-4": "zone-a"} {
		if got := zoneOf(host, zones); got != want {
			t.Errorf("%s is in %s, want %s", host, got, want)
		}
	}
	if got := zoneOf("web-1", nil); got != "" {
		t.Errorf("there are no zones, and web-1 is in %s", got)
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Settings)
		field  string
	}{
		"good":                     {func(*Settings) {}, ""},
		"no image":                 {func(s *Settings) { s.Image = "" }, "image"},
		"no flavor":                {func(s *Settings) { s.Flavor = "" }, "flavor"},
		"one network twice":        {func(s *Settings) { s.Networks = []string{"a", "a"} }, "networks[1]"},
		"no size":                  {func(s *Settings) { s.BootVolume = &Volume{} }, "boot_volume.size"},
		"muster's metadata":        {func(s *Settings) { s.Metadata = map[string]string{"muster.host": "x"} }, "metadata"},
		"groups on bare metal":     {func(s *Settings) { s.BareMetal, s.SecurityGroups = true, []string{"web"} }, "security_groups"},
		"flavor of a node":         {func(s *Settings) { s.Node = "rack-1" }, "flavor"},
		"a node without a sum":     {func(s *Settings) { s.Flavor, s.Node, s.Image = "", "rack-1", "http://images/a.img" }, "checksum"},
		"a root size for a server": {func(s *Settings) { s.RootGB = 5 }, "root_gb"},
	} {
		problems := testSettings(test.change).Validate()
		if test.field == "" && len(problems) > 0 || test.field != "" && (len(problems) == 0 || problems[0].Field != test.field) {
			t.Errorf("%s: %v, want one of %q", name, problems, test.field)
		}
	}
	for name, change := range map[string]func(*Config){
		"interface":   func(c *Config) { c.Interface = "inside" },
		"api_from[0]": func(c *Config) { c.APIFrom = []string{"10.0.0.1/8"} },
		"allow[0]":    func(c *Config) { c.Allow = []Rule{{Ports: "80-70"}} },
		"settle":      func(c *Config) { c.Settle = 0 },
		"clouds_file": func(c *Config) { c.File = "clouds.yaml" },
	} {
		config := NewConfig()
		change(config)
		if problems := config.Validate(); len(problems) != 1 || problems[0].Field != name {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
