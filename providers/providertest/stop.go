package providertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
)

// stops are the tests of providers.Stopper.
var stops = []subtest{
	{"StopAndStart", stopAndStart},
	{"StopOfAnother", stopOfAnother},
	{"StopOfNothing", stopOfNothing},
	{"AnswerOfStopLost", answerOfStopLost},
	{"StopHonoursContext", stopHonoursContext},
}

// stopAndStart stops one of two hosts, and starts it again.
func stopAndStart(s *suite) {
	s.needStop()
	other := s.create("web-2", 1)
	made := s.running("web-1")
	for range 2 { // stopping a stopped instance succeeds
		s.stop(made)
		s.eventuallyIs(made, providers.StateStopped)
	}
	s.wantList(s.cluster, made, other)
	if again := s.create("web-1", 1); again.ID != made.ID || again.State != providers.StateStopped {
		s.t.Errorf("create of a stopped host answers %+v", again)
	}
	s.eventuallyIs(other, providers.StateRunning)
	if err := providers.Start(s.t.Context(), s.Provider, made); err != nil {
		s.t.Fatalf("start after a stop: %v", err)
	}
	s.eventuallyIs(made, providers.StateRunning)
	s.stop(made)
	s.destroy(made)
	s.wantList(s.cluster, other)
}

// stopOfAnother asks for instances that are other hosts' than the caller believes.
func stopOfAnother(s *suite) {
	s.needStop()
	made := s.running("web-1")
	for _, change := range []func(*providers.Identity){
		func(id *providers.Identity) { id.Host = "web-2" },
		func(id *providers.Identity) { id.Generation++ },
		func(id *providers.Identity) { id.Cluster = uuid.NewString() },
	} {
		wrong := made
		change(&wrong.Identity)
		err := providers.Stop(s.t.Context(), s.Provider, wrong)
		if !errors.Is(err, providers.ErrConflict) && !errors.Is(err, providers.ErrNotFound) {
			s.t.Errorf("stop of %+v as %+v: %v", made, wrong.Identity, err)
		}
	}
	s.eventuallyIs(made, providers.StateRunning)
}

func stopOfNothing(s *suite) {
	s.needStop()
	gone := s.running("web-1")
	s.destroy(gone)
	s.wantError(providers.Stop(s.t.Context(), s.Provider, gone), providers.ErrNotFound, "stop of what is gone")
	s.wantList(s.cluster)
}

func answerOfStopLost(s *suite) {
	s.needStop()
	made := s.running("web-1")
	lossy := s.retrying(providers.OpStop, providers.Fault{After: providers.ErrUnavailable})
	if err := providers.Stop(s.t.Context(), lossy, made); err != nil {
		s.t.Fatal(err)
	}
	s.eventuallyIs(made, providers.StateStopped)
}

func stopHonoursContext(s *suite) {
	s.needStop()
	made := s.running("web-1")
	s.wantError(providers.Stop(s.ended(), s.Provider, made), context.Canceled, "stop")
	s.eventuallyIs(made, providers.StateRunning)
}

// needStop skips the test when hosts cannot be stopped. That those of the settings cannot is for the provider to say.
func (s *suite) needStop() {
	s.t.Helper()
	if _, ok := providers.As[providers.Stopper](s.Provider); !ok {
		s.t.Skip("the provider cannot stop instances")
	}
	if _, ok := providers.As[providers.Starter](s.Provider); !ok {
		s.t.Fatal("the provider stops instances that it cannot start")
	}
	if s.Unstoppable {
		made := s.running("web-1")
		s.wantError(providers.Stop(s.t.Context(), s.Provider, made), providers.ErrInvalid, "stop")
		s.eventuallyIs(made, providers.StateRunning)
		s.t.Skip("hosts with these settings cannot be stopped, and the provider says so")
	}
}

func (s *suite) stop(instance providers.Instance) {
	s.t.Helper()
	if err := providers.Stop(s.t.Context(), s.Provider, instance); err != nil {
		s.t.Fatalf("stop %s/%d: %v", instance.Host, instance.Generation, err)
	}
}

// running makes a host and waits until it runs.
func (s *suite) running(host string) providers.Instance {
	s.t.Helper()
	made := s.create(host, 1)
	s.eventuallyIs(made, providers.StateRunning)
	return made
}

// eventuallyIs waits until an instance is listed in a state.
func (s *suite) eventuallyIs(instance providers.Instance, state providers.State) {
	s.t.Helper()
	s.eventually(func() error {
		list, err := s.Provider.List(s.t.Context(), s.cluster)
		if err != nil {
			return err
		}
		for _, each := range list {
			if each.ID == instance.ID && each.Identity == instance.Identity && each.State == state {
				return nil
			}
		}
		return fmt.Errorf("listed %+v, want %s %s", list, instance.ID, state)
	})
}
