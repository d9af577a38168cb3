// Command muster-installer is what a machine of a rack runs when it booted over the network. It is the only program of the
// installer's initial file system (examples/image/installer) beside a shell, finds its task on the kernel's command line, and
// ends when the machine is to boot again.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/musterhq/muster/providers/metal/enrol"
	"github.com/musterhq/muster/providers/metal/installer"
	"github.com/musterhq/muster/providers/metal/netboot"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "muster-installer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	if len(os.Args) > 1 {
		return errors.New("it takes no arguments: its task is on the kernel's command line")
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("cannot read the task: %w", err)
	}
	task, err := netboot.ParseTask(string(line))
	if err != nil {
		return err
	}
	server, err := enrol.NewClient(task)
	if err != nil {
		return err
	}
	return installer.Run(ctx, installer.Config{
		Task: task, Facts: installer.ReadFacts(os.DirFS("/sys"), os.DirFS("/proc")), Server: server, Images: images(),
		Machine: installer.Linux{}, Log: log, Waits: installer.DefaultWaits(),
	})
}

// images fetches from anybody: an image's sum vouches for it, and came from the server that is pinned.
func images() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ResponseHeaderTimeout: time.Minute,
	}}
}
