// Command example-lb is a load balancer that finds its servers by asking the agent of its own host which units run
// where. It needs no configuration when units move.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example-lb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("example-lb", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8000", "address and port to listen on")
	socket := flags.String("socket", os.Getenv("MUSTER_SOCKET"), "the agent's socket")
	units := flags.String("units", "api@*.service", "pattern of the units to balance over")
	base := flags.Int("port-base", 8080, "a server listens on this port plus the number of its instance")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(out, nil))
	balancer := newBalancer(log)
	server := &http.Server{Addr: *listen, Handler: balancer, ReadHeaderTimeout: 5 * time.Second}
	client := api.NewSocketClient(*socket)
	defer client.Close()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		log.Info("listening", "address", *listen)
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(grace)
	})
	g.Go(func() error {
		follow(ctx, log, client, func(s api.Status) { balancer.use(backends(s, *units, *base)) })
		return nil
	})
	return g.Wait()
}

// retryPause is how long the balancer waits before it asks an agent again that did not answer. It goes on meanwhile with
// the servers that it knows.
const retryPause = time.Second

// watcher is the agent, as the balancer needs it.
type watcher interface {
	WatchStatus(ctx context.Context, yield func(api.Status) bool) error
}

func follow(ctx context.Context, log *slog.Logger, agent watcher, use func(api.Status)) {
	for ctx.Err() == nil {
		err := agent.WatchStatus(ctx, func(s api.Status) bool {
			use(s)
			return true
		})
		if ctx.Err() != nil {
			return
		}
		log.Warn("cannot ask the agent, going on with the servers known", "err", err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
}
