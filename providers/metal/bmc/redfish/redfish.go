// Package redfish controls a machine's power, boot device and virtual media over Redfish (DMTF DSP0266), by HTTPS alone.
//
// Controllers mostly have a certificate that nobody signed, so a configuration may name the one that is expected; none is
// accepted unseen.
package redfish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/metal/bmc"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Controller implements bmc.Controller and bmc.MediaInserter. It authenticates every request by itself (HTTP Basic), so a
// call that is cut short leaves no session behind, of which controllers have few.
type Controller struct {
	Endpoint    string // https URL, without a path
	System      string // Id of the system; empty where the controller has one
	User        string
	Password    secret.Secret
	Certificate string // SHA-256 of the controller's certificate, 64 lower-case hexadecimal digits; empty for one that this machine trusts
}

// with runs do with the system.
func (c Controller) with(ctx context.Context, do func(*schemas.ComputerSystem) error) error {
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	service, err := gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint: strings.TrimSuffix(c.Endpoint, "/"), Username: c.User, Password: c.Password.Reveal(), BasicAuth: true,
		HTTPClient: client, NoModifyTransport: true, ReuseConnections: true,
	})
	if err != nil {
		return c.classify(ctx, err)
	}
	system, err := c.system(service)
	if err != nil {
		return c.classify(ctx, err)
	}
	return c.classify(ctx, do(system))
}

func (c Controller) system(service *gofish.APIClient) (*schemas.ComputerSystem, error) {
	systems, err := service.Service.Systems()
	if err != nil {
		return nil, err
	}
	if c.System == "" && len(systems) == 1 {
		return systems[0], nil
	}
	var names []string
	for _, system := range systems {
		if system.ID == c.System {
			return system, nil
		}
		names = append(names, system.ID)
	}
	return nil, fmt.Errorf("%w: it has the systems %q, and not %q: name one of them", providers.ErrInvalid, names, c.System)
}

// Power implements bmc.Controller.
func (c Controller) Power(ctx context.Context) (power bmc.Power, err error) {
	err = c.with(ctx, func(system *schemas.ComputerSystem) error {
		power, err = state(system)
		return err
	})
	return power, err
}

func state(system *schemas.ComputerSystem) (bmc.Power, error) {
	switch system.PowerState {
	case schemas.OnPowerState, schemas.PoweringOnPowerState, schemas.PausedPowerState:
		return bmc.On, nil
	case schemas.OffPowerState, schemas.PoweringOffPowerState:
		return bmc.Off, nil
	}
	return "", fmt.Errorf("%w: it says that the power is %q", providers.ErrUnavailable, system.PowerState)
}

// The requests for each end, best first.
var (
	on    = []schemas.ResetType{schemas.OnResetType, schemas.ForceOnResetType, schemas.PushPowerButtonResetType}
	off   = []schemas.ResetType{schemas.ForceOffResetType}
	again = []schemas.ResetType{schemas.ForceRestartResetType, schemas.PowerCycleResetType}
)

// request sends the first request that the system knows for its power. A power that is missing needs none.
func (c Controller) request(ctx context.Context, when map[bmc.Power][]schemas.ResetType) error {
	return c.with(ctx, func(system *schemas.ComputerSystem) error {
		power, err := state(system)
		if err != nil {
			return err
		}
		wanted, needed := when[power]
		if !needed {
			return nil
		}
		known, err := system.GetSupportedResetTypes()
		if err != nil {
			return err
		}
		for _, request := range wanted {
			if len(known) == 0 || slices.Contains(known, request) {
				_, err := system.Reset(request)
				return err
			}
		}
		return fmt.Errorf("%w: it knows none of %q, only %q", providers.ErrInvalid, wanted, known)
	})
}

// PowerOn implements bmc.Controller.
func (c Controller) PowerOn(ctx context.Context) error {
	return c.request(ctx, map[bmc.Power][]schemas.ResetType{bmc.Off: on})
}

// PowerOff implements bmc.Controller.
func (c Controller) PowerOff(ctx context.Context) error {
	return c.request(ctx, map[bmc.Power][]schemas.ResetType{bmc.On: off})
}

// Reset implements bmc.Controller.
func (c Controller) Reset(ctx context.Context) error {
	return c.request(ctx, map[bmc.Power][]schemas.ResetType{bmc.Off: on, bmc.On: again})
}

var devices = map[bmc.Device]schemas.BootSource{
	bmc.Network: schemas.PxeBootSource,
	bmc.Disk:    schemas.HddBootSource,
	bmc.Media:   schemas.CdBootSource,
}

// SetBoot implements bmc.Controller.
func (c Controller) SetBoot(ctx context.Context, device bmc.Device, firmware netboot.Firmware) error {
	source, ok := devices[device]
	if !ok {
		return fmt.Errorf("%w: cannot boot from %q", providers.ErrInvalid, device)
	}
	return c.with(ctx, func(system *schemas.ComputerSystem) error {
		boot := &schemas.Boot{
			BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled, BootSourceOverrideTarget: source,
		}
		// Systems with one kind of firmware have no mode, and refuse to be told one.
		if system.Boot.BootSourceOverrideMode != "" {
			boot.BootSourceOverrideMode = schemas.LegacyBootSourceOverrideMode
			if firmware == netboot.UEFI {
				boot.BootSourceOverrideMode = schemas.UEFIBootSourceOverrideMode
			}
		}
		return system.SetBoot(boot)
	})
}

// InsertMedia implements bmc.MediaInserter.
func (c Controller) InsertMedia(ctx context.Context, url string) error {
	return c.with(ctx, func(system *schemas.ComputerSystem) error {
		drive, err := disc(system)
		if err != nil {
			return err
		}
		if drive.Image != "" {
			if _, err := drive.EjectMedia(); err != nil {
				return err
			}
		}
		_, err = drive.InsertMedia(&schemas.VirtualMediaInsertMediaParameters{Image: url})
		return err
	})
}

// EjectMedia implements bmc.MediaInserter.
func (c Controller) EjectMedia(ctx context.Context) error {
	return c.with(ctx, func(system *schemas.ComputerSystem) error {
		drive, err := disc(system)
		if err != nil || drive.Image == "" {
			return err
		}
		_, err = drive.EjectMedia()
		return err
	})
}

// disc returns the drive for discs. Services have it at the system, and those from before 2021 at its manager.
func disc(system *schemas.ComputerSystem) (*schemas.VirtualMedia, error) {
	drives, err := system.VirtualMedia()
	if err != nil {
		return nil, err
	}
	if len(drives) == 0 {
		managers, err := system.ManagedBy()
		if err != nil {
			return nil, err
		}
		for _, manager := range managers {
			more, err := manager.VirtualMedia()
			if err != nil {
				return nil, err
			}
			drives = append(drives, more...)
		}
	}
	for _, drive := range drives {
		if slices.Contains(drive.MediaTypes, schemas.CDVirtualMediaType) || slices.Contains(drive.MediaTypes, schemas.DVDVirtualMediaType) {
			return drive, nil
		}
	}
	return nil, fmt.Errorf("%w: it has no virtual drive for discs", providers.ErrInvalid)
}

var (
	_ bmc.Controller    = Controller{}
	_ bmc.MediaInserter = Controller{}

	errCertificate = errors.New("its certificate is not the expected one")
)
