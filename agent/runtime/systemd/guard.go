package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/agent/unitfile"
)

// guardUnit runs Guard. It is a unit of its own, so that nothing that happens to musterd concerns it, and systemd starts it
// again whenever it ends before its time.
const guardUnit = "muster-guard.service"

// guardDir is what a runtime and its guard share. It does not outlive a boot.
//
//	hold-boot    until when strict units may run (guard.Dir)
//	open         exists while they may start; their files ask for it
//	strict/NAME  the units
const (
	guardDir  = "/run/muster/guard"
	openFile  = "open"
	strictDir = "strict"
)

func guardState(root string) guard.Dir {
	return guard.Dir{Path: filepath.Join(root, guardDir), Boot: "boot"}
}

// gate has systemd start a strict unit only with a guard, and only while the guard says that it may, whoever wants it to: an
// operator, a socket, another unit. For Restart= systemd looks at no condition: what has been killed is also stopped, see
// strictUnits.Kill. Whatever signal the unit wants to end with, what is left of it then is killed.
const gate = "[Unit]\nWants=" + guardUnit + "\nAfter=" + guardUnit + "\nConditionPathExists=" + guardDir + "/" + openFile + "\n" +
	"[Service]\nFinalKillSignal=SIGKILL\n"

// guardText is the file of the guard's unit. A guard that ends by itself has nothing to guard; else it is started again.
func guardText(command []string) []byte {
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = strings.ReplaceAll(unitfile.QuoteWord(strings.ReplaceAll(word, "%", "%%")), "$", "$$")
	}
	return []byte(header + "[Unit]\nDescription=Guard of units that may run only once\nStartLimitIntervalSec=0\nRefuseManualStop=yes\n" +
		"[Service]\nType=notify\nExecStart=" + strings.Join(quoted, " ") + "\nRestart=always\nRestartSec=0\n" +
		"RestartPreventExitStatus=0\nOOMScoreAdjust=-1000\n")
}

// Guard kills the strict units of a Runtime on this host when it does not renew its hold on them. It runs in a process of
// its own, as guardUnit, until there are no strict units any more. Ending because ctx does is an error.
func Guard(ctx context.Context, log *slog.Logger) error {
	d := guardState("/")
	if err := os.MkdirAll(filepath.Join(d.Path, strictDir), 0o755); err != nil {
		return fmt.Errorf("cannot guard: %w", err)
	}
	return guard.Run(ctx, d, &strictUnits{dir: d.Path, hierarchy: hierarchy("/")}, log)
}

// strictUnits are those of this host, as the guard sees them.
type strictUnits struct {
	dir       string
	hierarchy string
	told      bool // systemd, that the guard is at work
	stopped   bool // all units, since the gate was shut
}

var _ guard.Gate = (*strictUnits)(nil)

// Any implements guard.Units.
func (s *strictUnits) Any() bool { return len(strictNames(s.dir)) > 0 }

// killTime bounds one call of Kill, so that a guard hears soon when its units may run again. askTime is how long systemd has
// to answer before processes are killed all the same.
const (
	killTime = time.Second
	askTime  = 50 * time.Millisecond
)

// Kill implements guard.Units. systemd is told to stop the units, or it would start those with Restart= again; once it has
// said that it will, or has not answered for a moment, what there is of them is killed. A systemd that does not answer
// does not start anything either.
func (s *strictUnits) Kill(ctx context.Context) error {
	names := strictNames(s.dir)
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	var stopping error
	stopped := make(chan struct{})
	stop := sync.OnceFunc(func() {
		go func() {
			defer close(stopped)
			stopping = stopUnits(ctx, names)
		}()
		patience := time.NewTimer(askTime)
		defer patience.Stop()
		select {
		case <-stopped:
		case <-patience.C:
		}
	})
	if !s.stopped { // also those that nothing runs of just now, between two runs
		stop()
	}
	asked := s.stopped
	err := killUnits(ctx, s.hierarchy, names, func() { asked = false; stop() })
	if asked {
		return err
	}
	<-stopped
	s.stopped = stopping == nil
	return errors.Join(err, stopping)
}

// stopUnits tells systemd to stop units, without a bus between.
func stopUnits(ctx context.Context, names map[string]bool) error {
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot tell systemd to stop them: %w", err)
	}
	defer conn.Close()
	for name := range names {
		if _, err := conn.StopUnitContext(ctx, name, "replace", nil); err != nil && !isError(err, loadErrors...) {
			return fmt.Errorf("cannot tell systemd to stop %s: %w", name, err)
		}
	}
	return nil
}

// Open implements guard.Gate. systemd starts strict units once this was called.
func (s *strictUnits) Open(open bool) error {
	path := filepath.Join(s.dir, openFile)
	s.stopped = s.stopped && !open
	var err error
	if open {
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
			err = f.Close()
		}
	} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if !s.told && err == nil {
		s.told = true
		err = notify("READY=1")
	}
	return err
}

// strictNames are the units that are marked as strict.
func strictNames(dir string) map[string]bool {
	entries, err := os.ReadDir(filepath.Join(dir, strictDir))
	if err != nil {
		return nil
	}
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// notify tells systemd about this process (sd_notify(3)), if it wants to know.
func notify(state string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot tell systemd %s: %w", state, err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("cannot tell systemd %s: %w", state, err)
	}
	return nil
}
