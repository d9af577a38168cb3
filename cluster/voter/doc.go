// Package voter runs an etcd server inside musterd, on hosts that vote, and administers the cluster of them: users and
// roles, members, health.
//
// It guarantees mutual TLS 1.3 on both ports (peers must be named muster-peer, clients are etcd users by common name),
// every write on disk before it is acknowledged, and that a voter whose data has gone refuses to start instead of
// voting again on what it had already voted on. It does not decide who shall vote (cluster/membership does, Control
// carries it out) and knows no records but the roster's.
package voter
