// Package simulation runs a whole fleet in one process and in virtual time, breaks it in every way that a seed decides,
// and checks after each step what muster promises of units (S2) and of their return (L1 to L3).
//
// What runs is the real scheduling leader with its duties, the voters' code for what operators want (agent/control), and the
// real managers of hosts (agent.Managers). Only what lies around them is made here: the network to the store, leases, the
// runtime with its units and the process that guards strict ones, and the faults. What a guard does is guard.Look's
// decision, and the store is store.Memory.
//
// A machine that is paused stands still with all of its processes, its guard too, while its clock goes on: as in suspend. A
// virtual machine whose clock stands still as well is what agent/partition cannot promise anything for, and is not here.
//
// A seed decides everything. Go runs goroutines in any order, so this package lets nothing depend on it: whatever a
// process asks of the outside waits until all processes have come to rest, and is then dealt with in an order of its own,
// at a moment that the seed decides. A run must be in a bubble of testing/synctest.
//
// It does not know etcd, sockets or real processes; labs cut those off from each other.
package simulation
