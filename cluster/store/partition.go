package store

// Partition is what becomes of a unit when its host is cut off from the store.
type Partition string

// What a unit file may ask for.
const (
	PartitionKeep   Partition = ""       // it goes on
	PartitionStop   Partition = "stop"   // it is stopped when the host's session can no longer be known to live (OnPartition=stop)
	PartitionStrict Partition = "strict" // likewise, and never runs on two hosts, whatever fails (Singleton=strict)
)

// StartedElsewise is UnitState.Reason of a unit that is only loaded on its host and runs, because something else started it.
const StartedElsewise = "loaded, and started by another unit or by somebody on its host"

// SubCutOff is UnitState.Sub of a unit that is stopped because its host has no contact with the store. The word is not
// systemd's.
const SubCutOff = "cut-off"
