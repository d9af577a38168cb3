package fake_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
	"github.com/musterhq/muster/providers/providertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs the suite on a cloud of every temper, with client tokens and without, in memory and in a file.
func TestConformance(t *testing.T) {
	const late = 15 * time.Millisecond
	for name, faults := range map[string]fake.Faults{
		"NoFaults":    {},
		"TwoStepTags": {TwoStepTags: true},
		"LateListing": {LateListing: late},
		"LostAnswers": {LoseAnswerEvery: 1, TwoStepTags: true},
		"LateAndLost": {LateListing: late, LoseAnswerEvery: 2},
		"TagsFail":    {TwoStepTags: true, TagFailureEvery: 2},
		"Throttled":   {ThrottleEvery: 5, UnavailableEvery: 7},
		"SlowBoot":    {BootDelay: late, CreateLatency: time.Millisecond},
		"Everything":  {ThrottleEvery: 7, UnavailableEvery: 11, LoseAnswerEvery: 2, TwoStepTags: true, TagFailureEvery: 3, LateListing: late},
	} {
		for _, tokens := range []bool{true, false} {
			for _, inFile := range []bool{false, true} {
				t.Run(name+word(tokens, "Tokens")+word(inFile, "File"), func(t *testing.T) {
					t.Parallel()
					providertest.Run(t, factory(fake.Config{ClientTokens: tokens, Faults: faults}, inFile))
				})
			}
		}
	}
}

func word(is bool, what string) string {
	if is {
		return "With" + what
	}
	return "Without" + what
}

func factory(config fake.Config, inFile bool) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		if inFile {
			config.State = filepath.Join(t.TempDir(), "cloud.json")
		}
		p := fake.New(config, providers.Environment{})
		return providertest.Fixture{
			Provider: patient(p),
			Reopen: func(*testing.T) providers.Provider {
				if inFile {
					return patient(fake.New(config, providers.Environment{}))
				}
				return patient(p.WithInterrupt(nil))
			},
			Stop: func(ctx context.Context, instance providers.Instance) error {
				return p.SetState(ctx, instance.ID, providers.StateStopped)
			},
			Plant:     func(t *testing.T, tags map[string]string) func() bool { return plant(t, p, tags) },
			Leftovers: func(t *testing.T, cluster string) []string { return leftovers(t, p, cluster) },
			Crash:     func(t *testing.T, req providers.CreateRequest) { crash(t, p, req) },
			Settle:    config.Faults.LateListing,
		}
	}
}

// patient repeats what the cloud refuses.
func patient(p providers.Provider) providers.Provider {
	policy := providers.RetryPolicy{Initial: time.Millisecond, Max: 2 * time.Millisecond, Elapsed: time.Minute}
	return providers.Retry(p, policy, slog.New(slog.DiscardHandler))
}

var errCrash = errors.New("crash")

// crash makes a server and stops there.
func crash(t *testing.T, p *fake.Provider, req providers.CreateRequest) {
	t.Helper()
	crashing := patient(p.WithInterrupt(func(string) error { return errCrash }))
	if _, err := crashing.Create(t.Context(), req); !errors.Is(err, errCrash) {
		t.Fatalf("create with a crash: %v", err)
	}
}

func plant(t *testing.T, p *fake.Provider, tags map[string]string) (untouched func() bool) {
	t.Helper()
	id, err := p.Plant(t.Context(), "theirs", tags)
	if err != nil {
		t.Fatal(err)
	}
	return func() bool {
		return slices.ContainsFunc(servers(t, p), func(s fake.Server) bool {
			return s.ID == id && maps.Equal(s.Tags, tags) && s.Image == "theirs"
		})
	}
}

func servers(t *testing.T, p *fake.Provider) []fake.Server {
	t.Helper()
	list, err := p.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func leftovers(t *testing.T, p *fake.Provider, cluster string) []string {
	t.Helper()
	var left []string
	for _, s := range servers(t, p) {
		if s.Tags[providers.TagCluster] == cluster || strings.Contains(s.Name, cluster) {
			left = append(left, s.ID)
		}
	}
	return left
}

var web1 = providers.CreateRequest{
	Identity: providers.Identity{Cluster: "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001", Host: "web-1", Generation: 1},
	UserData: []byte("#cloud-config\n"),
}

func TestErrors(t *testing.T) {
	open := func(faults fake.Faults) *fake.Provider {
		return fake.New(fake.Config{ClientTokens: true, Faults: faults}, providers.Environment{})
	}
	for _, tt := range []struct {
		name string
		call func() error
		want error
	}{
		{"quota", func() error {
			p := open(fake.Faults{Quota: 1})
			if _, err := p.Create(t.Context(), web1); err != nil {
				return err
			}
			second := web1
			second.Host = "web-2"
			_, err := p.Create(t.Context(), second)
			return err
		}, providers.ErrQuota},
		{"unauthorized", func() error {
			_, err := open(fake.Faults{Unauthorized: true}).List(t.Context(), web1.Cluster)
			return err
		}, providers.ErrAuth},
		{"missing image", func() error {
			req := web1
			req.Settings = &fake.Settings{Image: "missing"}
			_, err := open(fake.Faults{}).Create(t.Context(), req)
			return err
		}, providers.ErrNotFound},
		{"missing image seen before", func() error {
			return open(fake.Faults{}).Check(t.Context(), []any{&fake.Settings{Image: "muster"}, &fake.Settings{Image: "missing"}})
		}, providers.ErrNotFound},
		{"token with other user-data", func() error {
			p := open(fake.Faults{})
			if _, err := p.Create(t.Context(), web1); err != nil {
				return err
			}
			other := web1
			other.UserData = []byte("other")
			_, err := p.Create(t.Context(), other)
			return err
		}, providers.ErrInvalid},
		{"start of a broken server", func() error {
			p := open(fake.Faults{})
			made, err := p.Create(t.Context(), web1)
			if err != nil {
				return err
			}
			if err := p.SetState(t.Context(), made.ID, providers.StateFailed); err != nil {
				return err
			}
			return p.Start(t.Context(), made)
		}, providers.ErrConflict},
		{"throttled", func() error {
			_, err := open(fake.Faults{ThrottleEvery: 1}).Create(t.Context(), web1)
			return err
		}, providers.ErrThrottled},
		{"lost answer", func() error {
			_, err := open(fake.Faults{LoseAnswerEvery: 1}).Create(t.Context(), web1)
			return err
		}, providers.ErrUnavailable},
	} {
		if err := tt.call(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestStateFileIsShared lets a second process see what a first one did, calls included.
func TestStateFileIsShared(t *testing.T) {
	config := fake.Config{ClientTokens: true, State: filepath.Join("state", "cloud.json")}
	env := providers.Environment{Dir: t.TempDir()}
	made, err := fake.New(config, env).Create(t.Context(), web1)
	if err != nil {
		t.Fatal(err)
	}
	second := fake.New(config, env)
	list, err := second.List(t.Context(), web1.Cluster)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || !list[0].Created.Equal(made.Created) {
		t.Fatalf("listed %v, %v; want %v", list, err, made)
	}
	if again, err := second.Create(t.Context(), web1); err != nil || again.ID != made.ID {
		t.Errorf("second create: %v, %v", again, err)
	}
	calls, err := second.Calls(t.Context())
	if err != nil || len(calls) != 2 || !calls[0].Changed || calls[1].Changed {
		t.Errorf("calls %+v, %v; want one that changed something and one that did not", calls, err)
	}
}

// TestReadsAreNoCalls is what "zero changing calls" rests on.
func TestReadsAreNoCalls(t *testing.T) {
	p := fake.New(*fake.NewConfig(), providers.Environment{})
	if _, err := p.List(t.Context(), web1.Cluster); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Check(t.Context(), []any{nil}), p.Cleanup(t.Context(), web1.Cluster)); err != nil {
		t.Fatal(err)
	}
	if calls, err := p.Calls(t.Context()); err != nil || len(calls) != 0 {
		t.Errorf("calls %v, %v", calls, err)
	}
}

// TestBoot follows a server through a listing that is a minute late and a boot of two.
func TestBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := fake.Config{ClientTokens: true, Faults: fake.Faults{
			LateListing: time.Minute, BootDelay: 2 * time.Minute, CreateLatency: 3 * time.Second,
		}}
		p := fake.New(config, providers.Environment{Now: time.Now})
		began := time.Now()
		made, err := p.Create(t.Context(), web1)
		if err != nil || made.State != providers.StatePending || len(made.Addresses) != 0 {
			t.Fatalf("created %+v, %v", made, err)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("create took %v", d)
		}
		for _, want := range []struct {
			after     time.Duration
			listed    int
			addresses int
		}{{0, 0, 0}, {59 * time.Second, 0, 0}, {time.Second, 1, 0}, {time.Minute, 1, 1}} {
			<-time.After(want.after)
			list, err := p.List(t.Context(), web1.Cluster)
			if err != nil || len(list) != want.listed || want.listed > 0 && len(list[0].Addresses) != want.addresses {
				t.Errorf("after %v: %v, %v", time.Since(began), list, err)
			}
		}
	})
}

// TestDuplicatesConverge makes what a cloud without tokens and with a late list may come to: a create crashed, its
// repetition cannot see the first server, and later both are there.
func TestDuplicatesConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fake.New(fake.Config{Faults: fake.Faults{LateListing: time.Minute}}, providers.Environment{Now: time.Now})
		crash(t, p, web1)
		crash(t, p, web1)
		first := servers(t, p)[0].ID
		made, err := p.Create(t.Context(), web1)
		if err != nil || made.ID != first {
			t.Errorf("adopted %s, %v; want %s", made.ID, err, first)
		}
		<-time.After(time.Minute)
		if _, err := p.Create(t.Context(), web1); err != nil {
			t.Fatal(err)
		}
		if left := servers(t, p); len(left) != 1 || left[0].ID != first {
			t.Errorf("servers %+v, want %s alone", left, first)
		}
	})
}

func TestValidate(t *testing.T) {
	config := fake.NewConfig()
	if problems := append(config.Validate(), fake.NewSettings().Validate()...); len(problems) != 0 {
		t.Errorf("the defaults are wrong: %v", problems)
	}
	config.Faults.Quota, config.Faults.TagFailureEvery = -1, 1
	var fields []string
	for _, p := range append(config.Validate(), new(fake.Settings).Validate()...) {
		fields = append(fields, p.Field)
	}
	if want := []string{"faults.quota", "faults.tag_failure_every", "image", "size"}; !slices.Equal(fields, want) {
		t.Errorf("problems in %v, want %v", fields, want)
	}
}

func TestDriverOpens(t *testing.T) {
	d := fake.Driver()
	env := providers.Environment{StateDir: t.TempDir()}
	open := func(name string) providers.Provider {
		p, err := d.Open(name, d.NewConfig(), env)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if _, err := open("cloud-a").Create(t.Context(), providers.CreateRequest{Identity: web1.Identity, Settings: d.NewSettings()}); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]int{"cloud-a": 1, "cloud-b": 0} {
		if list, err := open(name).List(t.Context(), web1.Cluster); err != nil || len(list) != want {
			t.Errorf("%s lists %v, %v; want %d", name, list, err, want)
		}
	}
	if _, err := d.Open("cloud-a", new(int), env); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("open with another driver's configuration: %v", err)
	}
}

// BenchmarkListInFile lists a cloud of 100 servers, which other processes may change meanwhile.
func BenchmarkListInFile(b *testing.B) {
	p := fake.New(fake.Config{ClientTokens: true, State: filepath.Join(b.TempDir(), "cloud.json")}, providers.Environment{})
	req := web1
	for req.Generation = range 100 {
		req.Generation++
		if _, err := p.Create(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.List(b.Context(), req.Cluster); err != nil {
			b.Fatal(err)
		}
	}
}
