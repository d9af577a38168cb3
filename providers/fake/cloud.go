package fake

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/musterhq/muster/providers"
)

// Server is a machine in the cloud.
type Server struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Token    string            `json:"token,omitempty"` // client token of its create
	Tags     map[string]string `json:"tags,omitempty"`
	UserData []byte            `json:"user_data,omitempty"`
	Image    string            `json:"image"`
	Size     string            `json:"size"`
	Power    string            `json:"power"`
	Address  netip.Addr        `json:"address"`
	Created  time.Time         `json:"created"`
}

// The values of Server.Power.
const (
	powerOn     = "on"
	powerOff    = "off"
	powerBroken = "broken"
)

// APICall is one call to the cloud's API that could have changed something.
type APICall struct {
	Time    time.Time `json:"time"`
	Name    string    `json:"name"`             // run, tag, terminate, start, stop, import
	Server  string    `json:"server,omitempty"` // identifier; empty when it was refused before there was one
	Host    string    `json:"host,omitempty"`   // name of the server
	Changed bool      `json:"changed"`          // whether it did change something
}

// state is everything a cloud is made of.
type state struct {
	Version  int       `json:"version"`
	Servers  []*Server `json:"servers"`
	Requests int       `json:"requests"` // received
	Made     int       `json:"made"`     // servers, ever
	Taggings int       `json:"taggings"` // received
	Calls    []APICall `json:"calls"`
	Images   []Image   `json:"images,omitempty"`
}

func (s *state) add(server Server) Server {
	s.Made++
	server.ID = fmt.Sprintf("i-%08d", s.Made)
	server.Tags = maps.Clone(server.Tags)
	// Loopback: a dial ends at once, and nothing leaves this machine.
	server.Address = netip.AddrFrom4([4]byte{127, 32 + byte(s.Made>>16&0x1f), byte(s.Made >> 8), byte(s.Made)})
	s.Servers = append(s.Servers, &server)
	return server
}

func (s *state) byID(id string) *Server {
	return s.find(func(server *Server) bool { return server.ID == id })
}

func (s *state) find(match func(*Server) bool) *Server {
	if i := slices.IndexFunc(s.Servers, match); i >= 0 {
		return s.Servers[i]
	}
	return nil
}

func (s *state) record(call APICall) { s.Calls = append(s.Calls, call) }

// cloud is the API of the simulated cloud.
type cloud struct {
	store  store
	faults Faults
	now    func() time.Time
	log    *slog.Logger
}

// every tells whether the count-th of something is one in n.
func every(n, count int) bool { return n > 0 && count%n == 0 }

// request is what every call to the API goes through.
func (c *cloud) request(ctx context.Context, name string, handle func(*state) error) error {
	return c.store.update(ctx, func(s *state) error {
		s.Requests++
		var err error
		switch {
		case c.faults.Unauthorized:
			err = providers.ErrAuth
		case every(c.faults.ThrottleEvery, s.Requests):
			err = providers.ErrThrottled
		case every(c.faults.UnavailableEvery, s.Requests):
			err = providers.ErrUnavailable
		default:
			return handle(s)
		}
		c.log.DebugContext(ctx, "fake cloud refuses a request", "request", s.Requests, "name", name, "error", err)
		return fmt.Errorf("%s: request %d: %w", name, s.Requests, err)
	})
}

// run makes a server. With a token that was used before it answers the server that was made then.
func (c *cloud) run(ctx context.Context, want Server) (Server, error) {
	if err := providers.Pause(ctx, c.faults.CreateLatency); err != nil {
		return Server{}, err
	}
	var made Server
	lost := false
	err := c.request(ctx, "run", func(s *state) error {
		call := APICall{Time: c.now(), Name: "run", Host: want.Name}
		defer func() { s.record(call) }()
		if old := s.find(func(o *Server) bool { return want.Token != "" && o.Token == want.Token }); old != nil {
			made, call.Server = *old, old.ID
			return sameParameters(*old, want)
		}
		if err := c.admit(s, want); err != nil {
			return err
		}
		want.Created, want.Power = c.now(), powerOn
		made = s.add(want)
		call.Server, call.Changed = made.ID, true
		lost = every(c.faults.LoseAnswerEvery, s.Made)
		return nil
	})
	if err == nil && lost {
		err = fmt.Errorf("run: no answer: %w", providers.ErrUnavailable)
	}
	return made, err
}

// sameParameters refuses a token that is used again for something else (as EC2's IdempotentParameterMismatch does).
func sameParameters(old, want Server) error {
	if old.Name != want.Name || !bytes.Equal(old.UserData, want.UserData) {
		return fmt.Errorf("run: client token %s was used with other parameters: %w", want.Token, providers.ErrInvalid)
	}
	return nil
}

// admit refuses what the cloud cannot make.
func (c *cloud) admit(s *state, want Server) error {
	if err := s.findImage(want.Image); err != nil {
		return err
	}
	if c.faults.Quota > 0 && len(s.Servers) >= c.faults.Quota {
		return fmt.Errorf("run: %d servers exist: %w", len(s.Servers), providers.ErrQuota)
	}
	return nil
}

// tag adds tags to a server.
func (c *cloud) tag(ctx context.Context, id string, tags map[string]string) error {
	return c.change(ctx, "tag", id, func(s *state, server *Server) (bool, error) {
		s.Taggings++
		if every(c.faults.TagFailureEvery, s.Taggings) {
			return false, fmt.Errorf("tag: %w", providers.ErrUnavailable)
		}
		before := maps.Clone(server.Tags)
		if server.Tags == nil {
			server.Tags = make(map[string]string, len(tags))
		}
		maps.Copy(server.Tags, tags)
		return !maps.Equal(before, server.Tags), nil
	})
}

// terminate ends a server. It vanishes at once.
func (c *cloud) terminate(ctx context.Context, id string) error {
	return c.change(ctx, "terminate", id, func(s *state, server *Server) (bool, error) {
		s.Servers = slices.DeleteFunc(s.Servers, func(o *Server) bool { return o == server })
		return true, nil
	})
}

// start powers a server on.
func (c *cloud) start(ctx context.Context, id string) error {
	return c.change(ctx, "start", id, func(_ *state, server *Server) (bool, error) {
		if server.Power == powerBroken {
			return false, fmt.Errorf("start: server %s is broken: %w", id, providers.ErrConflict)
		}
		changed := server.Power != powerOn
		server.Power = powerOn
		return changed, nil
	})
}

// stop powers a server off, if it carries the tags.
func (c *cloud) stop(ctx context.Context, id string, tags map[string]string) error {
	return c.change(ctx, "stop", id, func(_ *state, server *Server) (bool, error) {
		if !maps.Equal(server.Tags, tags) {
			return false, fmt.Errorf("stop: server %s has the tags of another host: %w", id, providers.ErrConflict)
		}
		if server.Power == powerBroken {
			return false, fmt.Errorf("stop: server %s is broken: %w", id, providers.ErrConflict)
		}
		changed := server.Power != powerOff
		server.Power = powerOff
		return changed, nil
	})
}

// change is a request about one server.
func (c *cloud) change(ctx context.Context, name, id string, apply func(*state, *Server) (bool, error)) error {
	return c.request(ctx, name, func(s *state) (err error) {
		call := APICall{Time: c.now(), Name: name, Server: id}
		defer func() { s.record(call) }()
		server := s.byID(id)
		if server == nil {
			return fmt.Errorf("%s: server %s: %w", name, id, providers.ErrNotFound)
		}
		call.Host = server.Name
		call.Changed, err = apply(s, server)
		return err
	})
}

// servers lists the servers whose making is long enough ago, in the order in which they were made.
func (c *cloud) servers(ctx context.Context) ([]Server, error) {
	var list []Server
	err := c.request(ctx, "list", func(s *state) error {
		for _, server := range s.Servers {
			if c.now().Sub(server.Created) >= c.faults.LateListing {
				seen := *server
				seen.Tags = maps.Clone(server.Tags)
				list = append(list, seen)
			}
		}
		return nil
	})
	return list, err
}
