// Package omaha answers update_engine of Flatcar hosts, which asks for releases by Omaha, protocol 3.0: POST /v1/update/ with a
// description of the machine, what it runs and what became of the last release (COMPAT: Omaha).
//
// Answer is pure: from a request, and a choice of what a machine may have, follow the response and what is worth remembering of
// the machine. Server makes that choice from a repository of releases, by channel and release.Policy, and Ledger remembers,
// within bounds, so that canaries and failures count.
//
// A machine is believed what it says of itself, as the protocol has no credentials: whoever reaches the server can make it count
// machines, successes and failures that are none, and so hold up or hasten a rollout, and nothing else. What is downloaded is
// signed, which update_engine checks. The package does not know the cluster: machines that ask here need not be hosts of one.
package omaha
