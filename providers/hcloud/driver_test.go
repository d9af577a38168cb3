package hcloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/hcloud/hcloudtest"
)

// TestForeignIsUntouched puts things of others beside the cluster's, which look as alike as they may, through the whole
// life of a cluster.
func TestForeignIsUntouched(t *testing.T) {
	cloud := hcloudtest.New(t)
	id := testRequest("web-1", nil).Identity
	theirs := providers.Identity{Cluster: "00000000-0f43-4a53-9f36-25c3d5a0a001", Host: "web-1", Generation: 1}
	other := owner{testCluster, "cloud-b"}
	half := id.Tags()
	delete(half, providers.TagGeneration)
	cloud.PlantServer("web-1", nil)
	cloud.PlantServer("web-1.1", map[string]string{"team": "billing"})
	cloud.PlantServer("", id.Tags())
	cloud.PlantServer("", half)
	cloud.PlantServer(owner{theirs.Cluster, "cloud-a"}.serverName(theirs), owner{theirs.Cluster, "cloud-a"}.serverLabels(theirs))
	cloud.PlantServer(other.serverName(id), other.serverLabels(id))
	cloud.PlantServer(owner{testCluster, "cloud-a"}.serverName(testRequest("web-7", nil).Identity), map[string]string{"team": "billing"})
	cloud.PlantFirewall(other.group(), other.labels())
	cloud.PlantFirewall("web", map[string]string{providers.TagCluster: testCluster})
	cloud.PlantPlacement(other.placement(1), other.labels())
	cloud.PlantPlacement("spread", nil)
	before := cloud.Everything()
	tearDown := func(p *Provider) error {
		made, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
		if err != nil {
			return err
		}
		if list, err := p.List(t.Context(), testCluster); err != nil || len(list) != 1 {
			t.Errorf("listed %v: %v", list, err)
		}
		return errors.Join(p.Destroy(t.Context(), made), providers.Cleanup(t.Context(), retrying(p), testCluster))
	}
	if err := tearDown(testProvider(t, cloud)); err != nil {
		t.Fatal(err)
	}
	if after := cloud.Everything(); !slices.Equal(before, after) {
		t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// TestNamesOfOthers gives away the names that the driver would use: what has them and not the labels stays as it is.
func TestNamesOfOthers(t *testing.T) {
	o := owner{testCluster, "cloud-a"}
	id := testRequest("web-1", nil).Identity
	other := o.serverLabels(id)
	other[providers.TagProvider] = "cloud-b"
	for name, plant := range map[string]func(*hcloudtest.Cloud){
		"server without labels":      func(c *hcloudtest.Cloud) { c.PlantServer(o.serverName(id), nil) },
		"server of another provider": func(c *hcloudtest.Cloud) { c.PlantServer(o.serverName(id), other) },
		"firewall without labels":    func(c *hcloudtest.Cloud) { c.PlantFirewall(o.group(), nil) },
		"placement without labels":   func(c *hcloudtest.Cloud) { c.PlantPlacement(o.placement(1), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := hcloudtest.New(t)
			plant(cloud)
			theirs := cloud.Everything()[0]
			p := testProvider(t, cloud)
			_, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
			taken := strings.HasPrefix(name, "placement") // the next name is taken
			if taken != (err == nil) || !taken && !errors.Is(err, providers.ErrConflict) {
				t.Errorf("create says %v", err)
			}
			if list, err := p.List(t.Context(), testCluster); err == nil {
				for _, each := range list {
					if err := p.Destroy(t.Context(), each); err != nil && !strings.HasPrefix(theirs, "server") {
						t.Error(err)
					}
				}
			}
			_ = providers.Cleanup(t.Context(), retrying(p), testCluster)
			if !slices.Contains(cloud.Everything(), theirs) {
				t.Errorf("%s was changed: %v", theirs, cloud.Everything())
			}
		})
	}
}

// TestCallsOfHosts makes, lists and ends 200 hosts, all of them at a time, and counts the calls. The project answers none of
// the calls that make something before all of that kind are asked, and so for those that end hosts: none waits for another,
// and 200 hosts take the time of one.
func TestCallsOfHosts(t *testing.T) {
	const hosts = 200
	cloud := hcloudtest.New(t)
	p := testProvider(t, cloud)
	p.look = 50 * time.Millisecond
	made := make([]providers.Instance, hosts)
	each := func(together map[string]int, do func(i int) error) {
		t.Helper()
		cloud.Reset()
		cloud.SetFault(meet(t, together))
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
	together := map[string]int{"POST /v1/servers": hosts, "POST /v1/placement_groups": hosts / groupSize}
	each(together, func(i int) (err error) {
		made[i], err = p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), everySetting()))
		return err
	})
	// Types, images, network, keys, firewall and its making, placement groups and the making of one for every ten hosts.
	const once = 7 + hosts/groupSize
	t.Logf("%d hosts made with %d calls: %v", hosts, cloud.Total(), cloud.Calls())
	if n := cloud.Total(); n != hosts+once {
		t.Errorf("%d calls for %d hosts, want one each and %d: %v", n, hosts, once, cloud.Calls())
	}
	if n := cloud.Count("placement group"); n != hosts/groupSize {
		t.Errorf("%d placement groups", n)
	}
	cloud.Reset()
	list, err := p.List(t.Context(), testCluster)
	if n := cloud.Total(); err != nil || len(list) != hosts || n != hosts/perPage {
		t.Errorf("%d hosts listed with %d calls: %v", len(list), n, err)
	}
	each(map[string]int{"DELETE /v1/servers/{id}": hosts}, func(i int) error { return p.Destroy(t.Context(), made[i]) })
	t.Logf("%d hosts ended with %d calls: %v", hosts, cloud.Total(), cloud.Calls())
	if n := cloud.Total(); n > 4*hosts {
		t.Errorf("%d calls for the end of %d hosts: %v", n, hosts, cloud.Calls())
	}
	tearDown(t, cloud)
}

// meet lets calls wait for each other, until as many of each pattern are there as are named.
func meet(t *testing.T, together map[string]int) func(hcloudtest.Call) hcloudtest.Fault {
	missing, all := maps.Clone(together), map[string]chan struct{}{}
	for pattern := range together {
		all[pattern] = make(chan struct{})
	}
	return func(call hcloudtest.Call) hcloudtest.Fault {
		here, waits := all[call.Pattern]
		if !waits {
			return hcloudtest.Fault{}
		}
		if missing[call.Pattern]--; missing[call.Pattern] == 0 {
			close(here)
		}
		return hcloudtest.Fault{Before: func() {
			select {
			case <-here:
			case <-time.After(10 * time.Second):
				t.Errorf("not all calls %s came before the first was answered", call.Pattern)
			}
		}}
	}
}

// TestRateLimit lets the project's calls run out: they come as fast as they come back, and nothing fails.
func TestRateLimit(t *testing.T) {
	cloud := hcloudtest.New(t)
	cloud.PerHour = 3600 * 200 // 200 come back in a second
	cloud.SetLeft(3)
	p := retrying(testProvider(t, cloud))
	for i := range 20 {
		if _, err := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), testSettings())); err != nil {
			t.Fatal(err)
		}
	}
	// The pace begins when a tenth is left, so what runs out is what was asked for at once before that was known.
	if n := cloud.Total(); n > 20+6+3 {
		t.Errorf("%d calls for 20 hosts", n)
	}
	cloud.SetLeft(0)
	cloud.PerHour = 1
	_, err := testProvider(t, cloud).List(t.Context(), testCluster)
	if !errors.Is(err, providers.ErrThrottled) {
		t.Errorf("without any call left, list says %v", err)
	}
}

// TestListChanges ends servers while a list of several pages is read.
func TestListChanges(t *testing.T) {
	cloud := hcloudtest.New(t)
	o := owner{testCluster, "cloud-a"}
	for i := range 120 {
		id := testRequest(fmt.Sprintf("web-%d", i+1), nil).Identity
		cloud.PlantServer(o.serverName(id), o.serverLabels(id))
	}
	p := testProvider(t, cloud)
	list, err := p.List(t.Context(), testCluster)
	if err != nil || len(list) != 120 {
		t.Fatalf("%d hosts listed: %v", len(list), err)
	}
	cloud.Reset()
	cloud.SetFault(func(call hcloudtest.Call) hcloudtest.Fault {
		if call.Number == 2 { // between the first page and the second
			cloud.Labels(o.serverName(list[0].Identity), nil)
		}
		return hcloudtest.Fault{}
	})
	again, err := retrying(p).List(t.Context(), testCluster)
	if n := cloud.Total(); err != nil || len(again) != 119 || n != 2+3 {
		t.Errorf("%d hosts listed with %d calls: %v", len(again), n, err)
	}
}

// TestServer looks at what a server is made with.
func TestServer(t *testing.T) {
	cloud := hcloudtest.New(t)
	old := cloud.AddSnapshot(5, map[string]string{"os": "muster"})
	newest := cloud.AddSnapshot(6, map[string]string{"os": "muster"})
	p := testProvider(t, cloud)
	for host, settings := range map[string]*Settings{
		"web-1": testSettings(func(s *Settings) { s.Image, s.Snapshot = "", "os=muster" }),
		"web-2": testSettings(func(s *Settings) { s.Image = fmt.Sprint(old) }),
		"web-3": testSettings(func(s *Settings) { s.PublicIPv4, s.Network = false, hcloudtest.Network }),
	} {
		settings.Locations = strings.Fields(hcloudtest.Locations)
		req := testRequest(host, settings)
		req.UserData = []byte("#cloud-config\n# " + host + " ä\n")
		made, err := p.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		shown, userData, _ := cloud.Server(p.owner(testCluster).serverName(req.Identity))
		if userData != string(req.UserData) {
			t.Errorf("%s has the user-data %q", host, userData)
		}
		if want := map[string]string{"web-1": "fsn1", "web-2": "nbg1", "web-3": "hel1"}[host]; shown.Location.Name != want {
			t.Errorf("%s is in %s, want %s", host, shown.Location.Name, want)
		}
		if want := map[string]int64{"web-1": newest, "web-2": old}[host]; want != 0 && shown.Image.ID != want {
			t.Errorf("%s boots from image %d, want %d", host, shown.Image.ID, want)
		}
		families := []bool{}
		for _, addr := range made.Addresses {
			families = append(families, addr.Is4())
		}
		want := []bool{true, false}
		if host == "web-3" {
			want = []bool{false, true}
			if second := made.Addresses[0].As16(); second[15] != 1 || !netip.MustParsePrefix("10.0.0.0/8").Contains(made.Addresses[1]) {
				t.Errorf("%s has the addresses %v", host, made.Addresses)
			}
		}
		if !slices.Equal(families, want) {
			t.Errorf("%s has the addresses %v", host, made.Addresses)
		}
	}
}

// TestUserDataLimit takes 32 KiB of text and nothing else.
func TestUserDataLimit(t *testing.T) {
	cloud := hcloudtest.New(t)
	p := testProvider(t, cloud)
	for text, class := range map[string]error{
		strings.Repeat("a", 32<<10): nil, strings.Repeat("a", 32<<10+1): providers.ErrInvalid, "\x1f\x8b": providers.ErrInvalid,
	} {
		req := testRequest("web-1", testSettings())
		req.UserData = []byte(text)
		if _, err := p.Create(t.Context(), req); !errors.Is(err, class) {
			t.Errorf("%d bytes: create says %v, want %v", len(text), err, class)
		}
	}
}

// TestFirewall opens what the configuration says, once, and follows when that changes.
func TestFirewall(t *testing.T) {
	cloud := hcloudtest.New(t)
	create := func(host string, change func(*Config)) {
		t.Helper()
		if _, err := testProvider(t, cloud, change).Create(t.Context(), testRequest(host, testSettings())); err != nil {
			t.Fatal(err)
		}
	}
	ports := func() string {
		shown, _ := cloud.Firewall(owner{testCluster, "cloud-a"}.group())
		var all []string
		for _, rule := range shown.Rules {
			all = append(all, *rule.Port+" from "+strings.Join(rule.SourceIPs, ","))
		}
		return strings.Join(all, "; ")
	}
	create("web-1", func(*Config) {})
	if want := "7400 from 0.0.0.0/0,::/0; 7400 from 0.0.0.0/0,::/0; 2379-2380 from 0.0.0.0/0,::/0"; ports() != want {
		t.Errorf("the firewall opens %s, want %s", ports(), want)
	}
	cloud.Reset()
	create("web-2", func(*Config) {})
	if n := cloud.Calls()["POST /v1/firewalls/{id}/actions/set_rules"]; n != 0 {
		t.Error("the same rules were set again")
	}
	create("web-3", func(c *Config) {
		c.Allow = Allow{API: []string{"203.0.113.7/32"}, SSH: []string{"2001:db8::/32"}}
	})
	if want := "7400 from 203.0.113.7/32; 22 from 2001:db8::/32"; ports() != want {
		t.Errorf("the firewall opens %s, want %s", ports(), want)
	}
}

// TestGivenGroups uses a firewall and a placement group that exist, and makes none.
func TestGivenGroups(t *testing.T) {
	cloud := hcloudtest.New(t)
	cloud.PlantFirewall("web", nil)
	cloud.PlantPlacement("apart", nil)
	p := testProvider(t, cloud)
	settings := testSettings(func(s *Settings) { s.Firewalls, s.PlacementGroup = []string{"web"}, "apart" })
	for i := range groupSize {
		if _, err := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), settings)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Create(t.Context(), testRequest("web-11", settings)); !errors.Is(err, providers.ErrQuota) {
		t.Errorf("the eleventh host of a placement group: %v", err)
	}
	if n := cloud.Count("firewall") + cloud.Count("placement group"); n != 2 {
		t.Errorf("there is %v", cloud.Everything())
	}
}

// TestFullGroups fills a placement group behind the back of a process that knows it to have room.
func TestFullGroups(t *testing.T) {
	cloud := hcloudtest.New(t)
	first, second := retrying(testProvider(t, cloud)), retrying(testProvider(t, cloud))
	create := func(p providers.Provider, i int) {
		t.Helper()
		if _, err := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i), everySetting())); err != nil {
			t.Fatal(err)
		}
	}
	create(first, 1)
	for i := range groupSize - 1 {
		create(second, 2+i)
	}
	create(first, 11)
	create(first, 12)
	if n := cloud.Count("placement group"); n != 2 || cloud.Count("server") != 12 {
		t.Errorf("%d placement groups: %v", n, cloud.Everything())
	}
	tearDown(t, cloud)
}

// TestPlacesAreGivenBack asks for hosts that cannot be had, and for one that is there: they take no place.
func TestPlacesAreGivenBack(t *testing.T) {
	cloud := hcloudtest.New(t)
	p := testProvider(t, cloud)
	nowhere := everySetting()
	nowhere.Locations = []string{"ash"}
	for i := range groupSize {
		_, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
		_, sold := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+2), nowhere))
		if err != nil || !errors.Is(sold, providers.ErrQuota) {
			t.Fatalf("create says %v and %v", err, sold)
		}
	}
	if n := cloud.Count("placement group"); n != 1 {
		t.Errorf("%d placement groups for one host", n)
	}
}

// TestFullProject adopts a host that is there while the project has no room, and refuses another.
func TestFullProject(t *testing.T) {
	cloud := hcloudtest.New(t)
	first, err := testProvider(t, cloud).Create(t.Context(), testRequest("web-1", everySetting()))
	if err != nil {
		t.Fatal(err)
	}
	cloud.Limits = map[string]int{"server": 1}
	again, err := testProvider(t, cloud).Create(t.Context(), testRequest("web-1", everySetting()))
	if err != nil || again.ID != first.ID {
		t.Errorf("created %s and then %s: %v", first.ID, again.ID, err)
	}
	gone := testSettings(func(s *Settings) { s.Image = "debian-7" })
	if again, err = testProvider(t, cloud).Create(t.Context(), testRequest("web-1", gone)); err != nil || again.ID != first.ID {
		t.Errorf("with an image that is gone: %s, %v", again.ID, err)
	}
	_, err = testProvider(t, cloud).Create(t.Context(), testRequest("web-2", everySetting()))
	if !errors.Is(err, providers.ErrQuota) || !strings.Contains(err.Error(), "higher limit") {
		t.Errorf("create says %v", err)
	}
}

// TestProtected says what to do about a server that must not be deleted.
func TestProtected(t *testing.T) {
	cloud := hcloudtest.New(t)
	p := testProvider(t, cloud)
	made, err := p.Create(t.Context(), testRequest("web-1", testSettings()))
	if err != nil {
		t.Fatal(err)
	}
	cloud.Protect(p.owner(testCluster).serverName(made.Identity))
	if err := p.Destroy(t.Context(), made); !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "disable-protection") {
		t.Errorf("destroy says %v", err)
	}
	cloud.Labels(p.owner(testCluster).serverName(made.Identity), map[string]string{"team": "billing"})
	if err := p.Destroy(t.Context(), made); !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "give them back") {
		t.Errorf("destroy of a server that lost its labels says %v", err)
	}
}

// TestToken takes the token from the configuration or the environment, and says what is wrong with it.
func TestToken(t *testing.T) {
	cloud := hcloudtest.New(t)
	t.Setenv("HCLOUD_ENDPOINT", cloud.URL())
	for name, test := range map[string]struct {
		config, env string
		says        string
	}{
		"from the environment":  {"", hcloudtest.Token, ""},
		"from the file":         {hcloudtest.Token + "\n", "wrong", ""},
		"none":                  {"", "", "set `token`, or HCLOUD_TOKEN"},
		"another's":             {"canary-of-somebody", "", "unable to authenticate"},
		"one that may not be":   {"canary\x00", "", "invalid characters"},
		"one that reads":        {hcloudtest.ReadOnly, "", ""},
		"one that reads, check": {hcloudtest.ReadOnly, "", "the token must be one that reads and writes"},
	} {
		t.Setenv("HCLOUD_TOKEN", test.env)
		p := testProvider(t, cloud, func(c *Config) { c.Token, c.Endpoint = secret.New(test.config), "" })
		_, err := p.List(t.Context(), testCluster)
		if strings.HasSuffix(name, "check") {
			err = p.Check(t.Context(), []any{testSettings()})
		}
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
		if test.says != "" && !strings.Contains(test.says, "characters") && !errors.Is(err, providers.ErrAuth) {
			t.Errorf("%s: %v is no failure to log in", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v shows the token", name, err)
		}
	}
}

// TestErrorsAreClassified lets the API refuse as it may.
func TestErrorsAreClassified(t *testing.T) {
	cloud := hcloudtest.New(t)
	type answer struct {
		Status int
		Code   string
		Drop   bool
	}
	for fault, class := range map[answer]error{
		{Status: 400}: providers.ErrInvalid, {Status: 401}: providers.ErrAuth, {Status: 403}: providers.ErrAuth, {Status: 404}: providers.ErrNotFound,
		{Status: 409}: providers.ErrConflict, {Status: 429}: providers.ErrThrottled, {Status: 500}: providers.ErrUnavailable,
		{Status: 503}: providers.ErrUnavailable, {Drop: true}: providers.ErrUnavailable,
		{Status: 429, Code: "rate_limit_exceeded"}:     providers.ErrThrottled,
		{Status: 403, Code: "resource_limit_exceeded"}: providers.ErrQuota,
		{Status: 412, Code: "resource_unavailable"}:    providers.ErrQuota,
		{Status: 423, Code: "locked"}:                  providers.ErrUnavailable,
		{Status: 503, Code: "maintenance"}:             providers.ErrUnavailable,
		{Status: 422, Code: "unsupported_error"}:       providers.ErrInvalid,
		{Status: 500, Code: "of_next_year"}:            providers.ErrUnavailable,
	} {
		cloud.Reset()
		cloud.SetFault(func(hcloudtest.Call) hcloudtest.Fault {
			return hcloudtest.Fault{Status: fault.Status, Code: fault.Code, Drop: fault.Drop}
		})
		if _, err := testProvider(t, cloud).List(t.Context(), testCluster); !errors.Is(err, class) {
			t.Errorf("%+v: %v, want %v", fault, err, class)
		}
		if n := cloud.Total(); n != 1 && !fault.Drop { // net/http itself asks again when a connection ends
			t.Errorf("%+v: %d tries, and one is all", fault, n)
		}
	}
}

// TestLookUpOnce lets many ask at a time, the first of whom is called off.
func TestLookUpOnce(t *testing.T) {
	m := memo{now: time.Now}
	first, cancel := context.WithCancel(t.Context())
	asked, began := 0, make(chan struct{})
	find := func(ctx context.Context) (int, error) {
		asked++
		if asked == 1 {
			close(began)
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}
		return asked, nil
	}
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := remember(first, &m, "key", find); !errors.Is(err, context.Canceled) {
			t.Errorf("who was called off: %v", err)
		}
	})
	<-began
	for range 8 {
		group.Go(func() {
			if got, err := remember(t.Context(), &m, "key", find); err != nil || got != 2 {
				t.Errorf("found %d: %v", got, err)
			}
		})
	}
	cancel()
	group.Wait()
}

func TestNames(t *testing.T) {
	o := owner{testCluster, "cloud-a"}
	id := providers.Identity{Cluster: testCluster, Host: strings.Repeat("a", 63), Generation: 12}
	name := o.serverName(id)
	if got, ours := o.hostNamed(name); !ours || got != id {
		t.Errorf("%s is of %+v, %t", name, got, ours)
	}
	for _, other := range []string{"", "web-1", "web-1.1", name + ".", strings.Replace(name, ".12.", ".012.", 1), strings.ToUpper(name)} {
		if got, ours := o.hostNamed(other); ours {
			t.Errorf("%s is taken for %+v", other, got)
		}
	}
	if (owner{testCluster, "cloud-b"}).serverName(id) == name {
		t.Error("two providers give one name")
	}
	want := map[string]string{"a": "1", "b": "2"}
	for text, labels := range map[string]map[string]string{
		"foreign": {}, "half": {"a": "1", "c": "3"}, "whole": {"a": "1", "b": "2", "c": "3"}, "other": {"a": "1", "b": "3"},
	} {
		if got := judge(labels, want); got != map[string]claim{"half": claimHalf, "whole": claimWhole}[text] {
			t.Errorf("%v is judged %d", labels, got)
		}
	}
	for host, want := range map[string]string{"web-1": "fsn1", "web-2": "nbg1", "web-3": "hel1", "web-4": "fsn1"} {
		if got := locationOf(host, strings.Fields(hcloudtest.Locations)); got != want {
			t.Errorf("%s is in %s, want %s", host, got, want)
		}
	}
}

func TestStateOf(t *testing.T) {
	for status, want := range map[api.ServerStatus][2]providers.State{ // at rest, and while it is being worked on
		api.ServerStatusInitializing: {providers.StatePending, providers.StatePending},
		api.ServerStatusOff:          {providers.StateStopped, providers.StatePending},
		api.ServerStatusStarting:     {providers.StateRunning, providers.StateRunning},
		api.ServerStatusRunning:      {providers.StateRunning, providers.StateRunning},
		api.ServerStatusMigrating:    {providers.StateRunning, providers.StateRunning},
		api.ServerStatusUnknown:      {providers.StateRunning, providers.StateRunning},
	} {
		for i, locked := range []bool{false, true} {
			if got := stateOf(&api.Server{Status: status, Locked: locked}); got != want[i] {
				t.Errorf("%s, locked %t, is %s, want %s", status, locked, got, want[i])
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Settings)
		field  string
	}{
		"good":               {func(*Settings) {}, ""},
		"no type":            {func(s *Settings) { s.ServerType = "" }, "server_type"},
		"no image":           {func(s *Settings) { s.Image = "" }, "image"},
		"two images":         {func(s *Settings) { s.Snapshot = "os=muster" }, "image"},
		"nowhere":            {func(s *Settings) { s.PublicIPv4, s.PublicIPv6 = false, false }, "network"},
		"one key twice":      {func(s *Settings) { s.SSHKeys = []string{"a", "a"} }, "ssh_keys[1]"},
		"no location":        {func(s *Settings) { s.Locations = []string{""} }, "locations[0]"},
		"too many firewalls": {func(s *Settings) { s.Firewalls = strings.Split("abcdef", "") }, "firewalls"},
		"a firewall for nothing": {func(s *Settings) {
			s.PublicIPv4, s.PublicIPv6, s.Network, s.Firewalls = false, false, "private", []string{"web"}
		}, "firewalls"},
	} {
		problems := testSettings(test.change).Validate()
		if test.field == "" && len(problems) > 0 || test.field != "" && (len(problems) != 1 || problems[0].Field != test.field) {
			t.Errorf("%s: %v, want one of %q", name, problems, test.field)
		}
	}
	for field, change := range map[string]func(*Config){
		"endpoint":         func(c *Config) { c.Endpoint = "api.hetzner.cloud" },
		"timeout":          func(c *Config) { c.Timeout = 0 },
		"allow.api[0]":     func(c *Config) { c.Allow.API = []string{"10.0.0.1/8"} },
		"allow.members[1]": func(c *Config) { c.Allow.Members = []string{"::/0", "home"} },
	} {
		config := NewConfig()
		change(config)
		if problems := config.Validate(); len(problems) != 1 || problems[0].Field != field {
			t.Errorf("%s: %v", field, problems)
		}
	}
}
