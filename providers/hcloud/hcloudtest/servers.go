package hcloudtest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

type server struct {
	schema.Server
	userData string
	ipv4, v6 int64     // primary IPs, which end with the server
	begun    time.Time // the last boot
	off      bool
	ends     time.Time // zero: lives
}

const (
	maxUserData = 32 << 10
	maxGroup    = 10
)

func (c *Cloud) serverRoutes() {
	c.handle("GET /v1/servers", func(r *http.Request) (int, any, *refusal) {
		q, refused := readQuery(r, "name", "status")
		if refused != nil {
			return 0, nil, refused
		}
		all := []item{}
		for _, s := range c.servers {
			all = append(all, item{s.ID, s.Name, s.Labels, s.Created, c.show(s)})
		}
		return c.list("servers", q, all)
	})
	c.handle("GET /v1/servers/{id}", func(r *http.Request) (int, any, *refusal) {
		s, refused := c.serverOf(r)
		if refused != nil {
			return 0, nil, refused
		}
		return http.StatusOK, map[string]any{"server": c.show(s)}, nil
	})
	c.handle("POST /v1/servers", c.createServer)
	c.handle("PUT /v1/servers/{id}", c.updateServer)
	c.handle("DELETE /v1/servers/{id}", func(r *http.Request) (int, any, *refusal) {
		s, refused := c.serverOf(r)
		switch {
		case refused != nil:
			return 0, nil, refused
		case s.Protection.Delete:
			return 0, nil, &refusal{http.StatusForbidden, "protected", "server deletion is protected", nil}
		case c.locked(s):
			return 0, nil, &refusal{http.StatusLocked, "locked", "server is locked", nil}
		}
		s.ends = time.Now().Add(c.Delete)
		return http.StatusOK, map[string]any{"action": c.action("delete_server", s.ID)}, nil
	})
	c.handle("POST /v1/servers/{id}/actions/poweron", func(r *http.Request) (int, any, *refusal) {
		s, refused := c.serverOf(r)
		switch {
		case refused != nil:
			return 0, nil, refused
		case c.locked(s):
			return 0, nil, &refusal{http.StatusLocked, "locked", "server is locked", nil}
		case s.off:
			s.off, s.begun = false, time.Now().Add(-c.Boot/2)
		}
		return http.StatusCreated, map[string]any{"action": c.action("start_server", s.ID)}, nil
	})
}

// settle ends what has come to its end.
func (c *Cloud) settle() {
	for id, s := range c.servers {
		if s.ends.IsZero() || time.Now().Before(s.ends) {
			continue
		}
		for _, f := range c.firewalls {
			if slices.Contains(f.servers, id) {
				f.servers = slices.DeleteFunc(f.servers, func(each int64) bool { return each == id })
				f.busy = time.Now().Add(c.Detach)
			}
		}
		delete(c.servers, id)
	}
}

func (c *Cloud) serverOf(r *http.Request) (*server, *refusal) {
	s, ok := c.servers[pathID(r)]
	if !ok {
		return nil, notFound("server", r.PathValue("id"))
	}
	return s, nil
}

// locked tells whether a server is being worked on: while it is made, and while it goes.
func (c *Cloud) locked(s *server) bool {
	return !s.ends.IsZero() || !s.off && time.Since(s.begun) < c.Boot/2
}

// status is the life of a server: made, off for a moment, starting, running.
func (c *Cloud) status(s *server) string {
	switch age := time.Since(s.begun); {
	case !s.ends.IsZero():
		return "deleting"
	case s.off:
		return "off"
	case age < c.Boot/4:
		return "initializing"
	case age < c.Boot/2:
		return "off"
	case age < c.Boot:
		return "starting"
	default:
		return "running"
	}
}

func (c *Cloud) show(s *server) schema.Server {
	shown := s.Server
	shown.Status, shown.Locked, shown.Labels = c.status(s), c.locked(s), maps.Clone(s.Labels)
	return shown
}

func (c *Cloud) action(command string, server int64) schema.Action {
	return schema.Action{
		ID: c.id(), Status: "running", Command: command, Started: time.Now(),
		Resources: []schema.ActionResourceReference{{ID: server, Type: "server"}},
	}
}

func (c *Cloud) createServer(r *http.Request) (int, any, *refusal) {
	body, refused := read[schema.ServerCreateRequest](r)
	if refused != nil {
		return 0, nil, refused
	}
	if refused := cmp.Or(checkHostName(body.Name), checkLabels(body.Labels)); refused != nil {
		return 0, nil, refused
	}
	// What there is room for is looked at before names: a repeated create may be refused for either.
	if refused := c.over("server", len(c.servers)); refused != nil {
		return 0, nil, refused
	}
	for _, s := range c.servers {
		if s.Name == body.Name {
			return 0, nil, taken("server name")
		}
	}
	s := &server{userData: body.UserData, begun: time.Now(), off: body.StartAfterCreate != nil && !*body.StartAfterCreate}
	s.Server = schema.Server{ID: c.id(), Name: body.Name, Created: time.Now(), Labels: map[string]string{}}
	if body.Labels != nil {
		s.Labels = *body.Labels
	}
	if refused := c.furnish(s, body); refused != nil {
		return 0, nil, refused
	}
	c.servers[s.ID] = s
	for _, each := range body.Firewalls {
		c.firewalls[each.Firewall].servers = append(c.firewalls[each.Firewall].servers, s.ID)
	}
	return http.StatusCreated, map[string]any{
		"server": c.show(s), "action": c.action("create_server", s.ID), "next_actions": []schema.Action{c.action("start_server", s.ID)},
		"root_password": nil,
	}, nil
}

// furnish looks up what a server is made of.
func (c *Cloud) furnish(s *server, body schema.ServerCreateRequest) *refusal {
	kind := lookup(c.types, body.ServerType, func(t schema.ServerType) (int64, string) { return t.ID, t.Name })
	if kind == nil {
		return invalid("server_type", "server type not found")
	}
	image := lookup(c.images, body.Image, func(i schema.Image) (int64, string) {
		if i.Name == nil || i.Architecture != kind.Architecture {
			return i.ID, ""
		}
		return i.ID, *i.Name
	})
	switch {
	case image == nil:
		return invalid("image", "image not found")
	case image.Architecture != kind.Architecture:
		return invalid("image", "image architecture does not fit the server type")
	case int(image.DiskSize) > kind.Disk:
		return &refusal{http.StatusUnprocessableEntity, "invalid_server_type", "disk is too small for the image", nil}
	case len(body.UserData) > maxUserData:
		return invalid("user_data", "is longer than %d bytes", maxUserData)
	}
	at := lookup(c.locations, number(cmp.Or(body.Location, "fsn1")), func(l schema.Location) (int64, string) { return l.ID, l.Name })
	if at == nil {
		return invalid("location", "location not found")
	}
	if !slices.ContainsFunc(kind.Locations, func(l schema.ServerTypeLocation) bool { return l.Name == at.Name && l.Available }) {
		return &refusal{http.StatusPreconditionFailed, "resource_unavailable", "server type is not available in " + at.Name, nil}
	}
	s.ServerType, s.Image, s.Location = *kind, image, *at
	for _, key := range body.SSHKeys {
		if lookup(c.keys, schema.IDOrName{ID: key}, func(k schema.SSHKey) (int64, string) { return k.ID, k.Name }) == nil {
			return invalid("ssh_keys", "SSH key not found")
		}
	}
	return cmp.Or(c.connect(s, body), c.group(s, body))
}

// connect gives a server its addresses.
func (c *Cloud) connect(s *server, body schema.ServerCreateRequest) *refusal {
	public := cmp.Or(body.PublicNet, &schema.ServerCreatePublicNet{EnableIPv4: true, EnableIPv6: true})
	if !public.EnableIPv4 && !public.EnableIPv6 && len(body.Networks) == 0 {
		return invalid("public_net", "a server needs a public or a private network")
	}
	if public.EnableIPv4 {
		s.ipv4 = c.id()
		s.PublicNet.IPv4 = schema.ServerPublicNetIPv4{ID: s.ipv4, IP: fmt.Sprintf("198.18.%d.%d", s.ID>>8&255, s.ID&255)}
	}
	if public.EnableIPv6 {
		s.v6 = c.id()
		s.PublicNet.IPv6 = schema.ServerPublicNetIPv6{ID: s.v6, IP: fmt.Sprintf("2001:db8:%x::/64", s.ID)}
	}
	for i, id := range body.Networks {
		network := lookup(c.networks, schema.IDOrName{ID: id}, func(n schema.Network) (int64, string) { return n.ID, n.Name })
		switch {
		case network == nil:
			return invalid("networks", "network not found")
		case !slices.ContainsFunc(network.Subnets, func(n schema.NetworkSubnet) bool { return n.NetworkZone == s.Location.NetworkZone }):
			return &refusal{http.StatusUnprocessableEntity, "no_subnet_available", "network has no subnet in " + s.Location.NetworkZone, nil}
		}
		s.PrivateNet = append(s.PrivateNet, schema.ServerPrivateNet{Network: id, IP: fmt.Sprintf("10.%d.%d.%d", i, s.ID>>8&255, s.ID&255)})
	}
	for _, each := range body.Firewalls {
		f, ok := c.firewalls[each.Firewall]
		switch {
		case !ok:
			return invalid("firewalls", "firewall not found")
		case !public.EnableIPv4 && !public.EnableIPv6:
			return &refusal{http.StatusUnprocessableEntity, "private_net_only_server", "server has no public interface", nil}
		}
		s.PublicNet.Firewalls = append(s.PublicNet.Firewalls, schema.ServerFirewall{ID: f.ID, Status: "applied"})
	}
	return nil
}

// group puts a server into a placement group.
func (c *Cloud) group(s *server, body schema.ServerCreateRequest) *refusal {
	if body.PlacementGroup == 0 {
		return nil
	}
	g, ok := c.placements[body.PlacementGroup]
	if !ok {
		return invalid("placement_group", "placement group not found")
	}
	if len(c.members(g.ID)) >= maxGroup {
		return &refusal{
			http.StatusUnprocessableEntity, "placement_group_member_limit_reached",
			fmt.Sprintf("placement group with ID %d contains already %d servers", g.ID, maxGroup), nil,
		}
	}
	s.PlacementGroup = &g.PlacementGroup
	return nil
}

func (c *Cloud) updateServer(r *http.Request) (int, any, *refusal) {
	s, refused := c.serverOf(r)
	if refused != nil {
		return 0, nil, refused
	}
	body, refused := read[schema.ServerUpdateRequest](r)
	if refused = cmp.Or(refused, checkLabels(body.Labels)); refused != nil {
		return 0, nil, refused
	}
	if body.Name != "" && body.Name != s.Name {
		return 0, nil, invalid("name", "the driver does not rename servers")
	}
	if body.Labels != nil {
		s.Labels = *body.Labels
	}
	return http.StatusOK, map[string]any{"server": c.show(s)}, nil
}
