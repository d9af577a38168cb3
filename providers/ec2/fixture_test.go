package ec2

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

//go:embed policy.json
var policyJSON []byte

// TestMain keeps the tests from the AWS configuration of whoever runs them, and runs more of them at a time than there are
// processors, because they wait most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		_ = os.Setenv(name, value)
	}
	_ = flag.Set("test.parallel", "8")
	goleak.VerifyTestMain(m)
}

// quick is the timing of tests whose cloud takes milliseconds.
var quick = timing{hidden: 40 * time.Millisecond, look: 4 * time.Millisecond, console: 5 * time.Millisecond}

// account is a cloud with its endpoint, under the policy that is shipped.
type account struct {
	*ec2test.Cloud
	url    string
	dir    string // of the driver's records
	timing timing
}

func newAccount(t testing.TB, options ec2test.Options) *account {
	t.Helper()
	options.Policy = policyJSON
	cloud, err := ec2test.New(options)
	if err != nil {
		t.Fatal(err)
	}
	a := &account{dir: t.TempDir(), timing: quick}
	a.serve(t, cloud)
	return a
}

// serve puts a cloud behind the account.
func (a *account) serve(t testing.TB, cloud *ec2test.Cloud) {
	server := httptest.NewServer(cloud)
	t.Cleanup(server.Close)
	a.Cloud, a.url = cloud, server.URL
}

// config is a configuration for the account.
func (a *account) config() *Config {
	c := NewConfig()
	c.Region, c.Endpoint, c.Endpoints = "eu-test-1", a.url, Endpoints{SSM: a.url, STS: a.url}
	c.AccessKeyID, c.SecretAccessKey = "AKIDTEST", secret.New("canary-secret")
	c.Allow.API, c.Allow.Members = []string{"203.0.113.7/32"}, []string{"0.0.0.0/0"}
	return c
}

func (a *account) open(t testing.TB, change ...func(*Config)) *Provider {
	t.Helper()
	config := a.config()
	for _, each := range change {
		each(config)
	}
	env := providers.Environment{Now: time.Now, StateDir: a.dir}
	if testing.Verbose() {
		env.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	p, err := New("cloud-a", *config, env)
	if err != nil {
		t.Fatal(err)
	}
	p.timing = a.timing
	p.pace.rate = func(string) limit { return 1000 }
	return p
}

// patient repeats what the cloud refuses.
func patient(p providers.Provider) providers.Provider {
	policy := providers.RetryPolicy{Initial: 2 * time.Millisecond, Max: 10 * time.Millisecond, Elapsed: time.Minute}
	return providers.Retry(p, policy, slog.New(slog.DiscardHandler))
}

// tiny are settings of a host, changed.
func tiny(change ...func(*Settings)) *Settings {
	s := NewSettings()
	s.Image.ID = ec2test.ImageID
	for _, each := range change {
		each(s)
	}
	return s
}

func private(s *Settings) { s.Address = addressPrivate }

func elastic(s *Settings) { s.Address = addressElastic }

func spot(s *Settings) { s.Spot, s.Address = true, addressPrivate }

const cluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

func request(host string, s *Settings) providers.CreateRequest {
	req := providers.CreateRequest{
		Identity: providers.Identity{Cluster: cluster, Host: host, Generation: 1}, UserData: []byte("#cloud-config\n"),
	}
	if s != nil {
		req.Settings = s
	}
	return req
}

// mustCreate makes a host, which has to succeed.
func mustCreate(t testing.TB, p providers.Provider, req providers.CreateRequest) providers.Instance {
	t.Helper()
	made, err := p.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

var errCrash = errors.New("crash")

// crash ends a create by another process after a step.
func (a *account) crash(t *testing.T, step string, req providers.CreateRequest) {
	t.Helper()
	other := a.open(t)
	other.interrupt = func(at string) error {
		if at == step {
			return errCrash
		}
		return nil
	}
	if _, err := patient(other).Create(t.Context(), req); !errors.Is(err, errCrash) {
		t.Fatalf("create was to crash after %q: %v", step, err)
	}
}

// plant makes an instance of somebody else.
func (a *account) plant(_ *testing.T, tags map[string]string) (untouched func() bool) {
	id := a.Plant(tags)
	return func() bool {
		return slices.ContainsFunc(a.Resources(), func(r ec2test.Resource) bool {
			return r.ID == id && r.State == "running" && maps.Equal(r.Tags, tags)
		})
	}
}

// leftovers are everything in the account that has the provider's tag, and the driver's files.
func (a *account) leftovers(of string) []string {
	var left []string
	for _, r := range a.Resources() {
		if r.Tags[providers.TagProvider] != "" && (of == "" || r.Tags[providers.TagCluster] == of) {
			left = append(left, fmt.Sprintf("%s %s %s", r.Kind, r.ID, r.State))
		}
	}
	_ = filepath.WalkDir(filepath.Join(a.dir, "providers", "cloud-a", of), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// kinds counts the resources of muster's by kind.
func (a *account) kinds() map[string]int {
	count := map[string]int{}
	for _, r := range a.Resources() {
		if r.Tags[providers.TagProvider] != "" {
			count[r.Kind]++
		}
	}
	return count
}

// stop stops an instance as somebody at the console would.
func (a *account) stop(_ context.Context, instance providers.Instance) error {
	a.Stop(instance.ID)
	return nil
}
