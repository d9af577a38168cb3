// Package partition decides what a host that may be cut off from the store still runs. It is pure: it reads no clock,
// keeps no timer and knows no unit; who uses it gives the readings of one clock that never goes back, and that goes on
// while the machine sleeps (CLOCK_BOOTTIME). A wall clock, however it is set, is of no consequence.
//
// # What it guarantees
//
// A unit of Singleton=strict runs on a host only while the host holds its Contact: from the moment the store may have
// heard of it (a renewal of its session counts from when it was sent) for no longer than its session lives. The store
// believes in the session at least as long, and the scheduler lets Times.Release pass after it has seen the session gone,
// in case the store ended it by mistake. So of what the two believe there is never an overlap.
//
// The store's word is law. While a host's schedule, read after the host was announced as alive, has a strict unit, nobody
// else runs it: the scheduler takes it out only when the host has told that it stopped it, or when the host has been
// without a session for Times.Release, in a commit which demands that it still is. So a renewal of a new session counts
// only once the schedule was read after its announcement (Scheduled), and a session that the store says is gone lets
// strict units go on only for the moments that this takes (Lost).
//
// # What it cannot promise
//
// A machine that is frozen as a whole, its clocks with it (a paused virtual machine), cannot know when it wakes that its
// session has ended. Its strict units run from then until the next renewal is answered, at most two fifths of the session's
// life later, and they are killed, at most a quarter after that. Only whatever they work on could refuse them: a lease
// cannot, without a fence at the resource. If the clocks go on (suspend, a frozen cgroup), the guard's timer has run out
// by the time it wakes, and it kills at once.
package partition

import "time"

// Times follow from how long a session outlives its holder's last sign of life (control.SessionTTL).
type Times struct{ TTL time.Duration }

// Kill is how long after the last renewal was sent the last process of a strict unit is killed: with the time that
// killing takes to spare until the session ends. It is stopped politely before that, for its TimeoutStopSec, but for a
// quarter of the session's life at most, so that a store that is away for moments, while its voters elect a leader, stops
// nothing.
func (t Times) Kill() time.Duration { return t.TTL - t.TTL/16 }

// Release is how long a scheduler that has seen a host without a session waits before it takes the host's strict units
// elsewhere: as long as the host may hold on to them after the last moment at which the session was still there.
func (t Times) Release() time.Duration { return t.TTL }

// verify is how long strict units go on at most when the store has said that the session is gone, until the host has
// begun another one and read its schedule.
func (t Times) verify() time.Duration { return t.TTL / 4 }
