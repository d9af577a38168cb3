// Package systemd runs units with the systemd of the host: over D-Bus, with the journal for their logs. It is the runtime
// of real hosts, and of those booted with systemd-nspawn.
//
// # What it guarantees
//
// Only units that muster wrote are listed or touched. A unit that the host has by itself, of the same name, is left alone:
// the one that was to be loaded is listed with the load state "error" and the path that is in its way.
//
// Units outlive the agent, as they are systemd's. A new Runtime finds them, with their states. They do not outlive a
// boot: all files are below /run, so that a host that was away for a long time starts nothing that runs elsewhere by
// now. What is to run after a boot is for the agent to say, from the schedule that it keeps.
//
// Nothing is polled. systemd tells of every change, which is taken into a copy of what it knows, in the order in which it
// was told; List asks nothing of systemd but why a unit failed. When the bus goes away and comes back, or systemd runs
// itself anew (daemon-reexec), everything is asked for once more.
//
// Units of all types that systemd makes of files are loaded; specifiers, dependencies and sandboxing are systemd's own.
// Scopes, and the types snapshot and busname that fleet knew, are listed with the load state "error". A unit whose file
// somebody removes is listed with "not-found" until it is loaded again, which does not touch what runs.
//
// Logs are the journal's. They are read by a journalctl that is a child of this process, is held up by a reader that is
// slow, and ends with it.
//
// # Units of Singleton=strict
//
// They run only while musterd goes on saying so (runtime.Holder). Guard, which is musterd in a unit of its own, sees to that
// when musterd does not: at the moment it shuts a gate without which systemd starts none of them, has systemd stop them, and
// kills what is in their control groups, at once if systemd has not answered within 50 ms. In tests on two busy cores the
// last process was gone 100 ms after the moment, with musterd frozen, with musterd and the guard killed, and without a bus.
// What systemd was about to execute in that very moment lives until the guard looks again, 10 ms later.
//
// # What it costs
//
// MUSTER_TEST_UNITS=1000 make lab-systemd measures it, in seconds of a processor. On two cores that were busy otherwise,
// with systemd 257: to load 1,000 services takes systemd 2.6 and the agent 1.0; to start them and see them run systemd 8.5,
// the bus 2.1 and the agent 6.7, most of it the test's own lists. In a minute of rest with 1,000 services systemd and the
// bus use nothing that can be measured, and the agent 0.1. An agent that begins with 1,000 services takes systemd 4.4 and
// itself 1.0. Contents that replace others make systemd read all files again, 3.6; that is done once for all that are due.
//
// # Files
//
// A unit NAME has, below /run/systemd/system:
//
//	NAME                    what it was loaded with, and the hash of that in a comment
//	NAME.d/10-muster.conf   marks it as muster's and holds the environment that every unit gets
//	NAME.d/muster.json      what it was loaded with before, while that may still run
//
// A unit with [Install] is enabled, as fleet did: its links are below /run, too. They take effect when what they hang on
// is started after that.
//
// # When systemd has to read its files again
//
// systemd reads the file of a unit when it needs it, so a new one is loaded without daemon-reload, which gets slower with
// every unit there is. Contents that replace others and links of [Install] need one; all that are due while one is under
// way share the next.
//
// A unit whose contents were replaced goes on with what it has. That its next start, also one by Restart=, takes the new
// ones is systemd's way; RunningHash tells which a unit was started with, by comparing the time of the start with that of
// the reload.
package systemd
