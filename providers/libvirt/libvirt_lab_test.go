//go:build lab

package libvirt

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/providers"
)

// daemon is a libvirtd of the tests' own, with its own mounts, network and processes.
var daemon struct {
	dir    string // everything that it writes
	socket string
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withDaemon(m.Run)
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withDaemon starts libvirtd, runs something and ends the daemon with everything that it started: they are in a process
// namespace, whose first process takes the others with it.
func withDaemon(run func() int) (code int, err error) {
	dir, err := os.MkdirTemp("/var/tmp", "muster-libvirt-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	script, err := filepath.Abs("testdata/libvirtd")
	if err != nil {
		return 1, err
	}
	log, err := os.Create(filepath.Join(dir, "libvirtd.log"))
	if err != nil {
		return 1, err
	}
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", script, dir)
	cmd.Stdout, cmd.Stderr = log, log
	// A test that times out takes the daemon with it, as long as the thread that started it is there.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	}()
	daemon.dir, daemon.socket = dir, filepath.Join(dir, "run/libvirt/libvirt-sock")
	if err := awaitDaemon(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return 1, fmt.Errorf("%w\n%s", err, text)
	}
	return run(), nil
}

func awaitDaemon() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		p, err := New("probe", labConfig(""), labEnvironment(nil))
		if err != nil {
			return err
		}
		err = p.session(ctx, func(ctx context.Context, c *client) error {
			_, err := c.capabilities(typeQEMU)
			return err
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := providers.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
