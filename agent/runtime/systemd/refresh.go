package systemd

import (
	"context"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sync/errgroup"
)

// questions is of how many units systemd is asked at once. It answers one after the other, but need not wait for the next.
const questions = 16

// refresh asks systemd how units are, and in detail for those that are not as they were seen last, or for all that ever
// ran. What signals told meanwhile is newer and stays.
func (rt *Runtime) refresh(ctx context.Context, b *bus, everything bool, names ...string) (map[string]systemd.UnitStatus, error) {
	if len(names) == 0 {
		return nil, nil
	}
	seen := rt.signalsSeen(names)
	list, err := b.ListUnitsByNamesContext(ctx, names)
	if err != nil {
		return nil, err
	}
	there := make(map[string]systemd.UnitStatus, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(questions)
	for _, status := range list {
		there[status.Name] = status
		g.Go(func() error {
			told, err := rt.ask(ctx, b, everything, status)
			if err != nil {
				return fmt.Errorf("cannot see how %s is: %w", status.Name, err)
			}
			rt.takeOver(status, told, seen[status.Name])
			return nil
		})
	}
	return there, g.Wait()
}

func (rt *Runtime) signalsSeen(names []string) map[string]int {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	seen := make(map[string]int, len(names))
	for _, name := range names {
		if u := rt.units[name]; u != nil {
			seen[name] = u.seen
		}
	}
	return seen
}

// ask asks for what the list of units does not tell.
func (rt *Runtime) ask(ctx context.Context, b *bus, everything bool, status systemd.UnitStatus) (map[string]dbus.Variant, error) {
	told := map[string]dbus.Variant{}
	var same, explained bool
	if err := rt.with(status.Name, func(u *unit) {
		same = u.ActiveState == status.ActiveState && u.SubState == status.SubState
		explained = u.LoadState == status.LoadState
	}); err != nil {
		return told, nil //nolint:nilerr // it was unloaded meanwhile
	}
	if !explained && status.LoadState != loaded && status.LoadState != notFound {
		var problem struct{ Name, Message string }
		if err := b.property(ctx, status.Name, unitInterface, "LoadError", &problem); err != nil {
			return nil, err
		}
		told[loadError] = dbus.MakeVariant(rt.explain(ctx, status.Name, problem.Message))
	}
	if neverRan := status.ActiveState == "inactive"; neverRan || same && !everything {
		return told, nil
	}
	return told, b.askMore(ctx, status, told)
}

// loadError is the message of the property, where there is one.
const loadError = "LoadError"

// askMore asks for what the status of a unit needs that runs, has run or failed.
func (b *bus) askMore(ctx context.Context, status systemd.UnitStatus, told map[string]dbus.Variant) error {
	for _, name := range append(ofUnit[:len(ofUnit):len(ofUnit)], sinceProperty(status.ActiveState)) {
		p, err := b.GetUnitPropertyContext(ctx, status.Name, name)
		if err != nil {
			return err
		}
		told[name] = p.Value
	}
	for _, name := range ofType {
		p, err := b.GetUnitTypePropertyContext(ctx, status.Name, typeInterface(status.Name), name)
		if isError(err, noSuchProperty, unknownInterface) {
			continue // not every type has it
		}
		if err != nil {
			return err
		}
		told[name] = p.Value
	}
	return nil
}

// takeOver notes what systemd answered. The load state, of which no signal tells, always counts.
func (rt *Runtime) takeOver(status systemd.UnitStatus, told map[string]dbus.Variant, seen int) {
	_ = rt.with(status.Name, func(u *unit) {
		if why, ok := told[loadError]; ok || u.LoadState != status.LoadState {
			u.LoadError, _ = why.Value().(string)
		}
		u.LoadState = status.LoadState
		if u.seen != seen {
			return
		}
		u.merge(told)
		u.ActiveState, u.SubState = status.ActiveState, status.SubState
		if !u.failing() {
			u.ran = nil
		}
	})
}

// askWhy asks for the commands of units whose failure only they explain.
func (rt *Runtime) askWhy(ctx context.Context, b *bus) error {
	begun := map[string]uint64{}
	rt.mu.Lock()
	for name, u := range rt.units {
		if u.barred == "" && u.ran == nil && u.needsCommands() {
			begun[name] = u.InactiveExitMonotonic
		}
	}
	rt.mu.Unlock()
	for name, when := range begun {
		ran := commands{}
		for _, setting := range append([]string{mainSetting}, controlSettings...) {
			list, err := b.executions(ctx, name, setting)
			if err != nil {
				return err
			}
			ran[setting] = list
		}
		_ = rt.with(name, func(u *unit) {
			if u.needsCommands() && u.InactiveExitMonotonic == when {
				u.ran = ran
			}
		})
	}
	return nil
}

// executions asks how the commands of a setting ended: a(sasbttttuii), that is path, argv, whether failure is ignored,
// four times, PID, code and status.
func (b *bus) executions(ctx context.Context, name, setting string) ([]execution, error) {
	var told []struct {
		Path                                             string
		Argv                                             []string
		Ignore                                           bool
		Started, StartedMonotonic, Ended, EndedMonotonic uint64
		PID                                              uint32
		Code, Status                                     int32
	}
	err := b.property(ctx, name, systemdName+"."+typeInterface(name), setting, &told)
	if isError(err, noSuchProperty, unknownInterface) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []execution
	for _, e := range told {
		if !e.Ignore {
			list = append(list, execution{path: e.Path, code: e.Code, status: e.Status})
		}
	}
	return list, nil
}
