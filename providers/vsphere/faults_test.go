package vsphere

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

// flaky is a network and a proxy that misbehave: of a hundred calls some are answered with a status instead of being made,
// and of a hundred changing calls some are made and their answer is lost.
type flaky struct {
	status         int
	refuses, loses int

	mu   sync.Mutex
	dice *rand.Rand
}

// throw is a number below 100, the same sequence in every run.
func (f *flaky) throw() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dice == nil {
		f.dice = rand.New(rand.NewPCG(1, 2))
	}
	return f.dice.IntN(100)
}

func (f *flaky) wrap(inner http.RoundTripper) http.RoundTripper {
	return statuses{roundTrip(func(req *http.Request) (*http.Response, error) {
		name := callName(req)
		if f.throw() < f.refuses {
			return &http.Response{
				StatusCode: f.status, Status: http.StatusText(f.status), Header: http.Header{"Content-Type": {"text/html"}},
				Body: io.NopCloser(strings.NewReader("<html>no</html>")), Request: req,
			}, nil
		}
		res, err := inner.RoundTrip(req)
		if err == nil && changes(name) && f.throw() < f.loses {
			_ = res.Body.Close()
			return nil, io.ErrUnexpectedEOF
		}
		return res, err
	})}
}

// TestLostClone loses the answer of the call that makes the machine. The task goes on; the next create finds its machine.
func TestLostClone(t *testing.T) {
	sim := newVCSim(t, false)
	lost := false
	p := sim.open(func(inner http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			name := callName(req)
			res, err := inner.RoundTrip(req)
			if err == nil && name == "CloneVM_Task" && !lost {
				lost = true
				_ = res.Body.Close()
				return nil, io.ErrUnexpectedEOF
			}
			return res, err
		})
	})
	if _, err := p.Create(t.Context(), request("web-1", sim.settings())); !errors.Is(err, providers.ErrUnavailable) {
		t.Fatalf("the first try: %v", err)
	}
	made, err := patient(p).Create(t.Context(), request("web-1", sim.settings()))
	if err != nil || made.State != providers.StateRunning {
		t.Fatalf("the second: %+v, %v", made, err)
	}
	sim.wantHosts(p, "web-1")
}

// TestHiddenMachine hides a machine from the search by UUID. Its name says that it is there.
func TestHiddenMachine(t *testing.T) {
	sim := newVCSim(t, false)
	first, err := sim.open(nil).Create(t.Context(), request("web-1", sim.settings()))
	if err != nil {
		t.Fatal(err)
	}
	blind := sim.open(func(inner http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			if callName(req) == "FindAllByUuid" {
				body, _ := io.ReadAll(req.Body)
				text := strings.Replace(string(body), "<uuid>", "<uuid>00", 1)
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			}
			return inner.RoundTrip(req)
		})
	})
	again, err := blind.Create(t.Context(), request("web-1", sim.settings()))
	if err != nil || again.ID != first.ID {
		t.Errorf("created %+v, %v; want %+v", again, err, first)
	}
	sim.wantHosts(blind, "web-1")
}

// TestForeignName meets a machine of somebody else that has a host's name, and one that has its UUID.
func TestForeignName(t *testing.T) {
	sim := newVCSim(t, false)
	p := sim.open(nil)
	made, err := p.Create(t.Context(), request("web-1", sim.settings()))
	if err != nil {
		t.Fatal(err)
	}
	other, err := New("cloud-b", sim.config(), providers.Environment{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Create(t.Context(), request("web-1", sim.settings())); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("the same UUID at another provider: %v", err)
	}
	if list, err := other.List(t.Context(), testCluster); err != nil || len(list) != 0 {
		t.Errorf("another provider lists %v, %v", list, err)
	}
	if err := other.Destroy(t.Context(), made); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("another provider destroys: %v", err)
	}
	sim.admin(func(ctx context.Context, c *client) error {
		m, _, err := c.find(ctx, p, made.Identity)
		if err != nil {
			return err
		}
		return p.reconfigure(ctx, c, m.ref, types.VirtualMachineConfigSpec{InstanceUuid: "52a1c0de-0000-4000-8000-000000000001"})
	})
	if _, err := p.Create(t.Context(), request("web-1", sim.settings())); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("a foreign machine of the host's name: %v", err)
	}
	if err := p.Cleanup(t.Context(), testCluster); err != nil {
		t.Error(err)
	}
	if list := sim.registry().All("VirtualMachine"); len(list) != 2 {
		t.Errorf("%d machines, want the template and the foreign one", len(list))
	}
}

// TestFaultClasses answers CloneVM_Task with the server's faults.
func TestFaultClasses(t *testing.T) {
	sim := newVCSim(t, false)
	for name, each := range map[string]struct {
		fault types.BaseMethodFault
		want  error
	}{
		"no permission":  {&types.NoPermission{PrivilegeId: "VirtualMachine.Inventory.CreateFromExisting"}, providers.ErrAuth},
		"license":        {&types.RestrictedVersion{}, providers.ErrAuth},
		"resources":      {&types.InsufficientCpuResourcesFault{}, providers.ErrQuota},
		"disk space":     {&types.NoDiskSpace{}, providers.ErrQuota},
		"licenses":       {&types.NotEnoughLicenses{}, providers.ErrQuota},
		"gone":           {&types.ManagedObjectNotFound{}, providers.ErrNotFound},
		"in use":         {&types.ResourceInUse{}, providers.ErrUnavailable},
		"busy":           {&types.TaskInProgress{}, providers.ErrUnavailable},
		"host is silent": {&types.HostCommunication{}, providers.ErrUnavailable},
		"argument":       {&types.InvalidArgument{InvalidProperty: "spec"}, providers.ErrInvalid},
		"device":         {&types.InvalidDeviceSpec{}, providers.ErrInvalid},
		"state":          {&types.InvalidState{}, providers.ErrConflict},
		"unknown":        {&types.SystemErrorFault{Reason: "broken"}, nil},
	} {
		sim.model.Service.ClearFaultRules()
		sim.model.Service.AddFaultRule(&simulator.FaultInjectionRule{
			MethodName: "CloneVM_Task", ObjectType: "*", ObjectName: "*", Probability: 1, Enabled: true,
			FaultType: simulator.FaultTypeCustom, Fault: each.fault,
		})
		_, err := sim.open(nil).Create(t.Context(), request("web-1", sim.settings()))
		if err == nil || providers.Class(err) != providers.Class(errOr(each.want, errors.New("none"))) {
			t.Errorf("%s: class %q of %v, want %v", name, providers.Class(err), err, each.want)
		}
		if err != nil && !strings.Contains(err.Error(), faultName(each.fault)) {
			t.Errorf("%s: %v does not name the fault", name, err)
		}
	}
	sim.model.Service.ClearFaultRules()
	sim.wantHosts(sim.open(nil))
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// TestLostSession ends the session behind the driver's back, in the middle of many calls. They log in again, once.
func TestLostSession(t *testing.T) {
	for name, esxi := range map[string]bool{"vCenter": false, "ESXi": true} {
		t.Run(name, func(t *testing.T) {
			sim := newVCSim(t, esxi)
			calls := &recorder{}
			p := sim.open(calls.wrap)
			if _, err := p.Create(t.Context(), request("web-1", sim.settings())); err != nil {
				t.Fatal(err)
			}
			sim.endSession(p)
			calls.reset()
			var group sync.WaitGroup
			for _, host := range []string{"web-2", "web-3", "web-4", "web-5"} {
				group.Go(func() {
					if _, err := p.Create(t.Context(), request(host, sim.settings())); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			sim.wantHosts(p, "web-1", "web-2", "web-3", "web-4", "web-5")
			if calls.calls["Login"] != 1 {
				t.Errorf("%d logins, want one", calls.calls["Login"])
			}
			sim.endSession(p)
			calls.reset()
			if list, err := p.List(t.Context(), testCluster); err != nil || len(list) != 5 {
				t.Errorf("a list without session: %d hosts, %v", len(list), err)
			}
			if calls.calls["Login"] != 1 {
				t.Errorf("%d logins for a list, want one", calls.calls["Login"])
			}
		})
	}
}

// endSession ends a provider's session as an administrator does.
func (s *vcsim) endSession(p *Provider) {
	key, err := p.session.client.sessionKey(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.admin(func(ctx context.Context, c *client) error {
		_, err := methods.TerminateSession(ctx, c, &types.TerminateSession{This: *c.ServiceContent.SessionManager, SessionId: []string{key}})
		return err
	})
}

// TestLogin refuses a wrong password and a certificate that nobody vouches for, and shows no secret.
func TestLogin(t *testing.T) {
	sim := newVCSim(t, false)
	good := sim.config()
	wrong, unknown, pinned, other := good, good, good, good
	wrong.Password = secret.New("another-canary")
	unknown.CA = ""
	pinned.CA, pinned.Thumbprint = "", sim.server.CertificateInfo().ThumbprintSHA256
	other.CA, other.Thumbprint = "", "00"+strings.Repeat(":00", 31)
	for name, each := range map[string]struct {
		config Config
		want   error
		says   string
	}{
		"right":               {good, nil, ""},
		"wrong password":      {wrong, providers.ErrAuth, "InvalidLogin"},
		"unknown certificate": {unknown, providers.ErrAuth, "thumbprint: " + sim.server.CertificateInfo().ThumbprintSHA256},
		"pinned certificate":  {pinned, nil, ""},
		"other certificate":   {other, providers.ErrAuth, "thumbprint does not match"},
	} {
		p, err := New("cloud-a", each.config, providers.Environment{StateDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Check(t.Context(), nil)
		if !errors.Is(err, each.want) || each.want != nil && !strings.Contains(err.Error(), each.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, each.want, each.says)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}

// TestTaskForgotten loses sight of a task.
func TestTaskForgotten(t *testing.T) {
	sim := newVCSim(t, false)
	p := sim.open(nil)
	err := p.with(t.Context(), func(c *client) error {
		_, err := p.tasks.wait(t.Context(), c, types.ManagedObjectReference{Type: "Task", Value: "task-none"})
		return err
	})
	if !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("a task that is not there: %v", err)
	}
	if len(p.tasks.waiting) != 0 || !slices.Equal(p.rules.list("x"), nil) {
		t.Error("somebody waits still")
	}
}
