package bootservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/providers/metal/dhcp"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Boot is a decision with what is loaded for it.
type Boot struct {
	netboot.Decision
	System netboot.System
	Task   netboot.Task
}

// Decider says what a machine boots, and has remembered that when it returns. It is safe for concurrent use.
type Decider interface {
	Boot(ctx context.Context, request netboot.Request) (Boot, error)
}

// Config is what a service serves.
type Config struct {
	DHCP    dhcp.Config
	Loaders map[string][]byte // by name, for TFTP and below dhcp.FilesPath
	Images  map[string]string // paths of files by name, below ImagesPath
	Decider Decider
	Log     *slog.Logger
}

// ImagesPath is where the images are.
const ImagesPath = "/images/"

// Service serves machines.
type Service struct {
	config    Config
	mu        sync.Mutex // guards responder
	responder *dhcp.Responder
	transfers chan struct{} // one per TFTP transfer that goes on
}

// New returns a service for a configuration whose files are all there.
func New(config Config) (*Service, error) {
	responder, err := dhcp.New(config.DHCP)
	if err != nil {
		return nil, err
	}
	for platform, name := range config.DHCP.Loaders {
		if _, ok := config.Loaders[name]; !ok {
			return nil, fmt.Errorf("cannot offer %s to %s with %s: there is no such loader", name, platform.Arch, platform.Firmware)
		}
	}
	for name, path := range config.Images {
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("cannot serve %s as %q: that is no name of a file", path, name)
		}
	}
	return &Service{config: config, responder: responder, transfers: make(chan struct{}, maxTransfers)}, nil
}

// Sockets are what a service listens on. Serve closes them.
type Sockets struct {
	DHCP, BINL, TFTP *net.UDPConn // dhcp.ServerPort, dhcp.BINLPort and 69
	HTTP             net.Listener
}

// shutdown is how long answers that go on over HTTP may take to end.
const shutdown = 2 * time.Second

// Serve answers until ctx ends, which is no error, or a socket fails.
func (s *Service) Serve(ctx context.Context, sockets Sockets) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serveDHCP(ctx, sockets.DHCP, dhcp.ServerPort) })
	group.Go(func() error { return s.serveDHCP(ctx, sockets.BINL, dhcp.BINLPort) })
	group.Go(func() error { return s.serveTFTP(ctx, sockets.TFTP) })
	group.Go(func() error { return s.serveHTTP(ctx, sockets.HTTP) })
	return group.Wait()
}

func (s *Service) serveHTTP(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
		defer cancel()
		if server.Shutdown(deadline) != nil {
			server.Close()
		}
	})
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve HTTP: %w", err)
}
