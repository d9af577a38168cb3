package systemd

import (
	"time"

	"github.com/godbus/dbus/v5"
)

// properties are those of a unit that its status is made of, with the names that they have on the bus
// (org.freedesktop.systemd1(5)). Times are microseconds, of the clock or, Monotonic, of CLOCK_MONOTONIC; 0 is never.
type properties struct {
	LoadState string
	LoadError string // the message

	ActiveState string
	SubState    string

	InactiveExit, ActiveEnter, ActiveExit, InactiveEnter uint64
	InactiveExitMonotonic                                uint64

	Condition, Assert         bool // what they came to
	ConditionTime, AssertTime uint64

	// Of the unit's type.
	Result               string
	MainCode, MainStatus int32 // of the main process: CLD_* of waitid(2), 0 for none; status or signal
	MainStartedMonotonic uint64
	MainEndedMonotonic   uint64 // 0 while it runs
}

// merge takes over what systemd told, whatever interface of the unit it is of.
func (p *properties) merge(told map[string]dbus.Variant) {
	for name, into := range p.byName() {
		value, ok := told[name]
		if !ok {
			continue
		}
		// Another type than is documented leaves what there was.
		_ = dbus.Store([]any{value.Value()}, into)
	}
}

func (p *properties) byName() map[string]any {
	return map[string]any{
		"LoadState":                       &p.LoadState,
		"ActiveState":                     &p.ActiveState,
		"SubState":                        &p.SubState,
		"InactiveExitTimestamp":           &p.InactiveExit,
		"InactiveExitTimestampMonotonic":  &p.InactiveExitMonotonic,
		"ActiveEnterTimestamp":            &p.ActiveEnter,
		"ActiveExitTimestamp":             &p.ActiveExit,
		"InactiveEnterTimestamp":          &p.InactiveEnter,
		"ConditionResult":                 &p.Condition,
		"ConditionTimestamp":              &p.ConditionTime,
		"AssertResult":                    &p.Assert,
		"AssertTimestamp":                 &p.AssertTime,
		"Result":                          &p.Result,
		"ExecMainCode":                    &p.MainCode,
		"ExecMainStatus":                  &p.MainStatus,
		"ExecMainStartTimestampMonotonic": &p.MainStartedMonotonic,
		"ExecMainExitTimestampMonotonic":  &p.MainEndedMonotonic,
	}
}

// ofType are the properties of a service that are asked for one by one: all of them would have systemd look into
// control groups.
var ofType = []string{"Result", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic"}

// atRest says whether nothing of the unit runs or is about to.
func (p *properties) atRest() bool {
	return p.ActiveState == "inactive" || p.ActiveState == "failed" || p.ActiveState == ""
}

// since is when the unit became what it is, as systemctl status tells.
func (p *properties) since() time.Time {
	var at uint64
	switch p.ActiveState {
	case "active", "reloading", "refreshing", "maintenance":
		at = p.ActiveEnter
	case "activating":
		at = p.InactiveExit
	case "deactivating":
		at = p.ActiveExit
	default:
		at = p.InactiveEnter
	}
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(at))
}

// started is when the unit was started last, by CLOCK_MONOTONIC in microseconds. systemd starts a service again without
// its having been inactive in between (RestartMode=direct), which only its main process tells.
func (p *properties) started() uint64 { return max(p.InactiveExitMonotonic, p.MainStartedMonotonic) }
