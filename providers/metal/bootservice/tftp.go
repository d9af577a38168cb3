package bootservice

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/pin/tftp/v3"
)

const (
	// maxTransfers bounds the goroutines and sockets that TFTP takes, since any packet begins a transfer.
	maxTransfers = 512
	// A client that falls silent is given up after resends times resendTime.
	resendTime = time.Second
	resends    = 5
)

// serveTFTP serves the loaders (RFC 1350 with blksize and tsize, RFC 2348 and 2349). The window of RFC 7440 is not
// offered, so clients go on block by block; what is large is loaded by HTTP.
func (s *Service) serveTFTP(ctx context.Context, conn *net.UDPConn) error {
	server := tftp.NewServer(func(name string, to io.ReaderFrom) error { return s.transfer(ctx, name, to) }, nil)
	server.SetTimeout(resendTime)
	server.SetRetries(resends)
	server.SetBackoff(func(int) time.Duration { return 0 })
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		server.Shutdown()
	})
	err := server.Serve(conn)
	if !stop() {
		<-stopped
		return nil
	}
	server.Shutdown()
	return fmt.Errorf("cannot serve TFTP: %w", err)
}

// transfer sends a loader. What it returns, the client is told.
func (s *Service) transfer(ctx context.Context, name string, to io.ReaderFrom) error {
	log := s.config.Log.With("file", name)
	if transfer, ok := to.(tftp.OutgoingTransfer); ok {
		addr := transfer.RemoteAddr()
		log = log.With("source", addr.String())
	}
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	default:
		log.Warn("TFTP refused", "reason", "too many transfers")
		return fmt.Errorf("%d transfers go on: try again", maxTransfers)
	}
	loader, ok := s.config.Loaders[strings.TrimLeft(name, "/")]
	if !ok {
		log.Info("TFTP refused", "reason", "there is no such file")
		return fmt.Errorf("there is no file of this name")
	}
	if _, err := to.ReadFrom(&untilDone{bytes.NewReader(loader), ctx}); err != nil {
		log.Info("TFTP ended early", "error", err)
		return nil // the library has told the client
	}
	log.Info("TFTP", "bytes", len(loader))
	return nil
}

// untilDone ends a transfer with its context. Seeking tells the size.
type untilDone struct {
	*bytes.Reader
	ctx context.Context
}

func (r *untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
