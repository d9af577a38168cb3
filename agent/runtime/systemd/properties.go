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
	for name, value := range told {
		if into := p.field(name); into != nil {
			// Another type than is documented leaves what there was.
			_ = dbus.Store([]any{value.Value()}, into)
		}
	}
}

// field is where the property of a name is, nil for one that the status does not need.
func (p *properties) field(name string) any {
	switch name {
	case "LoadState":
		return &p.LoadState
	case "ActiveState":
		return &p.ActiveState
	case "SubState":
		return &p.SubState
	case "InactiveExitTimestampMonotonic":
		return &p.InactiveExitMonotonic
	case "ConditionResult":
		return &p.Condition
	case "ConditionTimestamp":
		return &p.ConditionTime
	case "AssertResult":
		return &p.Assert
	case "AssertTimestamp":
		return &p.AssertTime
	case "Result":
		return &p.Result
	case "ExecMainCode":
		return &p.MainCode
	case "ExecMainStatus":
		return &p.MainStatus
	case "ExecMainStartTimestampMonotonic":
		return &p.MainStartedMonotonic
	case "ExecMainExitTimestampMonotonic":
		return &p.MainEndedMonotonic
	}
	if at := p.time(name); at != nil {
		return at
	}
	return nil
}

func (p *properties) time(name string) *uint64 {
	switch name {
	case "InactiveExitTimestamp":
		return &p.InactiveExit
	case "ActiveEnterTimestamp":
		return &p.ActiveEnter
	case "ActiveExitTimestamp":
		return &p.ActiveExit
	case "InactiveEnterTimestamp":
		return &p.InactiveEnter
	}
	return nil
}

// ofType are the properties of a unit's type that its status needs, ofUnit, with the one that tells since when, the
// others. They are asked for one by one: to tell all of them systemd would look into control groups and for files.
var (
	ofUnit = []string{"InactiveExitTimestampMonotonic"}
	ofType = []string{
		"Result", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic",
	}
)

// atRest says whether nothing of the unit runs or is about to.
func (p *properties) atRest() bool {
	return p.ActiveState == "inactive" || p.ActiveState == "failed" || p.ActiveState == ""
}

// since is when the unit became what it is.
func (p *properties) since() time.Time {
	at := p.time(sinceProperty(p.ActiveState))
	if *at == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(*at))
}

// sinceProperty is the one that tells when a unit became what it is, as systemctl status has it.
func sinceProperty(activeState string) string {
	switch activeState {
	case "active", "reloading", "refreshing", "maintenance":
		return "ActiveEnterTimestamp"
	case "activating":
		return "InactiveExitTimestamp"
	case "deactivating":
		return "ActiveExitTimestamp"
	}
	return "InactiveEnterTimestamp"
}

// started is when the unit was started last, by CLOCK_MONOTONIC in microseconds. systemd starts a service again without
// its having been inactive in between (RestartMode=direct), which only its main process tells.
func (p *properties) started() uint64 { return max(p.InactiveExitMonotonic, p.MainStartedMonotonic) }
