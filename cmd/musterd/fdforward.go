package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
)

// asFleetctl is the name under which musterd is on hosts for those who run fleetctl elsewhere: `fleetctl --tunnel HOST` runs
// `fleetctl fd-forward SOCKET` on the host. Nothing else is done under that name.
const asFleetctl = "fleetctl"

// commandLine is what a program that was called by a name shall do.
func commandLine(name string, args []string, stderr io.Writer) ([]string, error) {
	if filepath.Base(name) != asFleetctl || len(args) > 0 && args[0] == "fd-forward" {
		return args, nil
	}
	fmt.Fprintln(stderr, "fleetctl on this host is musterd, and forwards sockets only: run fleetctl elsewhere with --tunnel, or `muster units`")
	return nil, &usageError{fmt.Errorf("fleetctl here does nothing but fd-forward")}
}

// fdForward is `musterd fd-forward SOCKET`: it connects standard input and output with a unix socket, until the socket's
// side has ended. What reads the input then may still wait for it, and ends with the program.
func fdForward(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: musterd fd-forward SOCKET")
		return &usageError{fmt.Errorf("fd-forward takes the path of one socket")}
	}
	dialed, err := (&net.Dialer{}).DialContext(ctx, "unix", args[0])
	if err != nil {
		return fmt.Errorf("cannot forward to the socket: %w; is musterd running, and may this user use its socket?", err)
	}
	conn := dialed.(*net.UnixConn)
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(conn, stdin) // the other side sees how far it came
		_ = conn.CloseWrite()
	}()
	if _, err := io.Copy(stdout, conn); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot forward from the socket: %w", err)
	}
	return nil
}
