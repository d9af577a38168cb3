package datasource_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/datasource"
)

// server serves pages, the first of each after some failures.
func server(t *testing.T, pages map[string]string, failures int) string {
	t.Helper()
	var mu sync.Mutex
	failed := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if failed[r.URL.Path] < failures {
			failed[r.URL.Path]++
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		page, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestCommandLine(t *testing.T) {
	url := server(t, map[string]string{"/config": config}, 1)
	files := map[string]string{"proc/cmdline": "quiet cloud-config-url=" + url + "/config console=ttyS0\n", "etc/machine-id": "abc\n"}
	fetched(t, datasource.CommandLine{Machine: machine(t, files)}, datasource.Data{InstanceID: "abc", UserData: []byte(config)})
	files["proc/cmdline"] = "cloud-config-url=" + url + "/none\n"
	refused(t, datasource.CommandLine{Machine: machine(t, files)}, "404 Not Found")
	files["proc/cmdline"] = "cloud-config-url=tftp://x/y\n"
	refused(t, datasource.CommandLine{Machine: machine(t, files)}, "no http or https URL")
}

func TestNoCloudNet(t *testing.T) {
	pages := map[string]string{}
	for name, content := range noCloudFiles {
		pages["/seed/"+name] = content
	}
	url := server(t, pages, 1) + "/seed/"
	renamed := noCloudData()
	renamed.Hostname, renamed.InstanceID = "h", "i-9"
	for name, tc := range map[string]struct {
		files map[string]string
		want  datasource.Data
	}{
		"SMBIOS":              {map[string]string{"sys/class/dmi/id/product_serial": "ds=nocloud;s=" + url + "\n"}, noCloudData()},
		"SMBIOS, old name":    {map[string]string{"sys/class/dmi/id/product_serial": "ds=nocloud-net;seedfrom=" + url + "\n"}, noCloudData()},
		"command line":        {map[string]string{"proc/cmdline": "a ds=nocloud;s=" + url + ";h=h;i=i-9 b\n"}, renamed},
		"command line, quote": {map[string]string{"proc/cmdline": "a \"ds=nocloud;s=" + url + ";local-hostname=h;instance-id=i-9\"\n"}, renamed},
		"command line counts": {map[string]string{"proc/cmdline": "ds=nocloud;s=" + url, "sys/class/dmi/id/product_serial": "ds=nocloud;s=http://127.0.0.1:1/"}, noCloudData()},
		"a directory": {map[string]string{
			"proc/cmdline": "ds=nocloud;s=/seed", "seed/user-data": config, "seed/meta-data": noCloudFiles["meta-data"],
		}, noCloudData()},
	} {
		t.Run(name, func(t *testing.T) { fetched(t, datasource.NoCloudNet{Machine: machine(t, tc.files)}, tc.want) })
	}
	notHere(t, datasource.NoCloudNet{Machine: machine(t, map[string]string{"proc/cmdline": "ds=nocloud"})})
	notHere(t, datasource.NoCloudNet{Machine: machine(t, map[string]string{"proc/cmdline": "ds=ec2;s=http://x"})})
	refused(t, datasource.NoCloudNet{Machine: machine(t, map[string]string{"proc/cmdline": "ds=nocloud;s=ftp://x"})}, "no http or https URL")

	m := machine(t, map[string]string{"proc/cmdline": "ds=nocloud;s=http://127.0.0.1:1/"})
	m.Timeout = 50 * time.Millisecond
	refused(t, datasource.NoCloudNet{Machine: m}, "deadline exceeded")
}

// ec2 is a machine of EC2 with a metadata service of these pages.
type ec2 struct {
	pages   map[string]string
	token   string // "" serves no tokens
	mu      sync.Mutex
	methods []string
}

func (e *ec2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.methods = append(e.methods, r.Method)
	e.mu.Unlock()
	switch {
	case r.URL.Path == "/latest/api/token":
		if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		if e.token == "" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, e.token)
		return
	case r.Header.Get("X-aws-ec2-metadata-token") != e.token:
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	page, ok := e.pages[strings.TrimPrefix(r.URL.Path, "/latest/")]
	switch {
	case !ok:
		http.NotFound(w, r)
	case strings.HasPrefix(page, "http"):
		http.Redirect(w, r, page, http.StatusFound)
	default:
		_, _ = io.WriteString(w, page)
	}
}

func TestEC2(t *testing.T) {
	pages := map[string]string{
		"meta-data/instance-id": "i-0abc", "meta-data/local-hostname": "ip-10-0-0-7.ec2.internal", "meta-data/local-ipv4": "10.0.0.7",
		"meta-data/public-ipv4": "198.51.100.7", "meta-data/ipv6": "2001:db8::7", "user-data": "\x1f\x8b binary",
		"meta-data/public-keys/": "0=mine\n1=yours", "meta-data/public-keys/0/openssh-key": "ssh-ed25519 AAAA mine\n", "meta-data/public-keys/1/openssh-key": "ssh-ed25519 BBBB yours\n",
	}
	want := datasource.Data{
		InstanceID: "i-0abc", Hostname: "ip-10-0-0-7.ec2.internal", UserData: []byte("\x1f\x8b binary"),
		SSHKeys: []string{"ssh-ed25519 AAAA mine", "ssh-ed25519 BBBB yours"},
		Addresses: cloudconfig.Addresses{
			PrivateIPv4: netip.MustParseAddr("10.0.0.7"), PublicIPv4: netip.MustParseAddr("198.51.100.7"), PublicIPv6: netip.MustParseAddr("2001:db8::7"),
		},
	}
	for name, files := range map[string]map[string]string{
		"Nitro":           {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"},
		"Xen":             {"sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n"},
		"OpenStack":       {"sys/class/dmi/id/product_name": "OpenStack Nova\n"},
		"by command line": {"proc/cmdline": "ds=ec2"},
	} {
		t.Run(name, func(t *testing.T) {
			service := &ec2{pages: pages, token: "AQAE=="}
			if name == "OpenStack" {
				service.token = ""
			}
			s := httptest.NewServer(service)
			defer s.Close()
			fetched(t, datasource.EC2{Machine: machine(t, files), Base: s.URL}, want)
			if service.methods[0] != http.MethodPut {
				t.Errorf("it asks before it has a token: %v", service.methods)
			}
		})
	}
	s := httptest.NewServer(&ec2{pages: map[string]string{"meta-data/instance-id": "i-1"}, token: "t"})
	defer s.Close()
	nitro := machine(t, map[string]string{"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"})
	fetched(t, datasource.EC2{Machine: nitro, Base: s.URL}, datasource.Data{InstanceID: "i-1"})

	for want, pages := range map[string]map[string]string{
		"it has no instance-id": {"user-data": config},
		"302 Found":             {"meta-data/instance-id": "i-1", "user-data": "http://169.254.169.254/elsewhere"},
	} {
		s := httptest.NewServer(&ec2{pages: pages, token: "t"})
		refused(t, datasource.EC2{Machine: nitro, Base: s.URL}, strings.TrimPrefix(want, "it has "))
		s.Close()
	}
	s2 := httptest.NewServer(&ec2{pages: pages, token: "two\nlines"})
	defer s2.Close()
	refused(t, datasource.EC2{Machine: nitro, Base: s2.URL}, "gave no token")
	notHere(t, datasource.EC2{Machine: machine(t, map[string]string{"sys/class/dmi/id/sys_vendor": "QEMU\n"}), Base: s.URL})
}

// vmware is a machine of VMware whose variables a program reads.
func vmware(t testing.TB, program string, variables map[string]string) datasource.Machine {
	t.Helper()
	m := machine(t, map[string]string{"sys/class/dmi/id/sys_vendor": "VMware, Inc.\n", "sys/class/dmi/id/product_uuid": "564D-1\n"})
	m.Command = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name != program {
			return nil, &exec.Error{Name: name, Err: exec.ErrNotFound}
		}
		value, ok := variables[strings.TrimPrefix(args[len(args)-1], "info-get guestinfo.")]
		if !ok {
			return nil, &exec.ExitError{Stderr: []byte("No value found")}
		}
		return []byte(value + "\n"), nil
	}
	return m
}

func TestVMware(t *testing.T) {
	zipped := encode(cloudconfig.Gzip([]byte(config)))
	meta := encode([]byte(`{"instance-id": "i-1", "local-hostname": "node-1", "public-keys-data": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"}`))
	for _, program := range []string{"vmware-rpctool", "vmtoolsd"} {
		for encoding, userData := range map[string]string{"gzip+base64": zipped, "gz+b64": zipped, "base64": encode([]byte(config)), "": strings.TrimSuffix(config, "\n")} {
			want := noCloudData()
			if encoding == "" {
				want.UserData = []byte(userData)
			}
			variables := map[string]string{"userdata": userData, "metadata": meta, "metadata.encoding": "base64"}
			if encoding != "" {
				variables["userdata.encoding"] = encoding
			}
			fetched(t, datasource.VMware{Machine: vmware(t, program, variables)}, want)
		}
	}
	fetched(t, datasource.VMware{Machine: vmware(t, "vmtoolsd", map[string]string{"userdata": "x"})}, datasource.Data{InstanceID: "564d-1", UserData: []byte("x")})
	notHere(t, datasource.VMware{Machine: vmware(t, "vmtoolsd", nil)})
	notHere(t, datasource.VMware{Machine: vmware(t, "none", map[string]string{"userdata": "x"})})
	notHere(t, datasource.VMware{Machine: vmware(t, "vmtoolsd", map[string]string{"userdata": "---"})})
	for want, variables := range map[string]map[string]string{
		"guestinfo.userdata: it is not base64":                  {"userdata": "%", "userdata.encoding": "base64"},
		"guestinfo.userdata: it is not gzip":                    {"userdata": "eA==", "userdata.encoding": "gzip+base64"},
		"guestinfo.userdata: the encoding `rot13` is not known": {"userdata": "x", "userdata.encoding": "rot13"},
		"the meta-data is not YAML":                             {"metadata": "["},
	} {
		refused(t, datasource.VMware{Machine: vmware(t, "vmtoolsd", variables)}, want)
	}
	broken := vmware(t, "vmtoolsd", nil)
	broken.Command = func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("broken") }
	refused(t, datasource.VMware{Machine: broken}, "broken")
}

// answers is a network in which every page is the same.
type answers struct {
	code int
	body []byte
}

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.code, Status: "status", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body))}, nil
}

// FuzzHTTP gives whatever a server may reply to every source that asks one.
func FuzzHTTP(f *testing.F) {
	f.Add(200, []byte("0=a\n1=b"))
	f.Add(200, []byte("instance-id: i-1\n"))
	f.Add(404, []byte(""))
	f.Add(302, []byte("i-1"))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		if code < 100 || code > 999 || code == 429 || code >= 500 {
			return // asked again until the time is over
		}
		m := machine(t, map[string]string{
			"proc/cmdline": "ds=nocloud;s=http://x/ cloud-config-url=http://x/", "sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "etc/machine-id": "abc\n",
		})
		m.Client = &http.Client{Transport: answers{code, body}}
		for _, s := range []datasource.Source{datasource.CommandLine{Machine: m}, datasource.NoCloudNet{Machine: m}, datasource.EC2{Machine: m}} {
			if data, err := s.Fetch(t.Context()); err == nil && data.InstanceID == "" {
				t.Errorf("%s: no instance ID and no error", s.Name())
			}
		}
	})
}

// FuzzArguments reads kernel command lines and serial numbers.
func FuzzArguments(f *testing.F) {
	f.Add("a \"ds=nocloud;s=/x\" b", "ds=nocloud;h=a;i=b;s=")
	f.Add("cloud-config-url=ftp:// \"", ";;;=")
	f.Fuzz(func(t *testing.T, line, serial string) {
		m := machine(t, map[string]string{"proc/cmdline": line, "sys/class/dmi/id/product_serial": serial})
		m.Client = &http.Client{Transport: answers{404, nil}}
		for _, s := range []datasource.Source{datasource.CommandLine{Machine: m}, datasource.NoCloudNet{Machine: m}, datasource.EC2{Machine: m}} {
			_, _ = s.Fetch(t.Context())
		}
	})
}
