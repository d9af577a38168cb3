package vsphere

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the simulator's
	os.Exit(m.Run())
}

// vcsim is a simulated vCenter or ESXi host.
type vcsim struct {
	t      *testing.T
	model  *simulator.Model
	server *simulator.Server
	ca     string
	turns  turns
	own    *Provider // of the test itself
	origin string    // the machine that the model begins with
}

const (
	simUser     = "operator"
	simPassword = "canary-7f3a"
)

// newVCSim starts a vCenter of one cluster of three hosts, or an ESXi host.
func newVCSim(t *testing.T, esxi bool) *vcsim {
	t.Helper()
	model := simulator.VPX()
	if esxi {
		model = simulator.ESX()
	}
	model.Host, model.Machine, model.Autostart = 0, 1, false
	if esxi {
		model.Host = 1
	}
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	model.Service.RegisterEndpoints = true
	model.Service.TLS = new(tls.Config)
	sim := &vcsim{t: t, model: model}
	sim.turns.registry = sim.registry()
	model.Service.Listen = &url.URL{User: url.UserPassword(simUser, simPassword)}
	sim.server = model.Service.NewServer()
	t.Cleanup(func() {
		sim.turns.tasks.Wait()
		sim.server.Close()
		model.Remove()
	})
	sim.registry().AddHandler(agents{})
	for _, o := range sim.registry().All("VirtualMachine") {
		sim.origin = o.Entity().Name
	}
	sim.ca = filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: sim.server.Certificate().Raw}
	if err := os.WriteFile(sim.ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return sim
}

func (s *vcsim) registry() *simulator.Registry { return s.model.Map() }

// agents are the tools in all guests: a machine that is powered on has an address.
type agents struct{}

func (agents) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Agents", Value: "agents"}
}
func (agents) PutObject(*simulator.Context, mo.Reference)                    {}
func (agents) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}
func (agents) UpdateObject(ctx *simulator.Context, o mo.Reference, changes []types.PropertyChange) {
	vm, is := o.(*mo.VirtualMachine)
	if !is {
		return
	}
	for _, change := range changes {
		if change.Name != "runtime.powerState" {
			continue
		}
		vm.Guest.IpAddress = ""
		if change.Val == types.VirtualMachinePowerStatePoweredOn {
			var n int
			_, _ = fmt.Sscanf(vm.Self.Value, "vm-%d", &n)
			vm.Guest.IpAddress = fmt.Sprintf("10.0.%d.%d", n/250%250, n%250+1)
		}
	}
}

// config is how to reach the simulator.
func (s *vcsim) config() Config {
	c := NewConfig()
	c.URL = "https://" + s.server.URL.Host
	c.User, c.Password, c.CA = secret.New(simUser), secret.New(simPassword), s.ca
	return *c
}

// open opens a provider. wrap may be nil.
func (s *vcsim) open(wrap func(http.RoundTripper) http.RoundTripper) *Provider {
	s.t.Helper()
	env := providers.Environment{Now: time.Now, StateDir: s.t.TempDir()}
	if testing.Verbose() {
		env.Log = slog.New(slog.NewTextHandler(s.t.Output(), nil))
	}
	p, err := New("cloud-a", s.config(), env)
	if err != nil {
		s.t.Fatal(err)
	}
	p.session.wrap = func(inner http.RoundTripper) http.RoundTripper {
		inner = s.turns.wrap(inner)
		if wrap == nil {
			return inner
		}
		return wrap(inner)
	}
	return p
}

// template is the name of the machine that the model begins with.
func (s *vcsim) template() string { return s.origin }

// method finds which method of the API a request calls.
var method = regexp.MustCompile(`<Body[^>]*><(?:\w+:)?(\w+)`)

// callName names a request: the method of SOAP, or the verb and the path of REST, without identifiers.
func callName(req *http.Request) string {
	if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/sdk") {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		if found := method.FindSubmatch(body); found != nil {
			return string(found[1])
		}
	}
	return req.Method + " " + ids.ReplaceAllString(uploads.ReplaceAllString(req.URL.Path, "/nfc"), "/ID")
}

var (
	ids     = regexp.MustCompile(`/(id:)?[0-9a-f]{8}-[0-9a-f-]{27,}`)
	uploads = regexp.MustCompile(`/nfc/.*`)
)

// recorder counts calls.
type recorder struct {
	mu    sync.Mutex
	calls map[string]int
}

func (r *recorder) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		name := callName(req)
		r.mu.Lock()
		if r.calls == nil {
			r.calls = map[string]int{}
		}
		r.calls[name]++
		r.mu.Unlock()
		return inner.RoundTrip(req)
	})
}

func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
}

func (r *recorder) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, count := range r.calls {
		n += count
	}
	return n
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// admin runs something with a client of its own, whose context outlives the test's.
func (s *vcsim) admin(do func(ctx context.Context, c *client) error) {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	if s.own == nil {
		s.own = s.open(nil)
	}
	s.own.forget()
	if err := s.own.with(ctx, func(c *client) error { return do(ctx, c) }); err != nil {
		s.t.Error(err)
	}
}

// files are the files of muster's in the datastores.
func (s *vcsim) files() (found []string) {
	for _, o := range s.registry().All("Datastore") {
		dir := o.(*simulator.Datastore).Info.GetDatastoreInfo().Url
		_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(filepath.Base(path), "muster") {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// busy tells whether a recent task has not ended.
func (s *vcsim) busy(ctx context.Context, c *client, manager object) (bool, error) {
	recent, _ := manager.props["recentTask"].(types.ArrayOfManagedObjectReference)
	if len(recent.ManagedObjectReference) == 0 {
		return false, nil
	}
	list, err := c.look(ctx, recent.ManagedObjectReference, wanted("Task", "info.state"))
	for _, task := range list {
		if state := task.props["info.state"]; state == types.TaskInfoStateRunning || state == types.TaskInfoStateQueued {
			return true, err
		}
	}
	return false, err
}

// withPods fills in what the simulator wants of a question to Storage DRS and a vCenter does not: the datastore cluster
// once more.
func withPods(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if callName(req) == "RecommendDatastores" {
			body, _ := io.ReadAll(req.Body)
			pod := podElement.FindString(string(body))
			text := strings.Replace(string(body), "</podSelectionSpec>", "<initialVmConfig>"+pod+"</initialVmConfig></podSelectionSpec>", 1)
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
		return inner.RoundTrip(req)
	})
}

var podElement = regexp.MustCompile(`<storagePod[^/]*</storagePod>`)

// makePod makes a datastore cluster of one datastore.
func (p *Provider) makePod(ctx context.Context, c *client, store entry) error {
	folder := store.reference("parent")
	res, err := methods.CreateStoragePod(ctx, c, &types.CreateStoragePod{This: folder, Name: "pod"})
	if err != nil {
		return err
	}
	move, err := methods.MoveIntoFolder_Task(ctx, c, &types.MoveIntoFolder_Task{This: res.Returnval, List: []types.ManagedObjectReference{store.ref}})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, move.Returnval)
	}
	return err
}

// machine reads what a host's machine is made of.
func (s *vcsim) machine(p *Provider, instance providers.Instance) (found source) {
	s.admin(func(ctx context.Context, c *client) error {
		m, _, err := c.find(ctx, p, instance.Identity)
		if err == nil {
			found, err = c.readSource(ctx, m.ref)
		}
		return err
	})
	return found
}
