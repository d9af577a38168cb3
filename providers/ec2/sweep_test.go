package ec2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// process is a run of muster that ends before or after its nth call to the cloud.
type process struct {
	*Provider
	ctx  context.Context
	kill context.CancelCauseFunc
	at   int  // 0: never
	post bool // after the call instead of before it

	mu    sync.Mutex
	calls int
}

func (a *account) process(t *testing.T, at int, post bool) *process {
	ctx, kill := context.WithCancelCause(t.Context())
	t.Cleanup(func() { kill(nil) })
	p := &process{Provider: a.open(t), ctx: ctx, kill: kill, at: at, post: post}
	p.http = p
	return p
}

// Do sends a request, unless the process ends first. What it would have been answered is lost.
func (p *process) Do(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.calls++
	now := p.calls == p.at
	p.mu.Unlock()
	if now && !p.post {
		p.kill(errCrash)
		return nil, errCrash
	}
	answer, err := http.DefaultClient.Do(req)
	if now {
		p.kill(errCrash)
		if err == nil {
			_ = answer.Body.Close()
		}
		return nil, errCrash
	}
	return answer, err
}

// stack is the provider as muster uses it.
func (p *process) stack() providers.Provider {
	return providers.Retry(p.Provider, providers.RetryPolicy{Initial: 2 * time.Millisecond, Max: 10 * time.Millisecond, Elapsed: time.Minute},
		slog.New(slog.DiscardHandler))
}

// fleet is what the sweeps make: hosts of every kind.
func fleet() []providers.CreateRequest {
	placed := tiny(elastic)
	placed.Placement = placementSpread
	return []providers.CreateRequest{request("web-1", placed), request("web-2", tiny()), request("web-3", tiny(spot))}
}

// whole is everything that a fleet is.
var whole = map[string]int{
	"instance": 3, "volume": 3, "network-interface": 3, "spot-instances-request": 1, "elastic-ip": 1, "security-group": 1,
	"placement-group": 1,
}

// up makes the fleet, as far as the process comes.
func (p *process) up() error {
	for _, req := range fleet() {
		if _, err := p.stack().Create(p.ctx, req); err != nil {
			return err
		}
	}
	return nil
}

// down ends the fleet as muster does: what is listed, and then what was asked for and is not listed, which is asked for
// once more.
func (p *process) down() error {
	s := p.stack()
	list, err := s.List(p.ctx, cluster)
	if err != nil {
		return err
	}
	for _, req := range fleet() {
		i := slices.IndexFunc(list, func(i providers.Instance) bool { return i.Identity == req.Identity })
		if i < 0 {
			made, err := s.Create(p.ctx, req)
			if err != nil {
				return err
			}
			list, i = append(list, made), len(list)
		}
		if err := s.Destroy(p.ctx, list[i]); err != nil {
			return err
		}
	}
	return providers.Cleanup(p.ctx, s, cluster)
}

// tempers are accounts in which the sweeps run.
var tempers = map[string]ec2test.Options{
	"Prompt": {BootTime: time.Millisecond, EndTime: time.Millisecond},
	"Late":   {BootTime: time.Millisecond, EndTime: time.Millisecond, Hidden: 25 * time.Millisecond, HideCalls: true},
}

// long is true where there is time for every call and every temper: `make lab-ec2`.
var long = os.Getenv("MUSTER_LONG") != ""

// sweep is a process that ends before or after one of its calls, and what has to be true then.
type sweep struct {
	before   func(*process) error // what went well before; may be nil
	crashing func(*process) error
	then     func(t *testing.T, a *account) // what is left is ended and looked at after that
}

// TestEveryCrashIsResumed ends `up` before and after every call, and runs it again: nothing is doubled, and a third run
// changes nothing.
func TestEveryCrashIsResumed(t *testing.T) {
	everywhere(t, sweep{crashing: (*process).up, then: func(t *testing.T, a *account) {
		resume(t, a)
		before := writes(a)
		if err := a.process(t, 0, false).up(); err != nil {
			t.Fatal(err)
		}
		if after := writes(a); after != before {
			t.Errorf("a run that finds everything in place made %d changes", after-before)
		}
	}})
}

// TestEveryCrashIsUndone ends `up` before and after every call, and runs `down`.
func TestEveryCrashIsUndone(t *testing.T) {
	everywhere(t, sweep{crashing: (*process).up, then: func(*testing.T, *account) {}})
}

// TestEveryCrashOfDownIsResumed ends `down` before and after every call, and runs it again.
func TestEveryCrashOfDownIsResumed(t *testing.T) {
	everywhere(t, sweep{before: (*process).up, crashing: (*process).down, then: func(*testing.T, *account) {}})
}

// TestNothingIsDoubledWithoutRecords loses the driver's files at every crash: what EC2 shows is enough.
func TestNothingIsDoubledWithoutRecords(t *testing.T) {
	sweep{crashing: (*process).up, then: func(t *testing.T, a *account) {
		if err := os.RemoveAll(a.dir); err != nil {
			t.Fatal(err)
		}
		resume(t, a)
	}}.run(t, tempers["Prompt"])
}

// resume makes the fleet whole.
func resume(t *testing.T, a *account) {
	t.Helper()
	if err := a.process(t, 0, false).up(); err != nil {
		t.Fatal(err)
	}
	if got := a.kinds(); !maps.Equal(got, whole) {
		t.Errorf("there are %v, want %v", got, whole)
	}
}

// everywhere sweeps in accounts of every temper; in the short run, of one.
func everywhere(t *testing.T, s sweep) {
	for name, options := range tempers {
		if name == "Prompt" || long {
			t.Run(name, func(t *testing.T) { s.run(t, options) })
		}
	}
}

// run goes through the sweep before and after every call; in the short run, of every third call, in turn before and after.
func (s sweep) run(t *testing.T, o ec2test.Options) {
	calls, stride := s.calls(t, o), 3
	if long {
		stride = 1
	}
	if calls < 15 {
		t.Errorf("there are only %d calls to crash at", calls)
	}
	for at := 1; at <= calls; at += stride {
		for _, post := range []bool{false, true} {
			if !long && post != (at%2 == 0) {
				continue
			}
			t.Run(fmt.Sprintf("%d%s", at, word(post)), func(t *testing.T) {
				t.Parallel()
				a := newAccount(t, o)
				foreign := strangers(t, a)
				s.prepare(t, a)
				if err := s.crashing(a.process(t, at, post)); err != nil && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				s.then(t, a)
				finish(t, a, foreign)
			})
		}
	}
	t.Logf("%d calls", calls)
}

func (s sweep) prepare(t *testing.T, a *account) {
	t.Helper()
	if s.before == nil {
		return
	}
	if err := s.before(a.process(t, 0, false)); err != nil {
		t.Fatal(err)
	}
}

// calls counts the calls of what is to crash.
func (s sweep) calls(t *testing.T, o ec2test.Options) int {
	t.Helper()
	a := newAccount(t, o)
	s.prepare(t, a)
	p := a.process(t, 0, false)
	if err := s.crashing(p); err != nil {
		t.Fatal(err)
	}
	return p.calls
}

func word(post bool) string {
	if post {
		return "After"
	}
	return "Before"
}

// finish ends everything and looks whether anything is left, and whether strangers' things are as they were.
func finish(t *testing.T, a *account, foreign func() []ec2test.Resource) {
	t.Helper()
	before := foreign()
	if err := a.process(t, 0, false).down(); err != nil {
		t.Fatal(err)
	}
	if left := a.leftovers(""); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if after := foreign(); len(after) != 6 || !slices.EqualFunc(before, after, func(x, y ec2test.Resource) bool {
		return x.ID == y.ID && x.State == y.State && maps.Equal(x.Tags, y.Tags)
	}) {
		t.Errorf("strangers' things were changed:\n%v\n%v", before, after)
	}
}

// strangers are things of others in the account, some of which look as if they were muster's.
func strangers(t *testing.T, a *account) func() []ec2test.Resource {
	t.Helper()
	other := providers.Identity{Cluster: "11111111-0f43-4a53-9f36-25c3d5a0a001", Host: "web-1", Generation: 1}.Tags()
	ids := []string{
		a.Plant(map[string]string{"team": "billing"}), a.Plant(map[string]string{providers.TagHost: "web-1"}),
		a.PlantVolume(nil), a.PlantInterface(other), a.PlantAddress(nil), a.PlantGroup("muster", ec2test.DefaultVPC, nil),
	}
	return func() []ec2test.Resource {
		return slices.DeleteFunc(a.Resources(), func(r ec2test.Resource) bool { return !slices.Contains(ids, r.ID) })
	}
}

func writes(a *account) int {
	n := 0
	for _, c := range a.Calls() {
		if c.Wrote {
			n++
		}
	}
	return n
}
