package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
)

// Run tests that a driver keeps the contract of providers.Provider. Every subtest asks the factory for a provider of
// its own.
func Run(t *testing.T, factory Factory) {
	run(t, factory, []subtest{
		{"CreateListDestroy", createListDestroy},
		{"CreateTwice", createTwice},
		{"CreateConcurrently", createConcurrently},
		{"CreateAgainAfterDestroy", createAgainAfterDestroy},
		{"DestroyTwice", destroyTwice},
		{"ClustersSideBySide", clustersSideBySide},
		{"ForeignIsUntouched", foreignIsUntouched},
		{"GenerationsAreDistinct", generationsAreDistinct},
		{"ListOrder", listOrder},
		{"AddressAppears", addressAppears},
		{"ContextIsHonoured", contextIsHonoured},
		{"StartAfterStop", startAfterStop},
		{"CleanupLeavesNothing", cleanupLeavesNothing},
		{"InvalidIdentity", invalidIdentity},
		{"ErrorClasses", errorClasses},
		{"AnswerOfCreateLost", answerOfCreateLost},
		{"AnswerOfDestroyLost", answerOfDestroyLost},
	})
	RunCrash(t, factory)
	run(t, factory, stops)
	run(t, factory, images)
}

// RunCrash runs the tests of Fixture.Crash alone, for a driver that may crash at several moments. Run includes it.
func RunCrash(t *testing.T, factory Factory) {
	run(t, factory, []subtest{
		{"CrashIsAdopted", crashIsAdopted},
		{"CrashIsCleanedUp", crashIsCleanedUp},
	})
}

type subtest struct {
	name string
	run  func(*suite)
}

func run(t *testing.T, factory Factory, tests []subtest) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(newSuite(t, factory)) })
	}
}

func createListDestroy(s *suite) {
	req := s.request("web-1", 1)
	began := time.Now().Add(-time.Minute) // clocks may differ a little
	made, err := s.Provider.Create(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	if made.Identity != req.Identity || made.ID == "" {
		s.t.Errorf("created %+v for %+v", made, req.Identity)
	}
	list := s.list(s.cluster)
	if len(list) != 1 || list[0].Identity != req.Identity || list[0].ID != made.ID {
		s.t.Fatalf("listed %v, want %v", list, made)
	}
	for _, instance := range []providers.Instance{made, list[0]} {
		if instance.State != providers.StatePending && instance.State != providers.StateRunning {
			s.t.Errorf("a new instance is %q", instance.State)
		}
		if instance.Created.Before(began) || instance.Created.After(time.Now().Add(time.Minute)) {
			s.t.Errorf("created at %v", instance.Created)
		}
	}
	s.destroy(list[0])
	s.wantList(s.cluster)
}

func createTwice(s *suite) {
	first := s.create("web-1", 1)
	second := s.create("web-1", 1)
	if first.ID != second.ID {
		s.t.Errorf("two creates of one identity made %s and %s", first.ID, second.ID)
	}
	s.wantList(s.cluster, first)
	if third := s.create("web-1", 1); third.ID != first.ID {
		s.t.Errorf("a create of a listed identity made %s beside %s", third.ID, first.ID)
	}
	s.wantList(s.cluster, first)
}

func createConcurrently(s *suite) {
	handles := []providers.Provider{s.Provider}
	if s.Reopen != nil {
		handles = append(handles, s.Reopen(s.t))
	}
	made := make([]providers.Instance, 8)
	errs := make([]error, len(made))
	var group sync.WaitGroup
	for i := range made {
		group.Go(func() {
			made[i], errs[i] = handles[i%len(handles)].Create(s.t.Context(), s.request("web-1", 1))
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
	for _, instance := range made {
		if instance.ID != made[0].ID {
			s.t.Errorf("answered %s and %s", made[0].ID, instance.ID)
		}
	}
	s.wantList(s.cluster, made[0])
}

func createAgainAfterDestroy(s *suite) {
	s.destroy(s.create("web-1", 1))
	again := s.create("web-1", 1)
	s.wantList(s.cluster, again)
	s.destroy(again)
	s.wantList(s.cluster)
}

func destroyTwice(s *suite) {
	kept := s.create("web-1", 1)
	gone := s.create("web-2", 1)
	s.destroy(gone)
	s.destroy(gone)
	s.wantList(s.cluster, kept)
}

func clustersSideBySide(s *suite) {
	ours := s.create("web-1", 1)
	other := &suite{Fixture: s.Fixture, t: s.t, cluster: uuid.NewString()}
	theirs := other.create("web-1", 1)
	if ours.ID == theirs.ID {
		s.t.Fatalf("two clusters share instance %s", ours.ID)
	}
	s.wantList(s.cluster, ours)
	s.wantList(other.cluster, theirs)
	s.wantList(uuid.NewString())
	s.destroy(ours)
	s.cleanup()
	s.wantList(s.cluster)
	s.wantList(other.cluster, theirs)
}

func foreignIsUntouched(s *suite) {
	if s.Plant == nil {
		s.t.Skip("nobody else makes instances at this provider")
	}
	identity := s.request("web-1", 1).Identity
	elsewhere := identity
	elsewhere.Cluster = uuid.NewString()
	odd := identity.Tags()
	odd[providers.TagGeneration] = "one"
	partial := identity.Tags()
	delete(partial, providers.TagGeneration)
	foreign := []func() bool{
		s.Plant(s.t, nil), s.Plant(s.t, map[string]string{"team": "billing"}), s.Plant(s.t, elsewhere.Tags()),
	}
	half := []func() bool{
		s.Plant(s.t, map[string]string{providers.TagCluster: s.cluster}), s.Plant(s.t, partial), s.Plant(s.t, odd),
	}
	s.wantList(s.cluster)
	made := s.create("web-2", 1)
	s.wantList(s.cluster, made)
	s.destroy(made)
	for i, untouched := range half {
		if !untouched() {
			s.t.Errorf("half-tagged instance %d was changed", i)
		}
	}
	s.cleanup() // may end the half-tagged ones, which carry the cluster's tag
	for i, untouched := range foreign {
		if !untouched() {
			s.t.Errorf("foreign instance %d was changed", i)
		}
	}
}

func generationsAreDistinct(s *suite) {
	first := s.create("web-1", 1)
	second := s.create("web-1", 2)
	if first.ID == second.ID {
		s.t.Fatalf("two generations share instance %s", first.ID)
	}
	s.wantList(s.cluster, first, second)
	s.destroy(first)
	s.wantList(s.cluster, second)
}

func listOrder(s *suite) {
	want := []string{"db-1/1", "web-1/2", "web-1/10", "web-10/1", "web-2/1"}
	for _, host := range []struct {
		name       string
		generation int
	}{{"web-2", 1}, {"web-1", 10}, {"db-1", 1}, {"web-10", 1}, {"web-1", 2}} {
		s.create(host.name, host.generation)
	}
	for range 3 {
		var got []string
		for _, instance := range s.list(s.cluster) {
			got = append(got, fmt.Sprintf("%s/%d", instance.Host, instance.Generation))
		}
		if !slices.Equal(got, want) {
			s.t.Fatalf("listed in the order %v, want %v", got, want)
		}
	}
}

func addressAppears(s *suite) {
	s.create("web-1", 1)
	s.eventuallyListed(func(instance providers.Instance) error {
		if instance.State != providers.StateRunning || len(instance.Addresses) == 0 {
			return fmt.Errorf("instance is %s with addresses %v", instance.State, instance.Addresses)
		}
		if !instance.Addresses[0].IsValid() || instance.Addresses[0].IsUnspecified() {
			return fmt.Errorf("address %v", instance.Addresses[0])
		}
		return nil
	})
}

func contextIsHonoured(s *suite) {
	made := s.create("web-1", 1)
	ended := s.ended()
	_, err := s.Provider.Create(ended, s.request("web-2", 1))
	s.wantError(err, context.Canceled, "create")
	_, err = s.Provider.List(ended, s.cluster)
	s.wantError(err, context.Canceled, "list")
	s.wantError(s.Provider.Destroy(ended, made), context.Canceled, "destroy")
	if _, ok := providers.As[providers.Cleaner](s.Provider); ok {
		s.wantError(providers.Cleanup(ended, s.Provider, s.cluster), context.Canceled, "clean up")
	}
	s.wantList(s.cluster, made)
}

func startAfterStop(s *suite) {
	if _, ok := providers.As[providers.Starter](s.Provider); !ok || s.Stop == nil {
		s.t.Skip("the provider cannot stop and start instances")
	}
	made := s.create("web-1", 1)
	var address string
	is := func(state providers.State) func(providers.Instance) error {
		return func(instance providers.Instance) error {
			if instance.State != state || instance.ID != made.ID {
				return fmt.Errorf("instance %s is %s, want %s", instance.ID, instance.State, state)
			}
			if len(instance.Addresses) > 0 {
				address = instance.Addresses[0].String()
			}
			return nil
		}
	}
	s.eventuallyListed(is(providers.StateRunning))
	before := address
	if err := s.Stop(s.t.Context(), made); err != nil {
		s.t.Fatal(err)
	}
	s.eventuallyListed(is(providers.StateStopped))
	if again := s.create("web-1", 1); again.ID != made.ID || again.State != providers.StateStopped {
		s.t.Errorf("create of a stopped host answers %+v", again)
	}
	for range 2 { // starting a running instance succeeds
		if err := providers.Start(s.t.Context(), s.Provider, made); err != nil {
			s.t.Fatal(err)
		}
		s.eventuallyListed(is(providers.StateRunning))
	}
	if before != address {
		s.t.Errorf("address %s before the stop and %s after", before, address)
	}
}

func cleanupLeavesNothing(s *suite) {
	for _, host := range []string{"web-1", "web-2"} {
		s.destroy(s.create(host, 1))
	}
	s.cleanup()
	s.cleanup()
	s.nothingLeft()
}

// nothingLeft checks that the provider has nothing of the cluster.
func (s *suite) nothingLeft() {
	s.t.Helper()
	s.wantList(s.cluster)
	if s.Leftovers == nil {
		return
	}
	if left := s.Leftovers(s.t, s.cluster); len(left) > 0 {
		s.t.Errorf("left behind: %v", left)
	}
}
