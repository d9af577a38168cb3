// Package ipmi controls a machine's power over IPMI 2.0 (RMCP+), which most controllers speak that have no Redfish.
//
// The protocol hands out a hash of the password to whoever asks in a user's name (RAKP message 2), and its controllers
// prove nothing to a client that does not know them: keep them on a network of their own.
package ipmi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/metal/bmc"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// DefaultPort is RMCP's (ASF 2.0, section 3.2.2).
const DefaultPort = 623

// Controller implements bmc.Controller. Every call opens a session of its own and closes it.
type Controller struct {
	Host     string // name or address
	Port     int    // UDP; 0 means DefaultPort
	User     string // up to 16 bytes, with the administrator's privilege
	Password secret.Secret
}

// suites are the cipher suites that are tried, best first: HMAC with SHA-256 or SHA-1, and AES. Weaker ones, the first of
// which asks for no password at all, are never agreed to, whatever the controller offers.
var suites = []types.CipherSuiteID{types.CipherSuiteID17, types.CipherSuiteID3}

// session runs do between opening and closing a session.
func (c Controller) session(ctx context.Context, do func(*client.Client) error) error {
	host := c.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // the library puts the port behind it
	}
	port := c.Port
	if port == 0 {
		port = DefaultPort
	}
	library, err := client.NewClient(host, port, c.User, c.Password.Reveal())
	if err != nil {
		return fmt.Errorf("%w: cannot use controller %s: %w", providers.ErrInvalid, c.Host, err)
	}
	library.WithCipherSuiteID(suites...)
	if err := library.Connect(ctx); err != nil {
		library.Close(canceled(ctx)) // there is no session: this closes the socket alone
		return c.classify(ctx, err)
	}
	err = do(library)
	library.Close(ctx) // a session that stays open is ended by the controller
	return c.classify(ctx, err)
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// The library joins what went wrong with each suite as text, so that errors.Is finds nothing in it.
var refusals = []string{
	client.ErrRAKPAuthentication.Error(),
	types.NewRmcpStatusError(types.RmcpStatusCodeUnauthorizedName).Error(),
	types.NewRmcpStatusError(types.RmcpStatusCodeInvalidIntegrityCheckValue).Error(),
	types.NewRmcpStatusError(types.RmcpStatusCodeUnauthorizedRoleOfPriLevel).Error(),
}

// classify wraps an error in its class.
func (c Controller) classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cannot ask controller %s: %w", c.Host, context.Cause(ctx))
	}
	for _, refusal := range refusals {
		if strings.Contains(err.Error(), refusal) {
			return fmt.Errorf("%w: controller %s refuses user %q: correct the user or the password, and give it the administrator's privilege",
				providers.ErrAuth, c.Host, c.User)
		}
	}
	class := providers.ErrUnavailable
	if response := (*types.ResponseError)(nil); errors.As(err, &response) {
		switch response.CompletionCode() {
		case types.CodeInsufficientPrivilege:
			class = providers.ErrAuth
		case types.CodeNodeBusy, types.CodeProcessTimeout:
		default:
			class = providers.ErrInvalid
		}
	}
	return fmt.Errorf("%w: controller %s: %w", class, c.Host, err)
}

// Power implements bmc.Controller.
func (c Controller) Power(ctx context.Context) (power bmc.Power, err error) {
	err = c.session(ctx, func(library *client.Client) error {
		power, err = state(ctx, library)
		return err
	})
	return power, err
}

func state(ctx context.Context, library *client.Client) (bmc.Power, error) {
	status, err := library.GetChassisStatus(ctx)
	if err != nil {
		return "", err
	}
	if status.PowerIsOn {
		return bmc.On, nil
	}
	return bmc.Off, nil
}

// control sends a command unless the machine has the power that is wanted. when names the command for each power; one that
// is missing needs none.
func (c Controller) control(ctx context.Context, when map[bmc.Power]chassis.ChassisControl) error {
	return c.session(ctx, func(library *client.Client) error {
		power, err := state(ctx, library)
		if err != nil {
			return err
		}
		command, needed := when[power]
		if !needed {
			return nil
		}
		_, err = library.ChassisControl(ctx, command)
		return err
	})
}

// PowerOn implements bmc.Controller.
func (c Controller) PowerOn(ctx context.Context) error {
	return c.control(ctx, map[bmc.Power]chassis.ChassisControl{bmc.Off: chassis.ChassisControlPowerUp})
}

// PowerOff implements bmc.Controller.
func (c Controller) PowerOff(ctx context.Context) error {
	return c.control(ctx, map[bmc.Power]chassis.ChassisControl{bmc.On: chassis.ChassisControlPowerDown})
}

// Reset implements bmc.Controller.
func (c Controller) Reset(ctx context.Context) error {
	return c.control(ctx, map[bmc.Power]chassis.ChassisControl{
		bmc.On: chassis.ChassisControlHardReset, bmc.Off: chassis.ChassisControlPowerUp,
	})
}

// devices are the selectors of IPMI 2.0, table 28-14.
var devices = map[bmc.Device]types.BootDeviceSelector{
	bmc.Network: types.BootDeviceSelectorForcePXE,
	bmc.Disk:    types.BootDeviceSelectorForceHardDrive,
	bmc.Media:   types.BootDeviceSelectorForceCDROM,
}

// SetBoot implements bmc.Controller.
func (c Controller) SetBoot(ctx context.Context, device bmc.Device, firmware netboot.Firmware) error {
	selector, ok := devices[device]
	if !ok {
		return fmt.Errorf("%w: cannot boot from %q", providers.ErrInvalid, device)
	}
	return c.session(ctx, func(library *client.Client) error {
		const onlyOnce = false
		return library.SetBootDevice(ctx, selector, types.BIOSBootType(firmware == netboot.UEFI), onlyOnce)
	})
}

var _ bmc.Controller = Controller{}
