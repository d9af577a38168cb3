package agent

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

func TestReload(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		s := newService(w, &voterStub{})
		w.submit("a.service", body+"ExecReload=/bin/true\n", store.DesiredLaunched)
		w.submit("b.service", body, store.DesiredLaunched)
		w.submit("loaded.service", body, store.DesiredLoaded)
		w.submit("idle.service", body, store.DesiredInactive)
		w.put("job@.service", body+"ExecReload=/bin/true\n[X-Muster]\nReplicas=2\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		for unit, want := range map[string][]api.Reloaded{
			"a.service":      {{Unit: "a.service", Host: "node-1"}},
			"b.service":      {{Unit: "b.service", Host: "node-1", Error: "it has no ExecReload= below [Service]; `muster units restart b.service` restarts it"}},
			"loaded.service": {{Unit: "loaded.service", Host: "node-1", Error: "it is not active there; `muster units status loaded.service` tells what it is"}},
			"job@.service":   {{Unit: "job@1.service", Host: "node-1"}, {Unit: "job@2.service", Host: "node-1"}},
			"job@2.service":  {{Unit: "job@2.service", Host: "node-1"}},
		} {
			got, err := s.Reload(w.t.Context(), unit, "")
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%s: %v %s", unit, err, d)
			}
		}
		if got := w.hosts[1].runtime.reloads; got["a.service"] != 1 || got["job@2.service"] != 2 || got["b.service"] != 0 {
			t.Errorf("reloaded: %v", got)
		}
		for unit, status := range map[string]int{
			"idle.service": http.StatusConflict, "x.service": http.StatusNotFound, "x": http.StatusBadRequest,
		} {
			var e *api.Error
			if _, err := s.Reload(w.t.Context(), unit, ""); !errors.As(err, &e) || e.Status != status || e.Hint == "" {
				t.Errorf("%s: %v, want status %d and a hint", unit, err, status)
			}
		}
	})
}

// TestReloadElsewhere: a host that does not vote may not have others reload, and one that is lost is told of.
func TestReloadElsewhere(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		s := newService(w, &voterStub{})
		w.submit("every.service", body+"ExecReload=/bin/true\n[X-Fleet]\nGlobal=true\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		var e *api.Error
		if _, err := s.Reload(w.t.Context(), "every.service", ""); !errors.As(err, &e) || e.Status != http.StatusMisdirectedRequest {
			t.Errorf("asked a host that does not vote: %v", err)
		}
		if got, err := s.Reload(w.t.Context(), "every.service", "node-1"); err != nil || len(got) != 1 || got[0].Error != "" {
			t.Errorf("this host alone: %v, %v", got, err)
		}
	})
}
