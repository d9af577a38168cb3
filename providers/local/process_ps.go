package local

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ps is the process table as the command ps(1) shows it, for systems without proc(5). It takes a command line apart at
// spaces and cannot tell arguments from environment; args and env both hold all words.
type ps struct {
	environment string // the option that shows the environment: -E on macOS, e elsewhere
}

func (t ps) all() ([]process, error) { return t.run("-A") }

func (t ps) one(pid int) (process, bool) {
	list, err := t.run("-p", strconv.Itoa(pid))
	if err != nil || len(list) != 1 {
		return process{}, false
	}
	return list[0], true
}

func (t ps) run(which ...string) ([]process, error) {
	args := append(which, "-ww", "-o", "pid=,ppid=,stat=,lstart=,command=")
	cmd := exec.Command("ps", append(args, strings.Fields(t.environment)...)...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	var list []process
	for line := range strings.Lines(string(out)) {
		if p, ok := parsePS(line); ok {
			p.session, _ = unix.Getsid(p.pid) // 0 when it is gone
			list = append(list, p)
		}
	}
	return list, nil
}

// parsePS reads "pid ppid stat Mon Jan  2 15:04:05 2006 word...".
func parsePS(line string) (process, bool) {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return process{}, false
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	return process{
		pid: pid, parent: parent, zombie: strings.HasPrefix(fields[2], "Z"),
		started: strings.Join(fields[3:8], " "), args: fields[8:], env: fields[8:],
	}, true
}
