//go:build lab

package openstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// labWait looks until as many hosts run and have addresses.
func labWait(t *testing.T, p *Provider, hosts int) []providers.Instance {
	t.Helper()
	wait := p.pauses()
	for {
		list, err := p.List(t.Context(), testCluster)
		if err != nil {
			t.Fatal(err)
		}
		running := 0
		for _, instance := range list {
			if instance.State == providers.StateFailed {
				t.Fatalf("%s failed", instance.Host)
			}
			if instance.State == providers.StateRunning && len(instance.Addresses) > 0 {
				running++
			}
		}
		if running == hosts {
			return list
		}
		if err := wait.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// console keeps what a host says, and ends when it says a certain thing.
type console struct {
	said  strings.Builder
	until string
	end   context.CancelFunc
}

// Write implements io.Writer.
func (c *console) Write(text []byte) (int, error) {
	n, err := c.said.Write(text)
	if strings.Contains(c.said.String(), c.until) {
		c.end()
	}
	return n, err
}

// TestLabBoot boots a host, which says on its console that it has what it was given, and again after it was switched off.
func TestLabBoot(t *testing.T) {
	l := newLab(t, "lab")
	p := l.provider(t)
	t.Cleanup(func() { endAll(t, p) })
	settings := labSettings(onQEMU)
	if err := p.Check(t.Context(), []any{settings}); err != nil {
		t.Error(err)
	}
	req := testRequest("web-1", settings)
	began := time.Now()
	if _, err := p.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	instance := labWait(t, p, 1)[0]
	t.Logf("runs after %v", time.Since(began).Round(time.Second))
	said := fmt.Sprintf("host=web-1 user-data=%x", sha256.Sum256(req.UserData))
	listen := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), labPatience)
		defer cancel()
		heard := &console{until: said, end: cancel}
		if err := p.Console(ctx, instance, true, heard); !errors.Is(err, context.Canceled) {
			t.Fatalf("want %q on the console: %v, heard:\n%s", said, err, heard.said.String())
		}
	}
	listen()
	t.Logf("has booted after %v", time.Since(began).Round(time.Second))
	if err := p.Stop(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	wait := p.pauses()
	for instance.State != providers.StateStopped {
		if err := wait.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := p.List(t.Context(), testCluster)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		instance = list[0]
	}
	if err := p.Start(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	labWait(t, p, 1)
	listen()
	if err := errors.Join(p.Destroy(t.Context(), instance), p.Cleanup(t.Context(), testCluster)); err != nil {
		t.Error(err)
	}
	if left := l.leftovers(t, p, testCluster); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLabMetal says how long a host on bare metal takes, through Nova and directly. Fake machines boot at once.
func TestLabMetal(t *testing.T) {
	for cloud, sort := range map[string]func(*Settings){"lab": onMetal, "lab-admin": onNode} {
		settings := labSettings(sort)
		l := newLab(t, cloud)
		p := l.provider(t, func(c *Config) { c.Baremetal = settings.direct() })
		t.Cleanup(func() { endAll(t, p) })
		if err := p.Check(t.Context(), []any{settings}); err != nil {
			t.Error(err)
		}
		began := time.Now()
		made, err := labTested(p, settings).Create(t.Context(), testRequest("metal-1", settings))
		if err != nil {
			t.Fatal(err)
		}
		labWait(t, p, 1)
		t.Logf("%s: runs after %v", cloud, time.Since(began).Round(time.Second))
		if err := p.Destroy(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: destroyed after %v", cloud, time.Since(began).Round(time.Second))
	}
}

// TestLabFaults lets the calls by which the real cloud makes something fail in each way, before and after they were carried
// out, each at another host.
func TestLabFaults(t *testing.T) {
	t.Parallel()
	l := newLab(t, "lab")
	p := providers.Retry(l.provider(t), providers.RetryPolicy{Initial: 100 * time.Millisecond, Max: time.Second}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { endAll(t, l.provider(t)) })
	if _, err := p.Create(t.Context(), testRequest("web-0", labSettings())); err != nil { // logs in, makes the group
		t.Fatal(err)
	}
	want := 1
	for _, name := range sorted(faults) {
		for _, pattern := range []string{"POST /network/v2.0/ports", asksNova} {
			struck := false
			l.SetFault(func(call openstacktest.Call) openstacktest.Fault {
				if struck || call.Pattern != pattern {
					return openstacktest.Fault{}
				}
				struck = true
				return faults[name]
			})
			want++
			if _, err := p.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", want), labSettings())); err != nil {
				t.Errorf("%s of %s: %v", name, pattern, err)
			}
		}
	}
	l.SetFault(nil)
	list, err := p.List(t.Context(), testCluster)
	s, sessionErr := l.provider(t).session(t.Context())
	if err != nil || sessionErr != nil {
		t.Fatal(err, sessionErr)
	}
	all, err := s.serversOf(t.Context(), owner{testCluster, l.name}, clusterTag(testCluster))
	held, portErr := s.portsOf(t.Context(), owner{testCluster, l.name}, "")
	if err != nil || portErr != nil || len(list) != want || len(all) != want || len(held) != want {
		t.Errorf("%d hosts, %d servers, %d ports, want %d of each: %v %v",
			len(list), len(all), len(held), want, err, portErr)
	}
}

// TestLabMany makes many hosts at once, and says what they cost.
func TestLabMany(t *testing.T) {
	const hosts = 50
	l := newLab(t, "lab")
	p := l.provider(t)
	patient := providers.Retry(p, providers.RetryPolicy{}, slog.New(slog.DiscardHandler)) // as muster is
	t.Cleanup(func() { endAll(t, l.provider(t)) })
	began := time.Now()
	atOnce(t, hosts, func(i int) error {
		_, err := patient.Create(t.Context(), testRequest(fmt.Sprintf("web-%d", i+1), labSettings()))
		return err
	})
	created := l.Calls()
	t.Logf("%d hosts accepted after %v with %d calls: %v", hosts, time.Since(began).Round(time.Second), total(created), created)
	list := labWait(t, p, hosts)
	t.Logf("all run after %v", time.Since(began).Round(time.Second))
	atOnce(t, hosts, func(i int) error { return patient.Destroy(t.Context(), list[i]) })
	if err := p.Cleanup(t.Context(), testCluster); err != nil {
		t.Error(err)
	}
	t.Logf("all are gone after %v", time.Since(began).Round(time.Second))
	if left := l.leftovers(t, p, testCluster); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
