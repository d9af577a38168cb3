// Package fleetapi serves fleet's API v1 over the cluster, so that fleetctl and other programs written for fleet work
// unchanged: units, their states, machines, the discovery document, on a unix socket and, if wanted, on TCP.
//
// It translates between fleet's words and the cluster's records and keeps no state of its own. Status codes, omitted
// fields, page tokens and messages that clients of fleet rely on are those of COMPAT, section 1; where the old server was
// wrong (a missing state, an unknown desired state) the answer is the proper one. What was submitted and who is a member is
// read linearizably; where units are and how they do is at most a moment old. While the store is away every question and
// every change is answered with 503.
//
// Nobody is authenticated: who can connect may command. The package does not know who listens where, how changes reach
// a voter, or how units are scheduled and run.
package fleetapi
