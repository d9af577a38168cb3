package systemd

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Names on the bus (org.freedesktop.systemd1(5)).
const (
	busName     = "org.freedesktop.DBus"
	systemdName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	unitsPath   = managerPath + "/unit"

	managerInterface    = systemdName + ".Manager"
	unitInterface       = systemdName + ".Unit"
	propertiesInterface = "org.freedesktop.DBus.Properties"
)

// Errors of systemd, by their names on the bus.
const (
	noSuchUnit       = systemdName + ".NoSuchUnit"
	noSuchProperty   = busName + ".Error.UnknownProperty"
	unknownInterface = busName + ".Error.UnknownInterface"
)

// loadErrors are what systemd answers when a unit's file is no good.
var loadErrors = []string{
	noSuchUnit, systemdName + ".BadUnitSetting", systemdName + ".LoadFailed", systemdName + ".UnitMasked",
}

// bus is a connection to systemd. Calls and signals share one socket, so that what a signal tells is known before the
// answer to a call that systemd gave later.
type bus struct {
	*systemd.Conn
	conn *dbus.Conn
}

// dispatcher hands every signal to a function, one at a time, in the goroutine that reads from the connection. It
// implements dbus.SignalHandler. The channel that go-systemd registers stays empty: its own dispatch knows no order
// between signals and answers.
type dispatcher struct {
	handle func(*dbus.Signal)

	mu    sync.Mutex
	idle  []chan<- *dbus.Signal // guarded by mu
	ended bool                  // guarded by mu
}

// DeliverSignal implements dbus.SignalHandler.
func (d *dispatcher) DeliverSignal(_, _ string, s *dbus.Signal) { d.handle(s) }

// AddSignal implements dbus.SignalRegistrar.
func (d *dispatcher) AddSignal(c chan<- *dbus.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		close(c)
		return
	}
	d.idle = append(d.idle, c)
}

// RemoveSignal implements dbus.SignalRegistrar.
func (d *dispatcher) RemoveSignal(c chan<- *dbus.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = slices.DeleteFunc(d.idle, func(other chan<- *dbus.Signal) bool { return other == c })
}

// Terminate implements dbus.Terminator: it ends go-systemd's goroutine.
func (d *dispatcher) Terminate() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.idle {
		close(c)
	}
	d.idle, d.ended = nil, true
}

// dial connects to systemd and has it send signals. The connection ends with ctx.
func dial(ctx context.Context, address string, handle func(*dbus.Signal)) (*bus, error) {
	conn, err := dbus.Dial(address, dbus.WithContext(ctx), dbus.WithSignalHandler(&dispatcher{handle: handle}))
	if err != nil {
		return nil, err
	}
	b := &bus{conn: conn}
	if err := b.open(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return b, nil
}

func (b *bus) open(ctx context.Context) (err error) {
	external := dbus.AuthExternal(strconv.Itoa(os.Getuid()))
	if err := b.conn.Auth([]dbus.Auth{external}); err != nil {
		return err
	}
	if err := b.conn.Hello(); err != nil {
		return err
	}
	// go-systemd wants two connections, one for its own dispatch of signals, which has none to dispatch here.
	b.Conn, err = systemd.NewConnection(func() (*dbus.Conn, error) { return b.conn, nil })
	if err != nil {
		return err
	}
	for _, rule := range []string{
		"type='signal',sender='" + systemdName + "',path_namespace='" + unitsPath + "'," +
			"interface='" + propertiesInterface + "',member='PropertiesChanged'",
		"type='signal',sender='" + systemdName + "',path='" + managerPath + "',interface='" + managerInterface + "',member='Reloading'",
		"type='signal',sender='" + busName + "',member='NameOwnerChanged',arg0='" + systemdName + "'",
	} {
		if err := b.conn.BusObject().CallWithContext(ctx, busName+".AddMatch", 0, rule).Err; err != nil {
			return err
		}
	}
	return b.subscribe(ctx)
}

// subscribe has systemd send signals at all.
func (b *bus) subscribe(ctx context.Context) error {
	err := b.call(ctx, "Subscribe").Err
	if isError(err, systemdName+".AlreadySubscribed") {
		return nil
	}
	return err
}

func (b *bus) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return b.conn.Object(systemdName, managerPath).CallWithContext(ctx, managerInterface+"."+method, 0, args...)
}

// has says whether systemd has a unit in memory.
func (b *bus) has(ctx context.Context, name string) (bool, error) {
	err := b.call(ctx, "GetUnit", name).Err
	if isError(err, noSuchUnit) {
		return false, nil
	}
	return err == nil, err
}

// property asks for one of a unit.
func (b *bus) property(ctx context.Context, name, iface, property string, into any) error {
	call := b.conn.Object(systemdName, objectPath(name)).CallWithContext(ctx, propertiesInterface+".Get", 0, iface, property)
	var value dbus.Variant
	if err := call.Store(&value); err != nil {
		return err
	}
	return dbus.Store([]any{value.Value()}, into)
}

// objectPath is that of a unit on the bus.
func objectPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(unitsPath + "/" + systemd.PathBusEscape(name))
}

// typeInterface is the last part of the name of the interface that a unit's type has on the bus: Service for web.service.
func typeInterface(name string) string {
	suffix := strings.TrimPrefix(path.Ext(name), ".")
	if suffix == "" {
		return ""
	}
	return strings.ToUpper(suffix[:1]) + suffix[1:]
}

// isError says whether an error has one of the names.
func isError(err error, names ...string) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	return slices.Contains(names, e.Name)
}
