//go:build lab

package libvirt

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

// TestProofEnds runs the firmware that proves KVM, under emulation.
func TestProofEnds(t *testing.T) {
	p := labProvider(t)
	with(t, p, func(c *client) error {
		m, err := c.capabilities(typeQEMU)
		if err == nil {
			err = c.proveKVM(t.Context(), m)
		}
		return err
	})
	with(t, p, func(c *client) error {
		domains, _, err := c.ConnectListAllDomains(1, 0)
		for _, each := range domains {
			if strings.HasPrefix(each.Name, "muster-probe") {
				t.Errorf("%s is left", each.Name)
			}
		}
		return err
	})
}

// TestAutoFallsBack has a daemon without KVM.
func TestAutoFallsBack(t *testing.T) {
	var log bytes.Buffer
	p := labProvider(t, func(c *Config) { c.DomainType = typeAuto })
	p.log = slog.New(slog.NewTextHandler(&log, nil))
	err := p.session(t.Context(), func(ctx context.Context, c *client) error {
		for range 2 {
			if m, err := p.machine(ctx, c, true); err != nil || m.domainType != typeQEMU {
				t.Errorf("machine %+v, %v", m, err)
			}
		}
		return nil
	})
	if err != nil || strings.Count(log.String(), "KVM does not work") != 1 {
		t.Errorf("%v, log:\n%s", err, log.String())
	}
}
