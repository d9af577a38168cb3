package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/musterhq/muster/agent/pause"
)

// longestRetry is how long a port that is taken is left alone at most.
const longestRetry = 30 * time.Second

// Keep serves at an address until ctx ends, whenever it can be had. report is told what is in the way, and nil when nothing is
// any more.
func (g *Gateway) Keep(ctx context.Context, address string, policy Policy, report func(error)) error {
	between := pause.New(longestRetry)
	for {
		l, err := listen(ctx, address)
		if err == nil {
			between.Reset()
			report(nil)
			err = g.Serve(ctx, l, policy)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report(err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("cannot listen on %s: another program has this port, and programs that want the keys reach that one; "+
			"`ss -ltnp` tells which: %w", address, err)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return l, nil
}
