// Package bmctest is the contract of bmc.Controller, which every controller passes against a peer that speaks its protocol.
package bmctest

import (
	"context"
	"errors"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/metal/bmc"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Machine is the peer's view of the machine behind the controller.
type Machine interface {
	On() bool
	Resets() int
	// Next is the device of the next boot, empty where none was chosen.
	Next() bmc.Device
}

// Bench makes what is tested. Each machine is off and was told nothing.
type Bench struct {
	// New returns a machine, and its controller for the right password and for another one.
	New func(t *testing.T) (machine Machine, right, wrong bmc.Controller)
	// Silent returns a controller at an address where nobody answers.
	Silent func(t *testing.T) bmc.Controller
}

// Run runs the suite.
func Run(t *testing.T, bench Bench) {
	t.Run("power", bench.power)
	t.Run("reset", bench.reset)
	t.Run("boot", bench.boot)
	t.Run("password", bench.password)
	t.Run("silence", bench.silence)
	t.Run("cancel", bench.cancel)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is fails unless the machine and its controller agree on the power.
func is(t *testing.T, c bmc.Controller, m Machine, want bmc.Power) {
	t.Helper()
	got, err := c.Power(t.Context())
	must(t, err)
	if got != want || m.On() != (want == bmc.On) {
		t.Errorf("the controller says %s, the machine is on: %t, want %s", got, m.On(), want)
	}
}

func (b Bench) power(t *testing.T) {
	m, c, _ := b.New(t)
	is(t, c, m, bmc.Off)
	must(t, c.PowerOff(t.Context()))
	is(t, c, m, bmc.Off)
	for range 2 {
		must(t, c.PowerOn(t.Context()))
		is(t, c, m, bmc.On)
	}
	for range 2 {
		must(t, c.PowerOff(t.Context()))
		is(t, c, m, bmc.Off)
	}
	if m.Resets() != 0 {
		t.Errorf("%d resets", m.Resets())
	}
}

func (b Bench) reset(t *testing.T) {
	m, c, _ := b.New(t)
	must(t, c.Reset(t.Context()))
	is(t, c, m, bmc.On)
	if m.Resets() != 0 {
		t.Errorf("%d resets of a machine that was off", m.Resets())
	}
	must(t, c.Reset(t.Context()))
	is(t, c, m, bmc.On)
	if m.Resets() != 1 {
		t.Errorf("%d resets, want 1", m.Resets())
	}
}

func (b Bench) boot(t *testing.T) {
	m, c, _ := b.New(t)
	for _, firmware := range []netboot.Firmware{netboot.BIOS, netboot.UEFI} {
		for _, device := range []bmc.Device{bmc.Network, bmc.Disk, bmc.Media, bmc.Network, bmc.Network} {
			must(t, c.SetBoot(t.Context(), device, firmware))
			if got := m.Next(); got != device {
				t.Errorf("with %s it boots from %q next, want %s", firmware, got, device)
			}
		}
	}
	is(t, c, m, bmc.Off)
	if err := c.SetBoot(t.Context(), "tape", netboot.UEFI); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("a tape: %v", err)
	}
}

// calls are all that a controller does.
func calls(ctx context.Context, c bmc.Controller) map[string]error {
	_, err := c.Power(ctx)
	return map[string]error{
		"power": err, "on": c.PowerOn(ctx), "off": c.PowerOff(ctx), "reset": c.Reset(ctx), "boot": c.SetBoot(ctx, bmc.Network, netboot.UEFI),
	}
}

func (b Bench) fails(t *testing.T, ctx context.Context, c bmc.Controller, want error) {
	t.Helper()
	for call, err := range calls(ctx, c) {
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", call, err, want)
		}
	}
}

func (b Bench) password(t *testing.T) {
	m, _, wrong := b.New(t)
	b.fails(t, t.Context(), wrong, providers.ErrAuth)
	if m.On() || m.Resets() != 0 || m.Next() != "" {
		t.Error("it obeyed a wrong password")
	}
}

func (b Bench) silence(t *testing.T) {
	if _, err := b.Silent(t).Power(t.Context()); !errors.Is(err, providers.ErrUnavailable) {
		t.Errorf("%v, want %v", err, providers.ErrUnavailable)
	}
}

func (b Bench) cancel(t *testing.T) {
	m, c, _ := b.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.fails(t, ctx, c, context.Canceled)
	if m.On() || m.Resets() != 0 || m.Next() != "" {
		t.Error("it was told something after all")
	}
}
