// Package lock is the reboot lock: how many hosts of a group may stand still at once, and which.
//
// Each group is a semaphore, a store.LockRecord: a maximum, holders, and a bounded history of who did what and why. The
// functions over it are pure: a value in, a value or a refusal out. Three ways lead to them.
//
//   - Hosts write what they want under their own key (Claim), which is all that their certificates let them write. The
//     scheduling leader reads what all of them want and answers many at once, in the order in which they asked (Decide).
//   - Clients of FleetLock, locksmithctl and operators ask a voter, which tries at once (Keeper) and refuses with a reason.
//     They do not overtake hosts that wait.
//   - Operators force a release. That is written down like everything else.
//
// # What is guaranteed, and why
//
// Holders never exceed the maximum, other than by an operator who lowers it. Every change of a group is computed from one
// revision of its record and committed only while the record still is of that revision, whoever commits it: a leader, one
// that was deposed and does not know, or a voter for a client. So the changes of a group form one sequence, each link of
// which kept to the maximum, and neither a partition, a pause, a lost answer nor a clock can add another. No decision looks
// at a clock; times are for people. Nothing is ever released because time has passed.
//
// A host holds the lock if its GrantRecord names its boot and the ticket with which it asked. The grant is written and
// deleted in the commits that change the holders. Tickets only grow, and so tell a grant from an older one of the same host
// and boot: a leader may release, late, what a host gave back, although the host has asked again since; what it releases
// then is the old ticket's, and the host knows that it does not hold with the new one. A host that hears nothing holds
// nothing. One that is about to stop asks once more (Claim.Holds, a linearizable read).
//
// A hold of a host ends when the host itself says that it is healthy and does not need it (RebootRecord, with the ticket of
// the hold or a later one: an older record is from before the hold). That it has booted is not enough. A host that never
// comes back keeps its place until it has left the roster, which follows the provider's word that it is gone, or until an
// operator forces it. So a broken image stops a rollout rather than eating its way through a fleet.
//
// A voter gets the lock of its group only if the other voters that answer and hold no lock are still a quorum, if no voter
// of another provider is out, and, should it lead etcd, if no other voter waits. Two voters are never given at once by
// commits that do not know of each other: each such commit also changes the TurnRecord, at the revision as of which all
// groups were read. What a voter does on its own while another reboots, as crashing, no lock prevents.
//
// # What it does not know
//
// It does not know whether a host really stands still, nor who is behind a client's name. A store that was restored from a
// backup has forgotten holders since then. A voter of a cluster of one or two is let go only where the cluster file says so
// (`update.allow_outage`): its reboot costs quorum, and nothing is decided until it is back.
package lock
