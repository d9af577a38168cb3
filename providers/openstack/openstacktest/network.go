package openstacktest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"
)

type network struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	External bool   `json:"router:external"`
	Shared   bool   `json:"shared"`
	Project  string `json:"project_id"`
}

type port struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	NetworkID   string   `json:"network_id"`
	DeviceID    string   `json:"device_id"`
	Groups      []string `json:"security_groups"`
	Revision    int      `json:"revision_number"`
	Created     string   `json:"created_at"`
	Project     string   `json:"project_id"`
	MAC         string   `json:"mac_address"`
	Address     string   `json:"-"`
	FixedIPs    []any    `json:"fixed_ips"`
}

type floatingIP struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	NetworkID   string `json:"floating_network_id"`
	PortID      string `json:"port_id"`
	Address     string `json:"floating_ip_address"`
	Project     string `json:"project_id"`
}

type securityGroup struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Project     string         `json:"project_id"`
	Rules       []securityRule `json:"security_group_rules"`
}

type securityRule struct {
	ID        string `json:"id"`
	GroupID   string `json:"security_group_id"`
	Direction string `json:"direction"`
	EtherType string `json:"ethertype"`
	Protocol  string `json:"protocol"`
	Min       int    `json:"port_range_min"`
	Max       int    `json:"port_range_max"`
	Prefix    string `json:"remote_ip_prefix"`
	Remote    string `json:"remote_group_id"`
}

func (c *Cloud) networkRoutes() {
	const base = "/network/v2.0/"
	c.route("GET "+base+"networks", (*request).listNetworks)
	c.route("GET "+base+"subnets/{id}", (*request).showSubnet)
	c.route("GET "+base+"ports", (*request).listPorts)
	c.route("POST "+base+"ports", (*request).createPort)
	c.route("DELETE "+base+"ports/{id}", (*request).deletePort)
	c.route("GET "+base+"floatingips", (*request).listFloating)
	c.route("POST "+base+"floatingips", (*request).createFloating)
	c.route("DELETE "+base+"floatingips/{id}", (*request).deleteFloating)
	c.route("GET "+base+"security-groups", (*request).listGroups)
	c.route("POST "+base+"security-groups", (*request).createGroup)
	c.route("DELETE "+base+"security-groups/{id}", (*request).deleteGroup)
	c.route("POST "+base+"security-group-rules", (*request).createRule)
	c.route("GET "+base+"quotas/{project}/details.json", (*request).networkQuota)
}

func (c *Cloud) networkName(id string) string {
	i := slices.IndexFunc(c.networks, func(n network) bool { return n.ID == id })
	if i < 0 {
		return ""
	}
	return c.networks[i].Name
}

// matches tells whether fields have the values that a query asks for. A query with an unknown key matches nothing, so that
// a misspelt filter is seen.
func matches(query url.Values, fields map[string]string) bool {
	for key := range query {
		if key == "limit" || key == "marker" {
			continue
		}
		value, known := fields[key]
		if !known || query.Get(key) != value {
			return false
		}
	}
	return true
}

func (r *request) listNetworks() answer {
	list := slices.DeleteFunc(slices.Clone(r.c.networks), func(n network) bool {
		return !matches(r.URL.Query(), map[string]string{"id": n.ID, "name": n.Name})
	})
	return ok(objects("networks", list))
}

// showSubnet shows the subnet of a network, which has its ID.
func (r *request) showSubnet() answer {
	if r.c.networkName(r.PathValue("id")) == "" {
		return refuseNeutron(404, "SubnetNotFound", "Subnet %s could not be found.", r.PathValue("id"))
	}
	return ok(object("subnet", map[string]any{
		"id": r.PathValue("id"), "network_id": r.PathValue("id"), "ip_version": 4, "cidr": "10.42.0.0/16", "gateway_ip": "10.42.0.1",
		"dns_nameservers": []string{"10.42.0.1"}, "host_routes": []any{},
	}))
}

func (r *request) listPorts() answer {
	var list []*port
	for _, id := range slices.Sorted(maps.Keys(r.c.ports)) {
		p := r.c.ports[id]
		fields := map[string]string{"name": p.Name, "description": p.Description, "project_id": p.Project, "device_id": p.DeviceID}
		if matches(r.URL.Query(), fields) {
			list = append(list, p)
		}
	}
	return ok(objects("ports", list))
}

func (r *request) createPort() answer {
	var body struct {
		Port struct {
			NetworkID   string    `json:"network_id"`
			Name        string    `json:"name"`
			Description string    `json:"description"`
			Groups      *[]string `json:"security_groups"`
		} `json:"port"`
	}
	if err := r.read(&body); err != nil {
		return refuseNeutron(400, "HTTPBadRequest", "%v", err)
	}
	if r.c.networkName(body.Port.NetworkID) == "" {
		return refuseNeutron(404, "NetworkNotFound", "Network %s could not be found.", body.Port.NetworkID)
	}
	if len(body.Port.Description) > 255 || len(body.Port.Name) > 255 {
		return refuseNeutron(400, "HTTPBadRequest", "Invalid input: longer than 255 characters")
	}
	var groups []string
	if body.Port.Groups != nil {
		groups = *body.Port.Groups
	}
	for _, id := range groups {
		if r.c.groups[id] == nil {
			return refuseNeutron(404, "SecurityGroupNotFound", "Security group %s does not exist", id)
		}
	}
	if r.c.over("port", len(r.c.ports)) {
		return refuseNeutron(409, "OverQuota", "Quota exceeded for resources: ['port'].")
	}
	r.c.nextAddress++
	p := &port{
		ID: uuid.NewString(), Name: body.Port.Name, Description: body.Port.Description, NetworkID: body.Port.NetworkID,
		Groups: groups, Revision: 1, Created: stamp(r.c.now()), Project: Project,
		MAC:     fmt.Sprintf("fa:16:3e:00:%02x:%02x", r.c.nextAddress/250, r.c.nextAddress%250),
		Address: fmt.Sprintf("10.42.%d.%d", r.c.nextAddress/250, 2+r.c.nextAddress%250),
	}
	p.FixedIPs = []any{map[string]any{"subnet_id": body.Port.NetworkID, "ip_address": p.Address}}
	r.c.ports[p.ID] = p
	return done(201, object("port", p))
}

func (r *request) deletePort() answer {
	p := r.c.ports[r.PathValue("id")]
	if p == nil {
		return refuseNeutron(404, "PortNotFound", "Port %s could not be found.", r.PathValue("id"))
	}
	if wanted := r.Header.Get("If-Match"); wanted != "" && wanted != fmt.Sprintf("revision_number=%d", p.Revision) {
		return refuseNeutron(412, "RevisionNumberConstraintFailed", "Constrained to revision %s, but current revision is %d",
			wanted, p.Revision)
	}
	for _, f := range r.c.floating {
		if f.PortID == p.ID {
			f.PortID = ""
		}
	}
	delete(r.c.ports, p.ID)
	return done(204, nil)
}

func (r *request) listFloating() answer {
	var list []*floatingIP
	for _, id := range slices.Sorted(maps.Keys(r.c.floating)) {
		f := r.c.floating[id]
		if matches(r.URL.Query(), map[string]string{"port_id": f.PortID, "description": f.Description, "project_id": f.Project}) {
			list = append(list, f)
		}
	}
	return ok(objects("floatingips", list))
}

func (r *request) createFloating() answer {
	var body struct {
		Floating struct {
			NetworkID   string `json:"floating_network_id"`
			PortID      string `json:"port_id"`
			Description string `json:"description"`
		} `json:"floatingip"`
	}
	if err := r.read(&body); err != nil {
		return refuseNeutron(400, "HTTPBadRequest", "%v", err)
	}
	if !slices.ContainsFunc(r.c.networks, func(n network) bool { return n.ID == body.Floating.NetworkID && n.External }) {
		return refuseNeutron(400, "BadRequest", "Network %s is not a valid external network", body.Floating.NetworkID)
	}
	if r.c.ports[body.Floating.PortID] == nil {
		return refuseNeutron(404, "PortNotFound", "Port %s could not be found.", body.Floating.PortID)
	}
	for _, f := range r.c.floating {
		if f.PortID == body.Floating.PortID {
			return refuseNeutron(409, "FloatingIPPortAlreadyAssociated", "Cannot associate floating IP with port %s",
				f.PortID)
		}
	}
	if r.c.over("floatingip", len(r.c.floating)) {
		return refuseNeutron(409, "OverQuota", "Quota exceeded for resources: ['floatingip'].")
	}
	r.c.nextAddress++
	f := &floatingIP{
		ID: uuid.NewString(), Description: body.Floating.Description, NetworkID: body.Floating.NetworkID, PortID: body.Floating.PortID,
		Address: fmt.Sprintf("198.51.100.%d", r.c.nextAddress%250), Project: Project,
	}
	r.c.floating[f.ID] = f
	return done(201, object("floatingip", f))
}

func (r *request) deleteFloating() answer {
	if r.c.floating[r.PathValue("id")] == nil {
		return refuseNeutron(404, "FloatingIPNotFound", "Floating IP %s could not be found", r.PathValue("id"))
	}
	delete(r.c.floating, r.PathValue("id"))
	return done(204, nil)
}

func (r *request) listGroups() answer {
	var list []*securityGroup
	for _, id := range slices.Sorted(maps.Keys(r.c.groups)) {
		g := r.c.groups[id]
		fields := map[string]string{"id": g.ID, "name": g.Name, "description": g.Description, "project_id": g.Project}
		if matches(r.URL.Query(), fields) {
			list = append(list, g)
		}
	}
	return ok(objects("security_groups", list))
}

func (r *request) createGroup() answer {
	var body struct {
		Group struct {
			Name        string `json:"name"`
			Description string `json:"description"`
		} `json:"security_group"`
	}
	if err := r.read(&body); err != nil {
		return refuseNeutron(400, "HTTPBadRequest", "%v", err)
	}
	if r.c.over("security_group", len(r.c.groups)) {
		return refuseNeutron(409, "OverQuota", "Quota exceeded for resources: ['security_group'].")
	}
	g := &securityGroup{ID: uuid.NewString(), Name: body.Group.Name, Description: body.Group.Description, Project: Project}
	for _, family := range []string{"IPv4", "IPv6"} {
		g.Rules = append(g.Rules, securityRule{ID: uuid.NewString(), GroupID: g.ID, Direction: "egress", EtherType: family})
	}
	r.c.groups[g.ID] = g
	return done(201, object("security_group", g))
}

func (r *request) deleteGroup() answer {
	id := r.PathValue("id")
	if r.c.groups[id] == nil {
		return refuseNeutron(404, "SecurityGroupNotFound", "Security group %s does not exist", id)
	}
	for _, p := range r.c.ports {
		if slices.Contains(p.Groups, id) {
			return refuseNeutron(409, "SecurityGroupInUse", "Security Group %s in use.", id)
		}
	}
	delete(r.c.groups, id)
	return done(204, nil)
}

func (r *request) createRule() answer {
	var body struct {
		Rule securityRule `json:"security_group_rule"`
	}
	if err := r.read(&body); err != nil {
		return refuseNeutron(400, "HTTPBadRequest", "%v", err)
	}
	g := r.c.groups[body.Rule.GroupID]
	if g == nil {
		return refuseNeutron(404, "SecurityGroupNotFound", "Security group %s does not exist", body.Rule.GroupID)
	}
	for _, have := range g.Rules {
		have.ID = ""
		if have == body.Rule {
			return refuseNeutron(409, "SecurityGroupRuleExists", "Security group rule already exists.")
		}
	}
	body.Rule.ID = uuid.NewString()
	g.Rules = append(g.Rules, body.Rule)
	return done(201, object("security_group_rule", body.Rule))
}

func (r *request) networkQuota() answer {
	detail := func(name string, used int) any {
		return map[string]any{"used": used, "limit": r.c.limit(name), "reserved": 0}
	}
	return ok(object("quota", map[string]any{
		"port": detail("port", len(r.c.ports)), "floatingip": detail("floatingip", len(r.c.floating)),
		"security_group": detail("security_group", len(r.c.groups)),
	}))
}

// AgePorts makes every port older.
func (c *Cloud) AgePorts(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.ports {
		p.Created = stamp(c.now().Add(-by))
	}
}
