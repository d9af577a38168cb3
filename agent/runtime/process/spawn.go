package process

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shell runs the keepers.
const shell = "/bin/sh"

// command is what to start, with everything resolved.
type command struct {
	argv   []string
	env    []string
	dir    string
	user   *syscall.Credential // nil for the agent's own
	record bool                // whether starts.jsonl hears of it
}

// child is a process between fork and exec.
type child struct {
	proc
	start *os.File // write end of its descriptor 4
	line  string
	limit int64 // see unit.limit
}

// startRecord is a line of starts.jsonl.
type startRecord struct {
	Time     time.Time `json:"time"`
	Unit     string    `json:"unit"`
	Instance string    `json:"instance"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Hash     string    `json:"hash"`
}

// reportTimeout bounds the way from fork to the report of the new process. It takes milliseconds.
const reportTimeout = 30 * time.Second

// descriptors are those of a keeper, see keeper.go.
type descriptors struct {
	files  [fdLog + 1]*os.File
	report *os.File // read end of its descriptor 3
	start  *os.File // write end of its descriptor 4
}

// describe opens what a keeper needs.
func (u *unit) describe(exitName string) (d *descriptors, err error) {
	d = &descriptors{}
	defer func() {
		if err != nil {
			d.close()
			d, err = nil, fmt.Errorf("cannot open what the process needs: %w", err)
		}
	}()
	open := func(fd int, path string, flags int) {
		if err == nil {
			d.files[fd], err = os.OpenFile(path, flags, 0o600)
		}
	}
	open(0, os.DevNull, os.O_RDWR)
	open(fdStarts, u.path(startsFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	open(fdExit, u.path(exitName), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL)
	open(fdLog, u.path(logFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return d, err
	}
	d.files[1], d.files[2] = d.files[0], d.files[0]
	if d.report, d.files[fdReport], err = os.Pipe(); err != nil {
		return d, err
	}
	d.files[fdGo], d.start, err = os.Pipe()
	return d, err
}

// given closes what only the keeper needs. The end of the report is seen when nobody here could write it.
func (d *descriptors) given() {
	for _, f := range d.files {
		_ = f.Close() // some are nil or the same
	}
}

func (d *descriptors) close() {
	d.given()
	_, _ = d.report.Close(), d.start.Close()
}

// fork starts a keeper and, below it, a process that waits for release.
func (u *unit) fork(c command) (*child, error) {
	exitName := "exit-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	d, err := u.describe(exitName)
	if err != nil {
		return nil, err
	}
	argv := append([]string{"sh", "-c", keeperScript, keeperName, shell, startScript}, c.argv...)
	keeper, err := os.StartProcess(shell, argv, &os.ProcAttr{
		Dir: c.dir, Env: c.env, Files: d.files[:],
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: c.user},
	})
	if err != nil {
		d.close()
		u.remove(exitName)
		return nil, fmt.Errorf("cannot start %s: %w", shell, err)
	}
	d.given()
	defer d.report.Close()
	ch := &child{start: d.start, proc: proc{Exit: exitName}}
	if err := ch.identify(keeper.Pid, d.report); err != nil {
		u.abandon(ch)
		return nil, err
	}
	_ = keeper.Release()
	return ch, nil
}

// identify learns who the new process is.
func (c *child) identify(keeper int, report *os.File) error {
	if l, err := inspect(keeper); err == nil {
		c.Keeper = l.id
	}
	if err := report.SetReadDeadline(time.Now().Add(reportTimeout)); err != nil {
		return fmt.Errorf("cannot wait for the new process: %w", err)
	}
	line, err := bufio.NewReader(report).ReadString('\n')
	if err != nil {
		return fmt.Errorf("cannot learn the ID of the new process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return fmt.Errorf("cannot read the ID of the new process: %w", err)
	}
	l, err := inspect(pid)
	if err != nil {
		return fmt.Errorf("cannot look at the new process: %w", err)
	}
	c.id = l.id
	return nil
}

// release lets the process become its command.
func (c *child) release() error {
	defer c.start.Close()
	if _, err := fmt.Fprintf(c.start, "%d %s\n", c.limit, c.line); err != nil {
		return fmt.Errorf("cannot let the new process go: %w", err)
	}
	return nil
}

// abandon ends a process that was not released: it reads end of file and ends by itself.
func (u *unit) abandon(c *child) {
	_ = c.start.Close()
	u.forget(c.proc)
}

// startLine is the entry in starts.jsonl.
func (u *unit) startLine(c *child, hash string) string {
	line, err := json.Marshal(startRecord{
		Time: time.Now().UTC(), Unit: u.name, Instance: u.rt.config.Instance, Host: u.rt.config.Host.Hostname, PID: c.PID,
		Hash: hash,
	})
	if err != nil {
		return "" // strings and numbers always encode
	}
	return string(line)
}

// collect returns how a process ended that is no longer alive.
func (u *unit) collect(p proc) exit {
	if l, err := inspect(p.PID); err == nil && l.id == p.id && l.Zombie {
		if e, err := zombieExit(l); err == nil {
			return e
		}
	}
	// The keeper was woken, or what the kernel knows is hidden from us: let the keeper tell.
	u.dismiss(p)
	data, err := os.ReadFile(u.path(p.Exit))
	word, _, _ := strings.Cut(string(data), "\n")
	code, notNumber := strconv.Atoi(word)
	switch {
	case err == nil && word == "aborted":
		return exit{Aborted: true}
	case err == nil && notNumber == nil:
		return fromShell(code)
	}
	return lost("ended while nobody could see how: its keeper was killed, too")
}

// dismissTimeout bounds how long a keeper that was woken may take to end.
const dismissTimeout = 2 * time.Second

// dismiss wakes the keeper of a process that has ended, so that both vanish. The file that it writes is kept until
// forget.
func (u *unit) dismiss(p proc) {
	if p.Keeper == none {
		return
	}
	h, err := open(p.Keeper)
	if err != nil {
		return
	}
	defer h.Close()
	_ = h.signal(unix.SIGCONT)
	if p.id.alive() {
		return // KillMode=process or none: the keeper goes with it
	}
	ctx, cancel := u.rt.within(dismissTimeout)
	defer cancel()
	if err := h.wait(ctx); err != nil {
		_ = h.signal(unix.SIGKILL)
		return
	}
	p.Keeper.reap()
}

// forget removes what is left of a process whose exit was collected.
func (u *unit) forget(p proc) {
	u.dismiss(p)
	u.remove(p.Exit)
}

func (u *unit) path(name string) string { return filepath.Join(u.dir, name) }
