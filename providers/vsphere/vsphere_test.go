package vsphere

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

func fields(problems []providers.Problem) []string {
	var list []string
	for _, p := range problems {
		list = append(list, p.Field)
	}
	return list
}

func TestConfigProblems(t *testing.T) {
	for url, want := range map[string][]string{
		"":                               nil,
		"vcenter.example.org":            nil,
		"https://vcenter.example.org":    nil,
		"https://[2001:db8::1]:8443/sdk": nil,
		"http://vcenter.example.org":     {"url"},
		"https://u:p@vcenter":            {"url"},
		"https://":                       {"url"},
		"::":                             {"url"},
	} {
		c := NewConfig()
		c.URL = url
		if got := fields(c.Validate()); !slices.Equal(got, want) {
			t.Errorf("%q: problems in %v, want %v", url, got, want)
		}
	}
	c := NewConfig()
	if c.Thumbprint = "5f:9a"; !slices.Equal(fields(c.Validate()), []string{"thumbprint"}) {
		t.Errorf("thumbprint: %v", c.Validate())
	}
}

// TestGovcEnvironment completes a configuration from govc's variables.
func TestGovcEnvironment(t *testing.T) {
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte("other:443 AA\nvcenter:443 BB:CC\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, each := range map[string]struct {
		config Config
		env    map[string]string
		want   string // url user password ca thumbprint datacenter, or the class of the error
	}{
		"nothing":  {Config{}, nil, "invalid"},
		"no user":  {Config{URL: "vcenter"}, nil, "auth"},
		"govc":     {Config{}, map[string]string{"GOVC_URL": "vcenter", "GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_DATACENTER": "dc"}, "https://vcenter/sdk u p   dc"},
		"govc URL": {Config{}, map[string]string{"GOVC_URL": "u:p@vcenter", "GOVC_TLS_CA_CERTS": "/ca.pem"}, "https://vcenter/sdk u p /ca.pem  "},
		"insecure": {Config{}, map[string]string{"GOVC_URL": "http://u:p@vcenter", "GOVC_INSECURE": "1"}, "invalid"},
		"known":    {Config{URL: "vcenter"}, map[string]string{"GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_TLS_KNOWN_HOSTS": known}, "https://vcenter/sdk u p  BB:CC "},
		"file wins": {
			Config{URL: "esxi", User: secret.New("me"), Password: secret.New("x"), CA: "ca.pem", Thumbprint: "T", Datacenter: "d"},
			map[string]string{"GOVC_URL": "vcenter", "GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_DATACENTER": "dc"},
			"https://esxi/sdk me x /dir/ca.pem T d",
		},
	} {
		s, err := serverOf(each.config, "/dir", func(key string) (string, bool) { v, ok := each.env[key]; return v, ok })
		got := providers.Class(err)
		if err == nil {
			got = strings.Join([]string{s.url.String(), s.User.Reveal(), s.Password.Reveal(), s.CA, s.Thumbprint, s.Datacenter}, " ")
		}
		if got != each.want {
			t.Errorf("%s: %q (%v), want %q", name, got, err, each.want)
		}
		if shown := fmt.Sprintf("%+v", s); strings.Contains(shown, "{p}") || s.url != nil && s.url.User != nil {
			t.Errorf("%s: the password is shown: %s", name, shown)
		}
	}
}

func TestSettingsProblems(t *testing.T) {
	for name, each := range map[string]struct {
		change func(*Settings)
		want   []string
	}{
		"template":           {func(*Settings) {}, nil},
		"nothing":            {func(s *Settings) { s.Template = "" }, []string{"template"}},
		"two sources":        {func(s *Settings) { s.OVA = "./x.ova" }, []string{"template"}},
		"library":            {func(s *Settings) { s.Template, s.Library = "", "lib" }, []string{"library"}},
		"library item":       {func(s *Settings) { s.Template, s.Library = "", "lib/item" }, nil},
		"URL without sum":    {func(s *Settings) { s.Template, s.OVA = "", "https://x/y.ova" }, []string{"sha256"}},
		"plain URL":          {func(s *Settings) { s.Template, s.OVA, s.SHA256 = "", "http://x/y.ova", strings.Repeat("a", 64) }, []string{"ova"}},
		"sum of a template":  {func(s *Settings) { s.SHA256 = strings.Repeat("a", 64) }, []string{"sha256"}},
		"odd sum":            {func(s *Settings) { s.Template, s.OVA, s.SHA256 = "", "x.ova", "abc" }, []string{"sha256"}},
		"sizes":              {func(s *Settings) { s.CPUs, s.Memory, s.Disk = -1, 5<<20, 1<<60 }, []string{"cpus", "memory", "disk"}},
		"good sizes":         {func(s *Settings) { s.CPUs, s.Memory, s.Disk = 4, 8<<30, 40<<30 }, nil},
		"linked with a disk": {func(s *Settings) { s.Linked, s.Disk = true, 1<<30 }, []string{"disk"}},
		"two datastores":     {func(s *Settings) { s.Datastore, s.DatastoreCluster = "a", "b" }, []string{"datastore_cluster"}},
		"affinity":           {func(s *Settings) { s.AntiAffinity = "maybe" }, []string{"anti_affinity"}},
		"empty network":      {func(s *Settings) { s.Networks = []string{""} }, []string{"networks"}},
		"gateway alone": {func(s *Settings) {
			s.Gateway, s.Nameservers = netip.MustParseAddr("10.0.0.1"), []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		}, []string{"gateway", "nameservers"}},
		"gateway elsewhere": {func(s *Settings) {
			s.Address, s.Gateway = netip.MustParsePrefix("10.0.0.5/24"), netip.MustParseAddr("10.0.1.1")
		}, []string{"gateway"}},
	} {
		s := NewSettings()
		s.Template = "debian"
		each.change(s)
		if got := fields(s.Validate()); !slices.Equal(got, each.want) {
			t.Errorf("%s: problems in %v, want %v", name, got, each.want)
		}
	}
}

func TestNames(t *testing.T) {
	id := providers.Identity{Cluster: testCluster, Host: "web-1", Generation: 2}
	o := owner{cluster: testCluster, provider: strings.Repeat("p", 63)}
	id.Host = strings.Repeat("h", 63)
	other := id
	other.Generation = 3
	for _, name := range []string{vmName(id), o.folderName(), o.imageName("ova"), importName(o.imageName("ova"))} {
		if len(name) > maxName {
			t.Errorf("%s has %d characters", name, len(name))
		}
	}
	first, second := importName("a"), importName("a")
	if vmName(id) == vmName(other) || !strings.HasPrefix(o.imageName("x"), o.imagePrefix()) || first == second {
		t.Error("names are not distinct")
	}
	if o2 := (owner{cluster: testCluster, provider: "p"}); o2.imagePrefix() == o.imagePrefix() || o2.folderName() == o.folderName() {
		t.Error("two providers share names")
	}
	if got := uuidOf(id); len(got) != 36 || strings.ReplaceAll(got, "-", "") != id.ID() {
		t.Errorf("UUID %s of %s", got, id.ID())
	}
}

// TestUnfinished tells a machine that the server is making from a host, and from one that only has its name.
func TestUnfinished(t *testing.T) {
	id := providers.Identity{Cluster: testCluster, Host: "web-1", Generation: 12}
	if got, is := hostNamed(vmName(id), testCluster); !is || got != id {
		t.Errorf("%s is the machine of %+v, %v", vmName(id), got, is)
	}
	for _, name := range []string{"", "web-1-12", vmPrefix(testCluster), vmPrefix(testCluster) + "web-1-01", vmPrefix(testCluster) + "12"} {
		if got, is := hostNamed(name, testCluster); is && vmName(got) != name || is && got.Validate() == nil {
			t.Errorf("%s is the machine of %+v", name, got)
		}
	}
	tags := map[string]string{}
	for _, each := range tagsOf(id, "cloud-a", time.Unix(0, 0)) {
		tags[each.GetOptionValue().Key] = each.GetOptionValue().Value.(string)
	}
	half := map[string]string{providers.TagCluster: testCluster}
	for what, each := range map[string]struct {
		m    machine
		want bool
	}{
		"only a name":     {machine{name: vmName(id)}, true},
		"no tags":         {machine{name: vmName(id), uuid: uuidOf(id)}, true},
		"some tags":       {machine{name: vmName(id), uuid: uuidOf(id), tags: half}, true},
		"all tags":        {machine{name: vmName(id), uuid: uuidOf(id), tags: tags}, false},
		"another's UUID":  {machine{name: vmName(id), uuid: "52a1c0de-0000-4000-8000-000000000001"}, false},
		"another's name":  {machine{name: "debian", uuid: uuidOf(id)}, false},
		"nothing of ours": {machine{}, false},
	} {
		if got := each.m.unfinished(id); got != each.want {
			t.Errorf("%s: unfinished %v, want %v", what, got, each.want)
		}
	}
}

// unpack decodes a guestinfo variable as a guest does.
func unpack(t *testing.T, options []types.BaseOptionValue, key string) []byte {
	t.Helper()
	values := map[string]string{}
	for _, each := range options {
		o := each.GetOptionValue()
		values[o.Key], _ = o.Value.(string)
	}
	data, err := base64.StdEncoding.DecodeString(values[key])
	if err != nil || len(values[key]) > maxGuestinfo {
		t.Fatalf("%s: %d bytes, %v", key, len(values[key]), err)
	}
	if values[key+".encoding"] != gzipBase64 {
		return data
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGuestinfo(t *testing.T) {
	id := providers.Identity{Cluster: testCluster, Host: "web-1", Generation: 1}
	noise := make([]byte, maxGuestinfo/4*3)
	source := rand.NewPCG(1, 2)
	for i := range noise {
		noise[i] = byte(source.Uint64())
	}
	s := NewSettings()
	s.Address, s.Gateway = netip.MustParsePrefix("10.20.0.11/24"), netip.MustParseAddr("10.20.0.1")
	s.Nameservers = []netip.Addr{netip.MustParseAddr("10.20.0.2")}
	for name, data := range map[string][]byte{
		"text": []byte("#cloud-config\n"), "large text": bytes.Repeat([]byte("#cloud-config\n"), 50_000), "noise": noise, "none": nil,
	} {
		options, err := guestinfo(id, s, data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := unpack(t, options, "guestinfo.userdata"); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes come back of %d", name, len(got), len(data))
		}
		want := `{"instance-id":"` + id.ID() + `","local-hostname":"web-1","network":{"version":2,"ethernets":{"primary":{"match":{"name":"e*"},` +
			`"addresses":["10.20.0.11/24"],"routes":[{"to":"0.0.0.0/0","via":"10.20.0.1"}],"nameservers":{"addresses":["10.20.0.2"]}}}}}`
		if got := string(unpack(t, options, "guestinfo.metadata")); got != want {
			t.Errorf("metadata %s\nwant %s", got, want)
		}
	}
	if _, err := guestinfo(id, s, append(noise, noise...)); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("too much: %v", err)
	}
}

func TestUsableAddresses(t *testing.T) {
	nics := []types.GuestNicInfo{
		{DeviceConfigId: 4000, IpAddress: []string{"fe80::1", "2001:db8::5", "10.0.0.5"}},
		{DeviceConfigId: 4001, IpAddress: []string{"10.1.0.5", "127.0.0.1"}},
		{DeviceConfigId: -1, IpAddress: []string{"172.17.0.1"}},
	}
	for primary, want := range map[string]string{
		"": "[10.0.0.5 10.1.0.5 2001:db8::5]", "10.1.0.5": "[10.1.0.5 10.0.0.5 2001:db8::5]", "fe80::1": "[10.0.0.5 10.1.0.5 2001:db8::5]",
		"2001:db8::5": "[2001:db8::5 10.0.0.5 10.1.0.5]",
	} {
		if got := fmt.Sprint(usable(primary, nics)); got != want {
			t.Errorf("primary %q: %s, want %s", primary, got, want)
		}
	}
}

func TestStates(t *testing.T) {
	on, off := types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff
	for _, each := range []struct {
		power      types.VirtualMachinePowerState
		connection types.VirtualMachineConnectionState
		want       providers.State
	}{
		{on, types.VirtualMachineConnectionStateConnected, providers.StateRunning},
		{on, types.VirtualMachineConnectionStateDisconnected, providers.StateRunning},
		{off, types.VirtualMachineConnectionStateConnected, providers.StateStopped},
		{types.VirtualMachinePowerStateSuspended, types.VirtualMachineConnectionStateConnected, providers.StateStopped},
		{on, types.VirtualMachineConnectionStateOrphaned, providers.StateFailed},
		{off, types.VirtualMachineConnectionStateInaccessible, providers.StateFailed},
		{off, types.VirtualMachineConnectionStateInvalid, providers.StateFailed},
	} {
		if got := (machine{power: each.power, connection: each.connection}).state(); got != each.want {
			t.Errorf("%s and %s: %s, want %s", each.power, each.connection, got, each.want)
		}
	}
}

// TestHardwareChanges looks at what a clone has otherwise than its template.
func TestHardwareChanges(t *testing.T) {
	disk := &types.VirtualDisk{CapacityInKB: 8 << 20}
	disk.Key = 2000
	card := &types.VirtualE1000{}
	card.Key, card.MacAddress = 4000, "00:50:56:00:00:01"
	from := source{devices: []types.BaseVirtualDevice{disk, card}}
	at := place{networks: []network{{name: "a", backing: &types.VirtualEthernetCardNetworkBackingInfo{}}, {name: "b"}}}
	changes := hardwareChanges(from, at, &Settings{Disk: 16 << 30})
	var got []string
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		got = append(got, fmt.Sprintf("%s %s %d", spec.Operation, reflect.TypeOf(spec.Device).Elem().Name(), spec.Device.GetVirtualDevice().Key))
	}
	if want := []string{"edit VirtualDisk 2000", "edit VirtualE1000 4000", "add VirtualVmxnet3 -101"}; !slices.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
	if card.MacAddress == "" || disk.CapacityInKB != 8<<20 {
		t.Error("the template's own devices were changed")
	}
	if none := hardwareChanges(from, place{}, &Settings{Disk: 8 << 30}); len(none) != 0 {
		t.Errorf("nothing to change: %v", none)
	}
}
