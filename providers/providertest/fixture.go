// Package providertest is the conformance suite of providers: what providers.Provider promises, as tests that every
// driver passes, the fake ones too.
//
// A driver's test calls Run with a Factory. The suite uses nothing but the contract and the hooks of a Fixture; a hook
// that a driver cannot offer is left nil, and the tests that need it are skipped by name. The suite knows no driver.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
)

// Factory makes a provider over an account, a directory or whatever it has, in which nothing is. It registers its own
// cleaning up with t.Cleanup.
type Factory func(t *testing.T) Fixture

// Fixture is a provider under test and what the suite may do behind its back.
type Fixture struct {
	Provider providers.Provider
	Settings any // for every create, nil for the defaults
	// Reopen makes another provider over the same account, as a second process would. nil: none can be made.
	Reopen func(t *testing.T) providers.Provider
	// Stop powers an instance off as somebody at the console would. nil: the provider knows no stopped instances.
	Stop func(ctx context.Context, instance providers.Instance) error
	// Unstoppable is that hosts with Settings cannot be stopped: providers.Stopper says so with ErrInvalid.
	Unstoppable bool
	// Plant makes something that looks like an instance, with these tags and none of muster's names, and tells how to
	// see whether it is still there, as it was. nil: the provider has no instances that others make.
	Plant func(t *testing.T, tags map[string]string) (untouched func() bool)
	// Crash runs a create that ends, without answering, between making something and tagging it. nil: there is no such
	// moment.
	Crash func(t *testing.T, req providers.CreateRequest)
	// CrashUpload runs an upload that ends, without answering, before the image counts as uploaded. nil: there is no such
	// moment.
	CrashUpload func(t *testing.T, image providers.Image)
	// Leftovers names everything at the provider that belongs to the cluster, half-made things included.
	Leftovers func(t *testing.T, cluster string) []string
	// Errors are calls that fail, with the class that they must have.
	Errors []ErrorCase
	// Settle is how long the provider's List may be behind. It is zero where List is always right.
	Settle time.Duration
	// Patience is how long an address may take; zero means ten seconds.
	Patience time.Duration
}

// ErrorCase is a call that fails.
type ErrorCase struct {
	Name string
	Want error // one of the classes in providers
	Call func(t *testing.T) error
}

// suite is one test's fixture and cluster.
type suite struct {
	Fixture
	t       *testing.T
	cluster string
}

func newSuite(t *testing.T, factory Factory) *suite {
	t.Helper()
	s := &suite{Fixture: factory(t), t: t, cluster: uuid.NewString()}
	if s.Patience == 0 {
		s.Patience = 10 * time.Second
	}
	return s
}

// request asks for a host of the suite's cluster.
func (s *suite) request(host string, generation int) providers.CreateRequest {
	return providers.CreateRequest{
		Identity: providers.Identity{Cluster: s.cluster, Host: host, Generation: generation},
		UserData: fmt.Appendf(nil, "#cloud-config\nhostname: %s\n", host),
		Settings: s.Settings,
	}
}

// create makes a host, which must succeed.
func (s *suite) create(host string, generation int) providers.Instance {
	s.t.Helper()
	instance, err := s.Provider.Create(s.t.Context(), s.request(host, generation))
	if err != nil {
		s.t.Fatalf("create %s/%d: %v", host, generation, err)
	}
	return instance
}

func (s *suite) destroy(instance providers.Instance) {
	s.t.Helper()
	if err := s.Provider.Destroy(s.t.Context(), instance); err != nil {
		s.t.Fatalf("destroy %s/%d: %v", instance.Host, instance.Generation, err)
	}
}

func (s *suite) cleanup() {
	s.t.Helper()
	if err := providers.Cleanup(s.t.Context(), s.Provider, s.cluster); err != nil {
		s.t.Fatalf("clean up: %v", err)
	}
}

// list asks for a cluster's instances once the list may be believed.
func (s *suite) list(cluster string) []providers.Instance {
	s.t.Helper()
	if s.Settle > 0 {
		s.pause(s.Settle)
	}
	list, err := s.Provider.List(s.t.Context(), cluster)
	if err != nil {
		s.t.Fatalf("list: %v", err)
	}
	return list
}

// wantList checks that exactly these instances are listed, in any order.
func (s *suite) wantList(cluster string, want ...providers.Instance) {
	s.t.Helper()
	got := ids(s.list(cluster))
	if wanted := ids(want); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(wanted))) {
		s.t.Fatalf("listed %v, want %v", got, wanted)
	}
}

// ids renders instances as host/generation=ID.
func ids(list []providers.Instance) []string {
	out := make([]string, len(list))
	for i, instance := range list {
		out[i] = fmt.Sprintf("%s/%d=%s", instance.Host, instance.Generation, instance.ID)
	}
	return out
}

func (s *suite) pause(d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
		s.t.Fatal("the test ended")
	}
}

// eventually repeats check until it finds nothing wrong.
func (s *suite) eventually(check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(s.Patience + s.Settle)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v: %v", s.Patience+s.Settle, err)
		}
		s.pause(20 * time.Millisecond)
	}
}

// eventuallyListed waits until the one instance of the cluster passes check.
func (s *suite) eventuallyListed(check func(providers.Instance) error) {
	s.t.Helper()
	s.eventually(func() error {
		list, err := s.Provider.List(s.t.Context(), s.cluster)
		if err != nil {
			return err
		}
		if len(list) != 1 {
			return fmt.Errorf("%d instances listed, want one", len(list))
		}
		return check(list[0])
	})
}

// retrying is the provider with one fault, under a retry that loses no time.
func (s *suite) retrying(op providers.Op, fault providers.Fault) providers.Provider {
	quick := providers.RetryPolicy{Initial: time.Millisecond, Max: time.Millisecond, Elapsed: s.Patience}
	faulty := providers.Faults(s.Provider, providers.FaultAt(op, 1, fault))
	return providers.Retry(faulty, quick, slog.New(slog.DiscardHandler))
}

// ended is a context that is over.
func (s *suite) ended() context.Context {
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	return ctx
}

func (s *suite) wantError(err, class error, what string) {
	s.t.Helper()
	if !errors.Is(err, class) {
		s.t.Errorf("%s: error %v, want one of class %q", what, err, class)
	}
}
