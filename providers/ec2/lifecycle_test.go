package ec2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// TestPolicyIsTheLeast makes every call that the driver has, and holds the policy to them: the cloud of all tests refuses
// what is not allowed, and this one finds what is allowed and never called.
func TestPolicyIsTheLeast(t *testing.T) {
	a := newAccount(t, ec2test.Options{FullZones: []string{"eu-test-1a"}})
	p := patient(a.open(t))
	image := func(s *Settings) { s.Image.ID, s.Image.Parameter = "", ec2test.Parameter }
	if err := providers.Check(t.Context(), p, []any{tiny(elastic), tiny(spot), tiny(image)}); err != nil {
		t.Fatal(err)
	}
	for _, req := range fleet() {
		mustCreate(t, p, req)
	}
	changed := patient(a.open(t, func(c *Config) { c.Allow.API = []string{"198.51.100.0/24"} }))
	placed := tiny(private)
	placed.Placement, placed.SubnetTags = placementSpread, nil
	stopped := mustCreate(t, changed, request("web-4", placed)) // the group is given other rules
	mustCreate(t, patient(a.open(t)), request("web-5", placed)) // the placement group is there
	if err := providers.Stop(t.Context(), p, stopped); err != nil {
		t.Fatal(err)
	}
	if err := providers.Start(t.Context(), p, stopped); err != nil {
		t.Fatal(err)
	}
	console, _ := providers.As[providers.Consoler](p)
	if err := console.Console(t.Context(), stopped, false, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{providers.TagCluster: cluster, providers.TagProvider: "cloud-a"}
	a.PlantVolume(tags)
	a.PlantInterface(tags)
	a.PlantSpotRequest(tags)
	list, err := p.List(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if err := p.Destroy(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	other := patient(a.open(t, func(c *Config) { c.VPC = ec2test.DefaultVPC }))
	if err := providers.Check(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	tagged := tiny(func(s *Settings) { s.SubnetTags = map[string]string{"tier": "hosts"} })
	_ = providers.Check(t.Context(), p, []any{tagged}) // looks for the default VPC
	if err := providers.Cleanup(t.Context(), p, cluster); err != nil {
		t.Fatal(err)
	}
	if left := a.leftovers(""); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if unused := lacking(allowed(t), called(a)); len(unused) > 0 {
		t.Errorf("allowed and never called: %v", unused)
	}
}

// TestPolicyNamesEveryCall holds the policy to the calls that the driver is able to make, whether a test makes them or not.
func TestPolicyNamesEveryCall(t *testing.T) {
	able := []string{"ssm:GetParameter"}
	for call := range reflect.TypeFor[calls]().Fields() {
		able = append(able, "ec2:"+call.Name)
	}
	if missing, more := lacking(able, allowed(t)), lacking(allowed(t), able); len(missing)+len(more) > 0 {
		t.Errorf("not allowed: %v; allowed and never called: %v", missing, more)
	}
}

// allowed are the actions that the policy allows.
func allowed(t *testing.T) []string {
	t.Helper()
	var doc struct {
		Statement []struct{ Action json.RawMessage }
	}
	if err := json.Unmarshal(policyJSON, &doc); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range doc.Statement {
		var one string
		var many []string
		if json.Unmarshal(s.Action, &one) == nil {
			many = []string{one}
		} else if err := json.Unmarshal(s.Action, &many); err != nil {
			t.Fatal(err)
		}
		all = append(all, many...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func called(a *account) []string {
	var all []string
	for _, c := range a.Calls() {
		if !strings.Contains(c.Action, ":") {
			c.Action = "ec2:" + c.Action
		}
		all = append(all, c.Action)
	}
	return all
}

// lacking are those of a that b lacks.
func lacking(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(each string) bool { return slices.Contains(b, each) })
}

func TestFullZoneIsPassedOver(t *testing.T) {
	a := newAccount(t, ec2test.Options{FullZones: []string{"eu-test-1a", "eu-test-1b"}})
	p := patient(a.open(t))
	for _, host := range []string{"web-1", "web-2", "web-3"} {
		mustCreate(t, p, request(host, tiny()))
		mustCreate(t, patient(a.open(t)), request(host, tiny()))
	}
	if n := a.kinds()["instance"]; n != 3 {
		t.Errorf("%d instances", n)
	}
	a.Change(func(o *ec2test.Options) { o.FullZones = append(o.FullZones, "eu-test-1c") })
	_, err := p.Create(t.Context(), request("web-4", tiny()))
	if !errors.Is(err, providers.ErrUnavailable) && !errors.Is(err, providers.ErrQuota) {
		t.Errorf("no zone has room: %v", err)
	}
	a.Change(func(o *ec2test.Options) { o.FullZones = nil })
	mustCreate(t, p, request("web-4", tiny()))
}

// TestEndIsTold says once why an instance ended by itself, and nothing of one that was ended.
func TestEndIsTold(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	var told bytes.Buffer
	p := a.open(t)
	p.log = slog.New(slog.NewTextHandler(&told, nil))
	failed, ended := mustCreate(t, p, request("web-1", tiny())), mustCreate(t, p, request("web-2", tiny()))
	a.Fail(failed.ID, "Client.VolumeLimitExceeded", "Volume limit exceeded")
	a.Terminate(ended.ID)
	for range 2 {
		if list, err := p.List(t.Context(), cluster); err != nil || len(list) != 0 {
			t.Errorf("listed %v: %v", list, err)
		}
	}
	if text := told.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "host=web-1") || !strings.Contains(text, "Volume limit exceeded") {
		t.Errorf("told: %s", text)
	}
}

// TestClusterPlacement keeps the hosts of a cluster placement group, which has one zone, together there.
func TestClusterPlacement(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	p := patient(a.open(t))
	close := tiny(func(s *Settings) { s.Placement = placementCluster })
	if err := providers.Check(t.Context(), p, []any{close, close, close}); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"web-1", "web-2", "web-3"} {
		mustCreate(t, p, request(host, close))
	}
	far := tiny(func(s *Settings) { s.Placement = placementSpread })
	if err := providers.Check(t.Context(), p, slices.Repeat([]any{far}, 21)); err != nil {
		t.Error(err)
	}
	if err := providers.Check(t.Context(), p, slices.Repeat([]any{far}, 22)); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("more hosts than a spread group takes: %v", err)
	}
}

func TestQuota(t *testing.T) {
	a := newAccount(t, ec2test.Options{InstanceQuota: 1, AddressQuota: 1})
	p := patient(a.open(t))
	first := mustCreate(t, p, request("web-1", tiny(elastic)))
	for _, s := range []*Settings{tiny(), tiny(elastic)} {
		if _, err := p.Create(t.Context(), request("web-2", s)); !errors.Is(err, providers.ErrQuota) || !strings.Contains(err.Error(), "ask Amazon") {
			t.Errorf("%v", err)
		}
	}
	if err := p.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, p, request("web-2", tiny(elastic)))
}

// A token that was used for another request is the same host all the same, and one whose host is long gone is passed over.
func TestTokenOfAnotherRequest(t *testing.T) {
	a := newAccount(t, ec2test.Options{Hidden: 30 * time.Millisecond, HideCalls: true})
	first := mustCreate(t, patient(a.open(t)), request("web-1", tiny()))
	a.dir = t.TempDir() // what was asked is forgotten
	changed := request("web-1", tiny(func(s *Settings) { s.HopLimit = 3 }))
	if again := mustCreate(t, patient(a.open(t)), changed); again.ID != first.ID {
		t.Errorf("%s beside %s", again.ID, first.ID)
	}
	p := patient(a.open(t))
	if err := p.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	a.Forget(first.ID)
	a.dir = t.TempDir()
	for _, req := range []providers.CreateRequest{request("web-1", tiny()), changed} {
		if again := mustCreate(t, patient(a.open(t)), req); again.ID == first.ID || a.kinds()["instance"] != 1 {
			t.Errorf("%s, of %v", again.ID, a.kinds())
		}
	}
}

func TestTagsThatWereTakenAwayAreWritten(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	p := patient(a.open(t))
	made := mustCreate(t, p, request("web-1", tiny()))
	a.Tag(made.ID, map[string]string{providers.TagHost: "", providers.TagGeneration: ""})
	if list, err := p.List(t.Context(), cluster); err != nil || len(list) != 0 {
		t.Errorf("listed %v: %v", list, err)
	}
	if again := mustCreate(t, p, request("web-1", tiny())); again.ID != made.ID {
		t.Errorf("%s beside %s", again.ID, made.ID)
	}
	if list, err := p.List(t.Context(), cluster); err != nil || len(list) != 1 {
		t.Errorf("listed %v: %v", list, err)
	}
	a.Tag(made.ID, map[string]string{providers.TagHost: "web-9"})
	if err := p.Destroy(t.Context(), made); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("destroy of what is another host's now: %v", err)
	}
}

func TestCleanup(t *testing.T) {
	a := newAccount(t, ec2test.Options{EndTime: 10 * time.Millisecond})
	p := patient(a.open(t))
	data := tiny(func(s *Settings) { s.Data = []DataVolume{{Device: "/dev/sdf", Volume: Volume{Size: 1 << 30}}} })
	made := mustCreate(t, p, request("web-1", data))
	if err := providers.Cleanup(t.Context(), p, cluster); !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "web-1") {
		t.Errorf("clean-up while a host lives: %v", err)
	}
	a.Detach(made.ID)
	if err := p.Destroy(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if got := a.kinds(); !maps.Equal(got, map[string]int{"volume": 1, "security-group": 1}) {
		t.Errorf("there are %v", got)
	}
	if err := providers.Cleanup(t.Context(), p, cluster); err != nil {
		t.Fatal(err)
	}
	if left := a.leftovers(""); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	mustCreate(t, p, request("web-1", data)) // everything is made again
}

// TestGroupOfAnother does not touch a security group that has the name of the cluster's and not its tags.
func TestGroupOfAnother(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	p := a.open(t)
	id := a.PlantGroup(p.owner(cluster).groupName("group"), ec2test.DefaultVPC, nil)
	if _, err := patient(p).Create(t.Context(), request("web-1", tiny())); !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), id) {
		t.Errorf("%v", err)
	}
	if err := providers.Cleanup(t.Context(), patient(p), cluster); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(a.Resources(), func(r ec2test.Resource) bool { return r.ID == id }) {
		t.Error("the group is gone")
	}
}

// Two providers of one account and region do not see each other's hosts.
func TestProvidersSideBySide(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	one, two := a.open(t), a.open(t)
	two.name, two.records.dir = "cloud-b", t.TempDir()
	x, y := mustCreate(t, one, request("web-1", tiny())), mustCreate(t, two, request("web-1", tiny()))
	if x.ID == y.ID {
		t.Fatalf("both have %s", x.ID)
	}
	if err := one.Destroy(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if err := patient(one).(interface {
		Cleanup(context.Context, string) error
	}).Cleanup(t.Context(), cluster); err != nil {
		t.Error(err)
	}
	if list, err := two.List(t.Context(), cluster); err != nil || len(list) != 1 || list[0].ID != y.ID {
		t.Errorf("listed %v: %v", list, err)
	}
}

func TestConsole(t *testing.T) {
	for _, kind := range []string{"t3.small", "t2.small"} {
		a := newAccount(t, ec2test.Options{})
		p := a.open(t)
		made := mustCreate(t, p, request("web-1", tiny(func(s *Settings) { s.Type = kind })))
		var text bytes.Buffer
		ctx, cancel := context.WithCancelCause(t.Context())
		err := p.Console(ctx, made, true, writer(func(b []byte) (int, error) {
			n, err := text.Write(b)
			if text.Len() > 0 {
				a.Terminate(made.ID) // and the console with it
			}
			return n, err
		}))
		cancel(nil)
		if err != nil || text.String() != "web-1: line 0\r\n" {
			t.Errorf("%s: %q, %v", kind, text.String(), err)
		}
		if err := p.Console(t.Context(), providers.Instance{ID: "i-0"}, false, &text); !errors.Is(err, providers.ErrNotFound) {
			t.Errorf("console of nobody: %v", err)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestUserDataLimit(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	p := a.open(t)
	req := request("web-1", tiny())
	req.UserData = bytes.Repeat([]byte("# a long comment\n"), 4<<10) // small when it is compressed
	mustCreate(t, p, req)
	req.Host = "web-2"
	req.UserData = make([]byte, 32<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(req.UserData)
	if _, err := p.Create(t.Context(), req); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "16384") {
		t.Errorf("%v", err)
	}
}

// TestStop follows an instance through a stop that takes a while, and a start before its end.
func TestStop(t *testing.T) {
	a := newAccount(t, ec2test.Options{BootTime: 30 * time.Millisecond, EndTime: 50 * time.Millisecond})
	once, p := a.open(t), patient(a.open(t))
	made := mustCreate(t, p, request("web-1", tiny()))
	if err := once.Stop(t.Context(), made); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("while it is pending: %v", err)
	}
	if err := providers.Stop(t.Context(), p, made); err != nil {
		t.Fatal(err)
	}
	list, err := once.List(t.Context(), cluster)
	if err != nil || len(list) != 1 || list[0].State != providers.StateStopped || len(list[0].Addresses) != 0 {
		t.Errorf("while it stops: %+v, %v", list, err)
	}
	if err := once.Start(t.Context(), made); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("started while it stops: %v", err)
	}
	if err := errors.Join(once.Stop(t.Context(), made), providers.Start(t.Context(), p, made)); err != nil {
		t.Fatal(err)
	}
	if err := providers.Stop(t.Context(), p, made); err != nil {
		t.Fatal(err)
	}
	a.Terminate(made.ID)
	if err := once.Stop(t.Context(), made); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("while it ends: %v", err)
	}
}

// TestSpotIsNotStopped asks EC2 too, which services that do not show what an instance is leave it to.
func TestSpotIsNotStopped(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	p := a.open(t)
	made := mustCreate(t, patient(p), request("web-1", tiny(spot)))
	err := p.Stop(t.Context(), made)
	if !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "`spot: false`") {
		t.Errorf("%v", err)
	}
	if slices.Contains(called(a), "ec2:StopInstances") {
		t.Error("asked EC2 for what it refuses")
	}
	c, err := p.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = call(t.Context(), p, c.ec2.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{made.ID}})
	if !errors.Is(err, providers.ErrInvalid) || !hasCode(err, codeUnsupported) {
		t.Errorf("EC2 says %v", err)
	}
	_, err = call(t.Context(), p, c.ec2.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{made.ID}, Force: aws.Bool(true)})
	if !errors.Is(err, providers.ErrInvalid) || hasCode(err, codeUnsupported) {
		t.Errorf("the guest is not asked, and EC2 says %v", err)
	}
}
