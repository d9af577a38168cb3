// Package health asks the units of a host whether they are well, as their files say (HealthCheck= in [X-Muster]): over
// HTTP, by a TCP connection, or by a command that runs like the unit itself.
//
// A unit begins as starting. It is healthy after one check that succeeds, and unhealthy after as many failures in a row as
// HealthRetries= says; until the first success those of HealthStartPeriod= after the start do not count, and checks come
// once a second. What follows from a check is pure (Next); Checker makes the checks, a few at a time however many units
// there are, and off by a random part of the interval so that they do not come together.
//
// The package writes nothing and restarts nothing: who uses it reports and acts.
package health
