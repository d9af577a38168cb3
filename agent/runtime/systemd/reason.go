package systemd

import (
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// execution is how a command of a unit ended.
type execution struct {
	path   string
	code   int32 // CLD_* of waitid(2), 0 when it did not end
	status int32 // exit status or signal
}

// commands are the executions by the setting of [Service] that asked for them.
type commands map[string][]execution

// settings with commands, in the order in which a start goes through them. The main process is not among them.
var controlSettings = []string{
	"ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost",
}

const mainSetting = "ExecStart"

// Values of si_code for children (waitid(2)).
const (
	exited = 1
	killed = 2
	dumped = 3
)

// needsCommands says whether the reason of a unit's failure is only in its commands.
func (p *properties) needsCommands() bool {
	return p.failing() && (isExit(p.Result) && !p.mainFailed() || p.mainStatus() == exitExec || engineSays[p.mainStatus()] != "")
}

// failing says whether the result counts: it stays while systemd waits to start the unit once more.
func (p *properties) failing() bool {
	return p.ActiveState == "failed" || p.ActiveState == "activating" && p.Result != "" && p.Result != success
}

func (p *properties) mainFailed() bool {
	return execution{code: p.MainCode, status: p.MainStatus}.failed()
}

// mainStatus is the exit status of the main process, 0 when it has none.
func (p *properties) mainStatus() int32 {
	if p.MainCode != exited {
		return 0
	}
	return p.MainStatus
}

// reason says why a unit is as it is, "" when there is nothing to say.
func (p *properties) reason(ran commands) string {
	switch {
	case p.failing():
		return p.failure(ran)
	case p.ActiveState != "inactive":
		return ""
	case p.ConditionTime != 0 && !p.Condition:
		return "a condition of [Unit] is not met"
	case p.AssertTime != 0 && !p.Assert:
		return "an assertion of [Unit] is not met"
	}
	return ""
}

// failure puts a result into words (systemd's service-result and its likes for other types of units).
func (p *properties) failure(ran commands) string {
	if isExit(p.Result) {
		if why := p.exit(ran); why != "" {
			return why
		}
	}
	if words, ok := results[p.Result]; ok {
		return words
	}
	return p.Result
}

var results = map[string]string{
	"":                        "",
	success:                   "",
	startLimitHit:             "start limit hit",
	"protocol":                "it did not become ready as its Type= wants",
	"resources":               "the system lacks what it needs to run, its journal tells",
	"timeout":                 "timeout",
	"watchdog":                "watchdog timeout",
	"oom-kill":                "killed for want of memory",
	"exit-code":               "a process of it failed",
	"signal":                  "a process of it was killed",
	"core-dump":               "a process of it crashed",
	"exec-condition":          "ExecCondition is not met",
	"trigger-limit-hit":       "triggered too often",
	"service-start-limit-hit": "start limit of its service hit",
}

const (
	success       = "success"
	startLimitHit = "start-limit-hit"
)

func isExit(result string) bool {
	return slices.Contains([]string{"exit-code", "signal", "core-dump"}, result)
}

// exit tells which process ended how, "" if that is not known.
func (p *properties) exit(ran commands) string {
	if p.mainFailed() {
		e := execution{code: p.MainCode, status: p.MainStatus}
		for _, command := range ran[mainSetting] {
			if command.failed() {
				e.path = command.path
			}
		}
		return e.String()
	}
	for _, setting := range controlSettings {
		for _, e := range ran[setting] {
			if e.failed() {
				return setting + ": " + e.String()
			}
		}
	}
	return ""
}

func (e execution) failed() bool { return e.code != 0 && (e.code != exited || e.status != 0) }

// String is in the words of systemctl, but for signals, which it takes for statuses.
func (e execution) String() string {
	switch {
	case e.code == dumped:
		return "killed by " + signalName(e.status) + ", which left a core dump"
	case e.code == killed:
		return "killed by " + signalName(e.status)
	case e.status == exitExec && e.path != "":
		return "cannot execute " + e.path + ": exit status 203/EXEC"
	}
	if words, ok := engineSays[e.status]; ok && slices.Contains(engines, filepath.Base(e.path)) {
		return fmt.Sprintf("exit status %d of %s: %s; its log tells more", e.status, filepath.Base(e.path), words)
	}
	if name, ok := exitNames[e.status]; ok {
		return fmt.Sprintf("exit status %d/%s", e.status, name)
	}
	return fmt.Sprintf("exit status %d", e.status)
}

func signalName(n int32) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

// engines run containers, and engineSays is what some of their exit statuses mean (podman-run(1), "Exit Status").
var (
	engines    = []string{"podman", "docker"}
	engineSays = map[int32]string{
		125: "it cannot make the container: an image that the host lacks, a name or a port that is taken, a bad option",
		126: "the container's command cannot be run",
		127: "the container's command is not there",
	}
)

// exitExec is the exit status of a process whose program systemd could not run.
const exitExec = 203

// exitNames are the statuses of processes that systemd could not prepare as the unit wants (systemd.exec(5), "Process
// Exit Codes").
var exitNames = map[int32]string{
	200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC", 204: "MEMORY", 205: "LIMITS", 206: "OOM_ADJUST",
	207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT", 210: "CHROOT", 211: "IOPRIO", 212: "TIMERSLACK", 213: "SECUREBITS",
	214: "SETSCHEDULER", 215: "CPUAFFINITY", 216: "GROUP", 217: "USER", 218: "CAPABILITIES", 219: "CGROUP", 220: "SETSID",
	221: "CONFIRM", 222: "STDERR", 224: "PAM", 225: "NETWORK", 226: "NAMESPACE", 227: "NO_NEW_PRIVILEGES", 228: "SECCOMP",
	229: "SELINUX_CONTEXT", 230: "PERSONALITY", 231: "APPARMOR_PROFILE", 232: "ADDRESS_FAMILIES", 233: "RUNTIME_DIRECTORY",
	235: "CHOWN", 236: "SMACK_PROCESS_LABEL", 237: "KEYRING", 238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY",
	240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY", 242: "NUMA_POLICY", 243: "CREDENTIALS",
}
