// Package voter runs an etcd server inside musterd, on hosts that vote, and administers the cluster of them: access,
// members, health.
//
// It guarantees mutual TLS 1.3 on both ports (peers must be named muster-peer, clients are told apart by common name),
// every write on disk before it is acknowledged, and that a voter whose data has gone refuses to start instead of
// voting again on what it had already voted on. It does not decide who shall vote (cluster/membership does, Control
// carries it out) and knows no records but the roster's.
//
// Figures, on two cores and a disk that syncs in 0.5 ms (BenchmarkForm, BenchmarkEnsureAuth): three members from nothing
// to the first write 0.3 s; access of three hosts 0.1 s, and of 97 more some
// milliseconds; a lease of 5 s of a killed leader over after 6.0 to 6.3 s; a voter's process 42 MiB resident when idle, 20 MiB of them its own and the rest the binary.
package voter
