package openstack

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// TestNoAnswerInTime takes a call that has no answer in time for one whose outcome is unknown, and repeats it.
func TestNoAnswerInTime(t *testing.T) {
	for _, slow := range []string{"POST /network/v2.0/ports", "POST /compute/v2.1/servers"} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			cloud := openstacktest.New(t)
			p := testProvider(t, cloud, func(c *Config) { c.Timeout = time.Second })
			var struck atomic.Bool
			cloud.SetFault(func(call openstacktest.Call) openstacktest.Fault {
				if call.Pattern == slow && struck.CompareAndSwap(false, true) {
					return openstacktest.Fault{Slow: time.Minute}
				}
				return openstacktest.Fault{}
			})
			req := testRequest("web-1", testSettings())
			if _, err := p.Create(t.Context(), req); !errors.Is(err, providers.ErrUnavailable) {
				t.Errorf("create says %v", err)
			}
			patient := providers.Retry(p, providers.RetryPolicy{Initial: time.Millisecond}, slog.New(slog.DiscardHandler))
			if _, err := patient.Create(t.Context(), req); err != nil {
				t.Error(err)
			}
			if servers, ports := cloud.Count("server"), cloud.Count("port"); servers != 1 || ports != 1 {
				t.Errorf("%d servers and %d ports", servers, ports)
			}
		})
	}
}

// TestTurns counts the requests that many hosts have under way at a time.
func TestTurns(t *testing.T) {
	cloud := openstacktest.New(t)
	p := testProvider(t, cloud)
	var now, most atomic.Int64
	cloud.SetFault(func(openstacktest.Call) openstacktest.Fault {
		return openstacktest.Fault{Slow: 20 * time.Millisecond}
	})
	cloud.Around = func(serve func()) {
		n := now.Add(1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		defer now.Add(-1)
		serve()
	}
	atOnce(t, 3*maxRequests, func(i int) error {
		_, err := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), testSettings()))
		return err
	})
	if n := most.Load(); n > maxRequests {
		t.Errorf("%d requests at a time, want at most %d", n, maxRequests)
	}
}
