package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// The ports on which etcd has been served since 2013 and since 2014.
const (
	PortV1 = 4001
	PortV3 = 2379
)

// Config is what a gateway needs.
type Config struct {
	Host   string // this host's name
	Voters Voters
	Keys   http.Handler // v1 and v2, whose limits in time are its own
	Log    *slog.Logger
}

// Gateway serves the keys.
type Gateway struct {
	cfg Config
	v3  *grpc.Server
}

// Bounds of what callers take of this host together.
const (
	maxStreams     = 1024            // calls at once on one connection
	headerPatience = 5 * time.Second // until a request has begun
	bodyPatience   = 5 * time.Second // until all of a request is there
	idlePatience   = 5 * time.Minute // between two requests
	maxHeader      = 16 << 10        // bytes
	maxMessage     = maxValue + maxValue/2
)

// New makes a gateway.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, v3: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(math.MaxInt32))}
	register(g.v3, cfg.Host, cfg.Voters)
	return g
}

// Serve answers on a listener until ctx ends, then closes every connection. policy is what callers there may do.
func (g *Gateway) Serve(ctx context.Context, l net.Listener, policy Policy) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           g.handler(policy),
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: headerPatience,
		IdleTimeout:       idlePatience,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := srv.Serve(newListener(l, policy)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	return group.Wait()
}

// handler tells the protocols apart behind the guard.
func (g *Gateway) handler(policy Policy) http.Handler {
	return newGuard(policy, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			g.v3.ServeHTTP(w, r)
			return
		}
		g.cfg.Keys.ServeHTTP(w, r)
	}))
}

// isGRPC says what a request speaks (gRPC over HTTP2, Request-Headers).
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
