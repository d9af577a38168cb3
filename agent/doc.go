// Package agent is everything on a host: it joins the cluster, keeps the host's place in it, runs the units that are
// scheduled here, reports how they do, and serves the API. On hosts that vote it also runs the store and takes part in
// the leadership (agent/control).
//
// It guarantees that units do not depend on it: they go on when the agent ends, when the store is away or empty, and
// when both come back. A unit is stopped only because a schedule of this host that exists says so. It knows no provider:
// what it is told comes from the host's configuration (join.Config), the join and the store.
package agent
