package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrVersion says that a record was written by a newer muster. The remedy is to update the reader.
var ErrVersion = errors.New("record of an unknown version")

// record is a pointer to a record of the key space; header gives its version field.
type record[T any] interface {
	*T
	header() *int
}

func (r *Cluster) header() *int         { return &r.V }
func (r *RosterRecord) header() *int    { return &r.V }
func (r *Token) header() *int           { return &r.V }
func (r *HostRecord) header() *int      { return &r.V }
func (r *Alive) header() *int           { return &r.V }
func (r *UnitRecord) header() *int      { return &r.V }
func (r *ScheduleRecord) header() *int  { return &r.V }
func (r *StatesRecord) header() *int    { return &r.V }
func (r *OrderRecord) header() *int     { return &r.V }
func (r *RebalanceRecord) header() *int { return &r.V }
func (r *VotersRecord) header() *int    { return &r.V }

// versioned is a record that has more than the first version.
type versioned interface {
	needs() int // the first version that can say what it says
	newest() int
}

func (r *ScheduleRecord) newest() int { return promiseVersion }

func (r *ScheduleRecord) needs() int {
	switch {
	case slices.ContainsFunc(r.Units, func(u ScheduledUnit) bool { return u.Partition != PartitionKeep || u.Leaving != 0 }):
		return promiseVersion
	case r.Part || slices.ContainsFunc(r.Units, func(u ScheduledUnit) bool { return u.Instances != nil }):
		return packedVersion
	}
	return RecordVersion
}

func (r *StatesRecord) newest() int { return packedVersion }

func (r *StatesRecord) needs() int {
	if r.Part || slices.ContainsFunc(r.Units, func(u UnitState) bool { return u.Instances != nil }) {
		return packedVersion
	}
	return RecordVersion
}

func (r *UnitRecord) newest() int { return boundVersion }

func (r *UnitRecord) needs() int {
	if r.Partition != PartitionKeep || r.Rollout.Active() {
		return boundVersion
	}
	return RecordVersion
}

// Marshal encodes a record and stamps it with the first version that can say what it says, whatever its V says.
func Marshal[T any, P record[T]](r T) ([]byte, error) {
	*P(&r).header() = RecordVersion
	if v, ok := any(&r).(versioned); ok {
		*P(&r).header() = v.needs()
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode record: %w", err)
	}
	return data, nil
}

// Unmarshal decodes a record. One of a version that this muster does not know is ErrVersion, and not a riddle, though its
// other fields may have changed their shape. Unknown fields are ignored: they are how a version grows.
func Unmarshal[T any, P record[T]](data []byte) (T, error) {
	var r, none T
	bad := json.Unmarshal(data, &r)
	version := *P(&r).header()
	if bad != nil { // what of r is filled is left to chance
		var only struct {
			V int `json:"v"`
		}
		if err := json.Unmarshal(data, &only); err != nil {
			return none, fmt.Errorf("cannot read record: %w", err)
		}
		version = only.V
	}
	newest := RecordVersion
	if v, ok := any(&r).(versioned); ok {
		newest = v.newest()
	}
	switch {
	case version < RecordVersion || version > newest:
		return none, fmt.Errorf("cannot read record: %w: %d, this muster knows %d; update it", ErrVersion, version, newest)
	case bad != nil:
		return none, fmt.Errorf("cannot read record: %w", bad)
	}
	return r, nil
}

// RosterKey is where a member's RosterRecord is.
func RosterKey(hostID string) string { return PrefixRoster + hostID }

// TokenKey is where the Token with the given hash (SHA-256 of the secret, hexadecimal) is.
func TokenKey(hash string) string { return PrefixTokens + hash }

// HostKey is where a host's HostRecord is.
func HostKey(hostID string) string { return PrefixHosts + hostID }

// AliveKey is where a host's Alive is while its session lives.
func AliveKey(hostID string) string { return PrefixAlive + hostID }

// UnitKey is where a unit's UnitRecord is.
func UnitKey(name string) string { return PrefixUnits + name }

// FileSum is the name of a unit file's contents: their SHA-256, hexadecimal.
func FileSum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// FileKey is where the unit file with the given SHA-256 (hexadecimal) is.
func FileKey(sum string) string { return PrefixFiles + sum }

// ScheduleKey is where a host's ScheduleRecord is, the first if there are several.
func ScheduleKey(hostID string) string { return PrefixSchedule + hostID }

// PartKey is where a part of a host's schedule or states is, whose first part, 0, is at ScheduleKey or StatesKey.
func PartKey(first string, part int) string {
	if part == 0 {
		return first
	}
	return first + "/" + strconv.Itoa(part)
}

// partOf takes PartKey's result apart.
func partOf(prefix, key string) (hostID string, part int, ok bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || rest == "" {
		return "", 0, false
	}
	hostID, number, isPart := strings.Cut(rest, "/")
	if !isPart {
		return hostID, 0, true
	}
	part, err := strconv.Atoi(number)
	return hostID, part, err == nil && part > 0 && strconv.Itoa(part) == number
}

// StatesKey is where a host's StatesRecord is, the first if there are several.
func StatesKey(hostID string) string { return PrefixStates + hostID }

// KeyName returns what follows prefix in key: the host ID, unit name or hash. ok is false when key is elsewhere, is the
// prefix itself, or lies deeper.
func KeyName(prefix, key string) (name string, ok bool) {
	name, ok = strings.CutPrefix(key, prefix)
	if !ok || name == "" || strings.Contains(name, "/") {
		return "", false
	}
	return name, true
}
