// Package unitfile reads systemd unit files (systemd.unit(5), systemd.service(5), systemd.syntax(7)) and what fleet and
// muster add to them: names, templates, specifiers, and the sections [X-Fleet] and [X-Muster].
//
// It guarantees that every finding about a file comes at once, each with its file, line and column; that a file which
// was parsed is written back the same (Bytes); and that the work is bounded by the size of the input. It is pure: it
// knows no host, no process and no clock, so that the same code serves the operator's CLI, the scheduler and whatever
// runs the units.
package unitfile
