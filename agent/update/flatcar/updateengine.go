package flatcar

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// update_engine on the bus (com.coreos.update1.Manager: AttemptUpdate, ResetStatus, GetStatus and the signal StatusUpdate).
const (
	busName        = "com.coreos.update1"
	objectPath     = "/com/coreos/update1"
	managerName    = "com.coreos.update1.Manager"
	statusUpdate   = "StatusUpdate"
	idle           = "UPDATE_STATUS_IDLE"
	needsReboot    = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
	reportingError = "UPDATE_STATUS_REPORTING_ERROR_EVENT"
)

// status is what GetStatus answers and StatusUpdate tells.
type status struct {
	Checked   int64   // seconds since 1970
	Progress  float64 // of the download, 0 to 1
	Operation string
	Version   string
	Size      int64 // bytes
}

// attempt has update_engine install the version that is offered, and waits until it has.
func (e *Engine) attempt(ctx context.Context, version string) error {
	conn, err := e.host.Dial(ctx)
	if err != nil {
		return fmt.Errorf("cannot reach the system's bus: %w", err)
	}
	defer conn.Close()
	const pending = 64 // update_engine tells of its progress every few seconds
	signals := make(chan *dbus.Signal, pending)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(managerName), dbus.WithMatchMember(statusUpdate))
	if err != nil {
		return err
	}
	manager := conn.Object(busName, objectPath)
	var now status
	if err := manager.CallWithContext(ctx, managerName+".GetStatus", 0).Store(&now.Checked, &now.Progress, &now.Operation, &now.Version, &now.Size); err != nil {
		return fmt.Errorf("cannot ask update_engine: %w", err)
	}
	if now.Operation == needsReboot {
		// What it has installed was never switched to, or was taken back. It has to write it again to know that it is whole.
		e.step()
		if err := manager.CallWithContext(ctx, managerName+".ResetStatus", 0).Err; err != nil {
			return fmt.Errorf("cannot have update_engine forget %s: %w", now.Version, err)
		}
	}
	e.step()
	if err := manager.CallWithContext(ctx, managerName+".AttemptUpdate", 0).Err; err != nil {
		return fmt.Errorf("update_engine refuses to update: %w", err)
	}
	return e.await(ctx, signals, version)
}

var errGaveUp = errors.New("update_engine gave up: see journalctl -u update-engine, and that SERVER in /etc/flatcar/update.conf is this host's musterd")

// await follows update_engine until the version is installed. Idle is what it is again when it has failed.
func (e *Engine) await(ctx context.Context, signals <-chan *dbus.Signal, version string) error {
	begun := false
	for {
		var now status
		select {
		case signal, open := <-signals:
			if !open {
				return errors.New("the system's bus has closed the connection")
			}
			if signal.Name != managerName+"."+statusUpdate {
				continue
			}
			if err := dbus.Store(signal.Body, &now.Checked, &now.Progress, &now.Operation, &now.Version, &now.Size); err != nil {
				return fmt.Errorf("cannot read what update_engine tells: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		e.step()
		e.log.Debug("update_engine", "operation", now.Operation, "progress", now.Progress, "version", now.Version)
		switch now.Operation {
		case needsReboot:
			if now.Version != version {
				return fmt.Errorf("update_engine has installed %s: %w", now.Version, errGaveUp)
			}
			return nil
		case idle: // may be what ResetStatus led to
			if begun {
				return errGaveUp
			}
		case reportingError:
			return errGaveUp
		default:
			begun = true
		}
	}
}
