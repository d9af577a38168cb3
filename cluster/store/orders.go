package store

import (
	"time"

	"github.com/musterhq/muster/cluster/instances"
)

// Order is what operators want of a host, beyond that it is there.
type Order string

// The orders. A host without one takes units.
const (
	OrderCordon Order = "cordon" // keeps its units and gets no more
	OrderDrain  Order = "drain"  // gives its units to others
)

// OrderRecord is an order for one host. There is none for a host that takes units.
type OrderRecord struct {
	V     int       `json:"v"`
	Order Order     `json:"order"`
	Since time.Time `json:"since"`
	// Deadline is, of a drain, until when units that fit nowhere else keep running there. Nil: for as long as it takes.
	Deadline *time.Time `json:"deadline,omitempty"`
	// Update is that the leader ordered it since the host is about to reboot, and Was what operators had ordered before.
	Update bool  `json:"update,omitempty"`
	Was    Order `json:"was,omitempty"`
}

// OrderKey is where a host's OrderRecord is, if it has one.
func OrderKey(hostID string) string { return PrefixOrders + hostID }

// RebalanceRecord is how far rebalancing is: moving units to hosts that have fewer, some at a time. The leader carries it
// out; operators, through any voter, and the leader, for hosts that join, ask for it.
type RebalanceRecord struct {
	V int `json:"v"`
	// Seen is the revision up to which hosts that join have been taken into account.
	Seen int64 `json:"seen"`
	// Left is how many moves may still be made, 0 when no rebalancing is under way.
	Left int `json:"left,omitempty"`
	// Go is set when what moved last runs again and the next moves may be made.
	Go bool `json:"go,omitempty"`
	// Cause says why there is any rebalancing: "host node-4 joined".
	Cause string `json:"cause,omitempty"`
	// Moved is what moved last, and At when. It stays when all is done, to be explained.
	Moved []MovedUnit `json:"moved,omitempty"`
	At    time.Time   `json:"at,omitzero"`
	// Stopped says why rebalancing ended before the load was even, "" if it did not.
	Stopped string `json:"stopped,omitempty"`
}

// MovedUnit is a unit, or instances of a template, that rebalancing moved between two hosts.
type MovedUnit struct {
	Unit      string        `json:"unit"`
	Instances instances.Set `json:"i,omitempty"`
	From      string        `json:"from"` // host ID
	To        string        `json:"to"`   // host ID
	Reason    string        `json:"reason"`
}

// DefaultRebalance is Cluster.RebalancePercent where a cluster's record says nothing.
const DefaultRebalance = 5

// RebalanceShare is RebalancePercent, or its default.
func (c Cluster) RebalanceShare() int {
	if c.RebalancePercent == nil {
		return DefaultRebalance
	}
	return *c.RebalancePercent
}
