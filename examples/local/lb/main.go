// Command example-lb is a load balancer that finds its servers by asking the agent of its own host which units run
// where, or in the keys, where they announce themselves. It needs no configuration when units move.
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
	"github.com/musterhq/muster/examples/web/registry"
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
	dir := flags.String("dir", "", "directory of the keys in which servers announce themselves, in the place of units")
	keys := flags.String("keys", os.Getenv("MUSTER_KEYS"), "where the keys are: URLs with commas between them, of which one is asked")
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
		if *dir != "" {
			registry.Directory{Keys: *keys, Key: *dir}.Follow(ctx, log, balancer.use)
			return nil
		}
		follow(ctx, log, client, func(s api.Status) { balancer.use(backends(s, *units, *base)) })
		return nil
	})
	return g.Wait()
}

// pollInterval is how often the balancer asks an agent that does not tell changes. While none answers at all it goes on
// with the servers that it knows.
const pollInterval = time.Second

// agent is the agent of this host, as the balancer needs it.
type agent interface {
	WatchStatus(ctx context.Context, yield func(api.Status) bool) error
	Status(ctx context.Context) (api.Status, error)
}

// follow hands on every status of the cluster, until ctx ends.
func follow(ctx context.Context, log *slog.Logger, a agent, use func(api.Status)) {
	for {
		err := a.WatchStatus(ctx, func(s api.Status) bool {
			use(s)
			return true
		})
		if ctx.Err() != nil {
			return
		}
		log.Warn("cannot watch the agent, asking it", "err", err)
		if s, err := a.Status(ctx); err == nil {
			use(s)
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return
		}
	}
}
