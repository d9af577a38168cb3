package providertest

import (
	"fmt"
	"testing"

	"github.com/musterhq/muster/providers"
)

func invalidIdentity(s *suite) {
	for _, host := range []string{"", "../web", "Web", "web_1"} {
		_, err := s.Provider.Create(s.t.Context(), s.request(host, 1))
		s.wantError(err, providers.ErrInvalid, fmt.Sprintf("create of host %q", host))
	}
	_, err := s.Provider.Create(s.t.Context(), s.request("web-1", 0))
	s.wantError(err, providers.ErrInvalid, "create of generation 0")
	s.wantList(s.cluster)
}

func errorClasses(s *suite) {
	req := s.request("web-1", 1)
	req.Settings = new(struct{ Nobody string })
	_, err := s.Provider.Create(s.t.Context(), req)
	s.wantError(err, providers.ErrInvalid, "create with another driver's settings")
	s.wantList(s.cluster)
	for _, c := range s.Errors {
		s.t.Run(c.Name, func(t *testing.T) {
			if err := c.Call(t); providers.Class(err) != providers.Class(c.Want) {
				t.Errorf("error %v, want one of class %q", err, c.Want)
			}
		})
	}
}

// answerOfCreateLost loses the request, and then the answer, of a create that is repeated.
func answerOfCreateLost(s *suite) {
	for host, fault := range map[string]providers.Fault{
		"web-1": {Before: providers.ErrUnavailable},
		"web-2": {After: providers.ErrUnavailable},
		"web-3": {After: providers.ErrThrottled},
	} {
		req := s.request(host, 1)
		made, err := s.retrying(providers.OpCreate, fault).Create(s.t.Context(), req)
		if err != nil {
			s.t.Fatalf("%s: %v", host, err)
		}
		count := 0
		for _, instance := range s.list(s.cluster) {
			if instance.Host != host {
				continue
			}
			if count++; instance.ID != made.ID {
				s.t.Errorf("%s: answered %s, listed %s", host, made.ID, instance.ID)
			}
		}
		if count != 1 {
			s.t.Errorf("%s: %d instances, want one", host, count)
		}
	}
}

func answerOfDestroyLost(s *suite) {
	kept := s.create("web-1", 1)
	gone := s.create("web-2", 1)
	lossy := s.retrying(providers.OpDestroy, providers.Fault{After: providers.ErrUnavailable})
	if err := lossy.Destroy(s.t.Context(), gone); err != nil {
		s.t.Fatal(err)
	}
	s.wantList(s.cluster, kept)
}

// crashIsAdopted repeats a create that crashed between making and tagging, which must not make a second instance.
func crashIsAdopted(s *suite) {
	s.needCrash()
	s.Crash(s.t, s.request("web-1", 1))
	for _, instance := range s.list(s.cluster) {
		if instance.Identity != s.request("web-1", 1).Identity {
			s.t.Errorf("a half-made instance is listed as %+v", instance)
		}
	}
	made := s.create("web-1", 1)
	s.wantList(s.cluster, made)
	s.destroy(made)
	s.cleanup()
	s.nothingLeft()
}

// crashIsCleanedUp gives a create that crashed up.
func crashIsCleanedUp(s *suite) {
	s.needCrash()
	s.Crash(s.t, s.request("web-1", 1))
	for _, instance := range s.list(s.cluster) {
		s.destroy(instance)
	}
	s.cleanup()
	s.nothingLeft()
}

func (s *suite) needCrash() {
	s.t.Helper()
	if s.Crash == nil {
		s.t.Skip("the provider makes and tags in one step")
	}
}
