// Package process runs service units as plain processes, without systemd and without privileges: a small supervisor
// for hosts that are a directory on somebody else's machine.
//
// It honours the command lines, restart rules, limits, timeouts, signals, environment, user and working directory of
// [Service] (systemd.service(5), systemd.exec(5), systemd.kill(5)) for the types simple, exec, idle, oneshot and notify,
// and says in a unit's status what it cannot run. It isolates nothing and orders nothing: sandboxing, cgroups,
// dependencies between units and units other than services are systemd's.
//
// # What it guarantees
//
// Units outlive the agent. Everything a unit needs is on disk before it is acted upon, so that a new Runtime over the
// same directory goes on wherever the old one was, killed at any moment: a command that was begun is not begun twice,
// exit statuses are exact though nobody was there, and a process ID that the kernel has given to somebody else is
// never touched (a process is its ID together with its start time and the boot). Stop leaves no process of a unit,
// daemons that detached themselves included. An idle Runtime does nothing: it is told by the kernel when a process
// ends (pidfd) or a log grows (inotify).
//
// # How a process is started
//
// Exit statuses belong to a process's parent, and the agent may be dead when one is due. So each command gets a keeper,
// a /bin/sh that starts it in a session of its own and is then stopped (SIGSTOP): the process, once it ends, remains
// as a zombie whose status the agent, this one or the next, reads in /proc/PID/stat whenever it comes. Released, the
// keeper collects the zombie, writes what a shell knows of the status to a file, and ends. That file is what remains
// when somebody else woke the keeper, and on systems without /proc; it cannot tell exit status 143 from a death by
// SIGTERM, which is why it is the second choice. A keeper costs a fork and about 100 KiB of its own memory; a watching
// copy of the agent would cost ten times as much.
//
// Between fork and exec the new process reports its ID and waits for a line from the agent, which writes it only when
// the ID is on disk. If the agent dies before, the process reads end of file and ends without having run anything.
// That line is the start's entry in starts.jsonl, which the new process itself appends right before it becomes the
// service: the file is the unit's own record of its starts.
//
// # Files
//
// Each unit has a directory with its name:
//
//	unit.json     what is loaded
//	state.json    phase, processes, deadlines, result
//	log, log.1    what it printed, the newest up to the size limit, and what was before
//	log*.times    when these grew, as lines that a unit prints have no times
//	starts.jsonl  every start: time, unit, instance, host, pid, hash
//	exit-*        second choice for exit statuses, see above
//
// Unloading a unit keeps log and starts, of the last 100 units.
package process
