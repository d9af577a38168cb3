package fleetapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
)

// The wire types (COMPAT: fleet API). Every field is omitted when it is empty.

// Unit is one unit. MachineID and CurrentState are of where the unit is; a global unit has neither.
type Unit struct {
	Name         string       `json:"name,omitempty"`
	Options      []UnitOption `json:"options,omitempty"` // in the order of the file
	DesiredState string       `json:"desiredState,omitempty"`
	CurrentState string       `json:"currentState,omitempty"`
	MachineID    string       `json:"machineID,omitempty"`
}

// UnitOption is one assignment of a unit file.
type UnitOption struct {
	Section string `json:"section,omitempty"`
	Name    string `json:"name,omitempty"`
	Value   string `json:"value,omitempty"`
}

// UnitState is what systemd says of a unit on a machine.
type UnitState struct {
	Name      string `json:"name,omitempty"`
	Hash      string `json:"hash,omitempty"` // of the options that the machine has, see unitfile.File.Hash
	MachineID string `json:"machineID,omitempty"`
	Load      string `json:"systemdLoadState,omitempty"`
	Active    string `json:"systemdActiveState,omitempty"`
	Sub       string `json:"systemdSubState,omitempty"`
}

// Machine is a live host.
type Machine struct {
	ID        string            `json:"id,omitempty"`
	PrimaryIP string            `json:"primaryIP,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

// UnitPage is a page of units.
type UnitPage struct {
	Units []Unit `json:"units,omitempty"`
	Next  string `json:"nextPageToken,omitempty"`
}

// UnitStatePage is a page of states.
type UnitStatePage struct {
	States []UnitState `json:"states,omitempty"`
	Next   string      `json:"nextPageToken,omitempty"`
}

// MachinePage is a page of machines.
type MachinePage struct {
	Machines []Machine `json:"machines,omitempty"`
	Next     string    `json:"nextPageToken,omitempty"`
}

// Error is the body of every answer that is not 2xx, below "error".
type Error struct {
	Code    int    `json:"code"` // of HTTP
	Message string `json:"message"`
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

func refuse(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, format, args...)
}

// The states of a unit in DesiredState and CurrentState.
const (
	stateInactive = "inactive"
	stateLoaded   = "loaded"
	stateLaunched = "launched"
)

// optionsOf renders a unit file as fleet did.
func optionsOf(f unitfile.File) []UnitOption {
	options := make([]UnitOption, len(f.Options))
	for i, o := range f.Options {
		options[i] = UnitOption{Section: o.Section, Name: o.Name, Value: o.Value}
	}
	return options
}

// fileOf is the unit file with these options. As text it reads as the same options again, or they are at fault: a line
// break in a name would make something else of them.
func fileOf(name string, options []UnitOption) (unitfile.File, error) {
	var f unitfile.File
	for _, o := range options {
		f.Options = append(f.Options, unitfile.Option{Section: o.Section, Name: o.Name, Value: o.Value})
	}
	parsed, _, err := unitfile.Parse(name, f.Bytes())
	if err != nil {
		return unitfile.File{}, badRequest("cannot use the options: %v", err)
	}
	if i := firstDifference(optionsOf(parsed), options); i >= 0 {
		return unitfile.File{}, badRequest("cannot use the options: in a unit file, number %d of them reads as something else", i+1)
	}
	return parsed, nil
}

// firstDifference is the first index at which options differ, but for white space around values, or -1.
func firstDifference(a, b []UnitOption) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i].Section != b[i].Section || a[i].Name != b[i].Name ||
			strings.TrimSpace(a[i].Value) != strings.TrimSpace(b[i].Value) {
			return i
		}
	}
	return -1
}
