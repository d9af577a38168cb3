package voter

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// conns are connections to single members, which are kept: members are asked how they are every few seconds, and to shake
// hands anew each time is most of what that would cost them.
type conns struct {
	tls *tls.Config

	mu     sync.Mutex
	closed bool
	open   map[string]*grpc.ClientConn // by host:port
}

func newConns(config *tls.Config) *conns {
	return &conns{tls: config, open: map[string]*grpc.ClientConn{}}
}

// to returns the connection to one member; it is not the caller's to close. One that is lost is made again, soon after the
// member is back.
func (c *conns) to(m *pb.Member) (*grpc.ClientConn, error) {
	address, err := addressOf(m)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("connections to etcd's members are closed")
	}
	if conn, ok := c.open[address]; ok {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(c.tls)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: probeTimeout},
			MinConnectTimeout: probeTimeout,
		}))
	if err == nil {
		c.open[address] = conn
	}
	return conn, err
}

// keep closes the connections to all but these members.
func (c *conns) keep(members []*pb.Member) {
	keep := map[string]bool{}
	for _, m := range members {
		if address, err := addressOf(m); err == nil {
			keep[address] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for address, conn := range c.open {
		if !keep[address] {
			_ = conn.Close()
			delete(c.open, address)
		}
	}
}

func (c *conns) close() {
	c.keep(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// addressOf is where a member serves clients.
func addressOf(m *pb.Member) (string, error) {
	if len(m.ClientURLs) == 0 {
		return "", fmt.Errorf("member %x has not started yet", m.ID)
	}
	u, err := url.Parse(m.ClientURLs[0])
	if err != nil {
		return "", err
	}
	return u.Host, nil
}
