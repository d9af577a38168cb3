//go:build lab

package vsphere

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/providertest"
)

// TestEveryCrash ends a process at every call of every shape, before and after.
func TestEveryCrash(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(shapes(t))) {
		t.Run(name, func(t *testing.T) { sweep(t, name, func(string) bool { return true }) })
	}
}

// TestConformanceOfFaults runs the suite over connections that misbehave.
func TestConformanceOfFaults(t *testing.T) {
	for name, fault := range map[string]func() *flaky{
		"Unavailable": func() *flaky { return &flaky{status: http.StatusServiceUnavailable, refuses: 10} },
		"Throttled":   func() *flaky { return &flaky{status: http.StatusTooManyRequests, refuses: 20} },
		"LostAnswers": func() *flaky { return &flaky{loses: 50} },
		"ServerError": func() *flaky { return &flaky{status: http.StatusInternalServerError, refuses: 10, loses: 20} },
	} {
		for where, esxi := range map[string]bool{"VCenter": false, "ESXi": true} {
			t.Run(name+where, func(t *testing.T) {
				providertest.Run(t, func(t *testing.T) providertest.Fixture {
					sim := newVCSim(t, esxi)
					open := func() providers.Provider { return patient(sim.open(fault().wrap)) }
					return providertest.Fixture{
						Provider: open(), Settings: sim.settings(),
						Reopen:    func(*testing.T) providers.Provider { return open() },
						Plant:     func(_ *testing.T, tags map[string]string) func() bool { return sim.plant(tags) },
						Leftovers: func(_ *testing.T, cluster string) []string { return sim.leftovers(cluster) },
					}
				})
			})
		}
	}
}
