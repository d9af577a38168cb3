// Package control is what voters do for the cluster, beyond being hosts themselves: they write down what operators want
// (Admin), admit hosts (Admit), and one of them at a time, the scheduling leader, decides where units run and keeps
// records and etcd's membership in order (Lead).
//
// Every write is guarded: an operator's by the revision it was decided from, the leader's by its leadership besides, so
// that a leader that was frozen and wakes up changes nothing. The decisions themselves are pure and live elsewhere
// (agent/schedule, cluster/membership, cluster/join).
package control
