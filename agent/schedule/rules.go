package schedule

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// shortID is how many characters of a host ID fleet accepts in its place.
const shortID = 8

// refused says which rules of a unit exclude each other, "" if none do (fleet's table). Such a unit fits no host.
func refused(u *Unit) string {
	r := u.Requirements
	switch {
	case slices.Contains(r.MachineOf, u.Name):
		return "MachineOf names the unit itself"
	case r.MachineID != "" && len(r.MachineOf) > 0:
		return "MachineID excludes MachineOf"
	case r.MachineID != "" && len(r.Conflicts) > 0:
		return "MachineID excludes Conflicts"
	case r.MachineID != "" && r.Global:
		return "MachineID excludes Global"
	case r.MachineID != "" && len(r.Replaces) > 0:
		return "MachineID excludes Replaces"
	case len(r.MachineOf) > 0 && r.Global:
		return "MachineOf excludes Global"
	case len(r.Conflicts) > 0 && len(r.Replaces) > 0:
		return "Conflicts excludes Replaces"
	case len(r.Replaces) > 0 && r.Global:
		return "Replaces excludes Global"
	case r.Spread != "" && r.Global:
		return "Spread excludes Global"
	case r.Strict && r.Global:
		return "Singleton excludes Global"
	case u.Replicas > 0 && r.Strict:
		return "Replicas excludes Singleton"
	case u.Replicas > 0 && r.Global:
		return "Replicas excludes Global"
	}
	return ""
}

// unholding says why a host cannot promise what a unit asks of hosts that are cut off, after its name, "" if it can.
func unholding(u *Unit, h *Host) string {
	switch {
	case u.Requirements.Strict && !h.Holds:
		return cannotHold
	case u.Requirements.StopCutOff && !h.StopsCutOff:
		return cannotStop
	}
	return ""
}

const cannotStop = "cannot promise that a unit of OnPartition=stop is stopped there when it is cut off: its musterd is too old"

const cannotHold = "cannot promise that a unit of Singleton=strict ends in time: its musterd is too old, or has no guard there"

// idMatches says whether a MachineID means the host: the whole ID, or its first 8 characters.
func idMatches(machineID string, h *Host) bool {
	return machineID == h.ID || len(machineID) == shortID && strings.HasPrefix(h.ID, machineID)
}

// label returns a host's label; `provider` and `host` are its provider's and its own name, whatever its labels say.
func label(h *Host, key string) (string, bool) {
	switch key {
	case "provider":
		return h.Provider, true
	case "host":
		return h.Name, true
	}
	value, ok := h.Labels[key]
	return value, ok
}

// metadataFits says whether a host has, for every key, one of the values.
func metadataFits(metadata map[string][]string, h *Host) bool {
	for key, values := range metadata {
		if value, ok := label(h, key); !ok || !slices.Contains(values, value) {
			return false
		}
	}
	return true
}

// missingLabel names the first key, in order, for which the host has none of the values.
func missingLabel(metadata map[string][]string, h *Host) string {
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		value, ok := label(h, key)
		switch {
		case !ok:
			return fmt.Sprintf("has no label %s", key)
		case !slices.Contains(metadata[key], value):
			return fmt.Sprintf("has %s=%s, not %s", key, value, orList(metadata[key]))
		}
	}
	return ""
}

// describeMetadata renders what a unit asks of labels: role=db, region=eu or us.
func describeMetadata(metadata map[string][]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		parts = append(parts, key+"="+orList(metadata[key]))
	}
	return strings.Join(parts, ", ")
}

func orList(values []string) string {
	values = slices.Clone(values)
	slices.Sort(values)
	return strings.Join(slices.Compact(values), " or ")
}

// appendMetadata appends what is equal for equal metadata and for no others.
func appendMetadata(key []byte, metadata map[string][]string) []byte {
	if len(metadata) == 0 {
		return key
	}
	labels := make([]string, 0, len(metadata))
	for l := range metadata {
		labels = append(labels, l)
	}
	slices.Sort(labels)
	for _, l := range labels {
		values := metadata[l]
		if len(values) > 1 {
			values = slices.Clone(values)
			slices.Sort(values)
			values = slices.Compact(values)
		}
		key = appendText(key, l)
		key = binary.AppendUvarint(key, uint64(len(values)))
		for _, v := range values {
			key = appendText(key, v)
		}
	}
	return key
}

// appendText appends a text with its length, so that no two lists of texts look alike.
func appendText(key []byte, text string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(text))), text...)
}

// nameOf is how a reason calls a host.
func nameOf(h *Host) string {
	if h.Name != "" {
		return h.Name
	}
	return h.ID
}
