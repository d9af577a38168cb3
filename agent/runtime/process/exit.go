package process

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/unitfile"
)

// exit is how a process ended.
type exit struct {
	Code   int    `json:"code"`             // exit status, when Signal is empty
	Signal string `json:"signal,omitempty"` // SIGTERM, ...
	Core   bool   `json:"core,omitempty"`   // dumped core
	Detail string `json:"detail,omitempty"` // why it never ran, or what is known of a status that is lost
	// Aborted is true when the agent died before the process was let go: it never became the command.
	Aborted bool `json:"aborted,omitempty"`
}

// exitExec is the status of a command that could not be executed (systemd.exec(5), EXIT_EXEC).
const exitExec = 203

// lost is the exit of a process whose status nobody kept. It counts as death by a signal, because whoever removed the
// keeper must have killed.
func lost(detail string) exit { return exit{Signal: "SIGKILL", Detail: detail} }

// fromWait decodes a status as wait(2) gives it.
func fromWait(status unix.WaitStatus) exit {
	if status.Signaled() {
		return exit{Signal: signalName(status.Signal()), Core: status.CoreDump()}
	}
	return exit{Code: status.ExitStatus()}
}

// fromShell decodes $? of a shell: 128 and more are taken for signals, as shells do.
func fromShell(status int) exit {
	if status > 128 {
		if name := unix.SignalName(unix.Signal(status - 128)); name != "" {
			return exit{Signal: name}
		}
	}
	return exit{Code: status}
}

func signalName(s unix.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return strconv.Itoa(int(s))
}

// signalNumber is the reverse, for names and numbers that unitfile accepted. Unknown to this system is SIGTERM.
func signalNumber(name string) unix.Signal {
	if n, err := strconv.Atoi(name); err == nil {
		return unix.Signal(n)
	}
	if n := unix.SignalNum(name); n != 0 {
		return n
	}
	return unix.SIGTERM
}

// String is what a user reads.
func (e exit) String() string {
	switch {
	case e.Detail != "":
		return e.Detail
	case e.Core:
		return "killed by " + e.Signal + ", core dumped"
	case e.Signal != "":
		return "killed by " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// in says whether a set names this exit.
func (e exit) in(set unitfile.ExitSet) bool {
	if e.Signal != "" {
		number := strconv.Itoa(int(signalNumber(e.Signal)))
		return set.Signals[e.Signal] || set.Signals[number]
	}
	return set.Codes[e.Code]
}

// clean says whether the exit is a success (systemd.service(5), SuccessExitStatus=). The signals that politely ask a
// daemon to end are clean for one, not for a command that has something to finish.
func (e exit) clean(daemon bool, success unitfile.ExitSet) bool {
	if e.in(success) {
		return true
	}
	if e.Signal == "" {
		return e.Code == 0
	}
	return daemon && strings.Contains(" SIGHUP SIGINT SIGTERM SIGPIPE ", " "+e.Signal+" ")
}

// result is why a unit is no longer, or not properly, running. The zero value is success.
type result struct {
	Kind kind   `json:"kind,omitempty"`
	Exit *exit  `json:"exit,omitempty"`
	Text string `json:"text,omitempty"`
}

// kind is systemd's Result property.
type kind string

const (
	success    kind = ""
	exitCode   kind = "exit-code"
	signalled  kind = "signal"
	coreDump   kind = "core-dump"
	timedOut   kind = "timeout"
	protocol   kind = "protocol"
	startLimit kind = "start-limit-hit"
	resources  kind = "resources"
)

func failure(e exit, what string) result {
	r := result{Kind: exitCode, Exit: &e, Text: e.String()}
	switch {
	case e.Core:
		r.Kind = coreDump
	case e.Signal != "":
		r.Kind = signalled
	}
	if what != "" {
		r.Text = what + ": " + r.Text
	}
	return r
}

// again says whether a unit that ended with this result is to be started again (systemd.service(5), Restart=, table 2).
func (r result) again(p unitfile.Restart, main *exit) bool {
	if r.Kind == startLimit || r.Kind == resources {
		return false
	}
	if main != nil {
		if main.in(p.Prevent) {
			return false
		}
		if main.in(p.Force) {
			return true
		}
	}
	abnormal := r.Kind == signalled || r.Kind == coreDump || r.Kind == timedOut
	switch p.Policy {
	case "always":
		return true
	case "on-success":
		return r.Kind == success
	case "on-failure":
		return r.Kind != success
	case "on-abnormal":
		return abnormal
	case "on-abort":
		return r.Kind == signalled || r.Kind == coreDump
	}
	return false
}
