package openstacktest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

type server struct {
	id, name, status, task string
	created, hidden        time.Time
	bindAt, activeAt, gone time.Time
	metadata               map[string]string
	tags                   []string
	ports                  []string
	volumes                []attached
	request                serverRequest
	foreign                bool // planted: has no ports, and is as it is
}

type attached struct {
	ID     string `json:"id"`
	Delete bool   `json:"delete_on_termination"`
}

type serverGroup struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Policy  string   `json:"policy"`
	Members []string `json:"members"`
}

type flavor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	VCPUs int    `json:"vcpus"`
	RAM   int    `json:"ram"`
	Disk  int    `json:"disk"`
}

// serverRequest is the body of the call that makes a server, of what the driver may use
// (https://docs.openstack.org/api-ref/compute/#create-server).
type serverRequest struct {
	Name             string            `json:"name"`
	ImageRef         string            `json:"imageRef"`
	FlavorRef        string            `json:"flavorRef"`
	AvailabilityZone string            `json:"availability_zone"`
	KeyName          string            `json:"key_name"`
	UserData         string            `json:"user_data"`
	ConfigDrive      bool              `json:"config_drive"`
	Metadata         map[string]string `json:"metadata"`
	Tags             []string          `json:"tags"`
	Networks         []struct {
		Port string `json:"port"`
	} `json:"networks"`
	BlockDevices []struct {
		BootIndex   int    `json:"boot_index"`
		UUID        string `json:"uuid"`
		Source      string `json:"source_type"`
		Destination string `json:"destination_type"`
		Size        int    `json:"volume_size"`
		Type        string `json:"volume_type"`
		Delete      bool   `json:"delete_on_termination"`
	} `json:"block_device_mapping_v2"`
}

func (c *Cloud) computeRoutes() {
	c.route("POST /compute/v2.1/servers", (*request).createServer)
	c.route("GET /compute/v2.1/servers/detail", (*request).listServers)
	c.route("GET /compute/v2.1/servers/{id}", (*request).showServer)
	c.route("DELETE /compute/v2.1/servers/{id}", (*request).deleteServer)
	c.route("POST /compute/v2.1/servers/{id}/action", (*request).act)
	c.route("GET /compute/v2.1/flavors/detail", func(r *request) answer { return ok(objects("flavors", r.c.flavors)) })
	c.route("GET /compute/v2.1/os-keypairs/{name}", (*request).showKeyPair)
	c.route("GET /compute/v2.1/os-availability-zone", (*request).listZones)
	c.route("GET /compute/v2.1/limits", (*request).limits)
	c.route("GET /compute/v2.1/os-server-groups", (*request).listServerGroups)
	c.route("POST /compute/v2.1/os-server-groups", (*request).createServerGroup)
	c.route("DELETE /compute/v2.1/os-server-groups/{id}", (*request).deleteServerGroup)
}

// advance lets time do what it does: servers get hold of their ports, become active and go.
func (c *Cloud) advance() {
	now := c.now()
	for _, id := range slices.Sorted(maps.Keys(c.servers)) {
		s := c.servers[id]
		if s.foreign {
			continue
		}
		if s.status == "BUILD" && !now.Before(s.bindAt) && s.task != "deleting" {
			c.bind(s)
		}
		if s.status == "BUILD" && !now.Before(s.activeAt) && s.task != "deleting" {
			s.status, s.task = "ACTIVE", ""
		}
		if !s.gone.IsZero() && !now.Before(s.gone) {
			c.remove(s)
		}
	}
	c.advanceNodes(now)
}

// bind gives a server its ports. One that is deleted or has another server by now ends the build (Nova's
// _validate_requested_port_ids).
func (c *Cloud) bind(s *server) {
	for _, id := range s.ports {
		p := c.ports[id]
		if p == nil || p.DeviceID != "" && p.DeviceID != s.id {
			s.status, s.task = "ERROR", ""
			c.release(s)
			return
		}
	}
	for _, id := range s.ports {
		if p := c.ports[id]; p.DeviceID == "" {
			p.DeviceID = s.id
			p.Revision++
		}
	}
}

func (c *Cloud) release(s *server) {
	for _, id := range s.ports {
		if p := c.ports[id]; p != nil && p.DeviceID == s.id {
			p.DeviceID = ""
			p.Revision++
		}
	}
}

func (c *Cloud) remove(s *server) {
	c.release(s)
	for _, v := range s.volumes {
		if volume := c.volumes[v.ID]; volume != nil {
			volume.Status = "available"
			if v.Delete && !c.KeepVolumes {
				delete(c.volumes, v.ID)
			}
		}
	}
	delete(c.servers, s.id)
}

func (r *request) createServer() answer {
	var body struct {
		Server serverRequest `json:"server"`
		Hints  struct {
			Group string `json:"group"`
		} `json:"os:scheduler_hints"`
	}
	if err := r.read(&body); err != nil {
		return refuse(400, "%v", err)
	}
	if a, bad := r.checkServer(body.Server, body.Hints.Group); bad {
		return a
	}
	now := r.c.now()
	s := &server{
		id: uuid.NewString(), name: body.Server.Name, status: "BUILD", task: "scheduling", created: now, hidden: now.Add(r.c.Hide),
		bindAt: now.Add(r.c.Bind), activeAt: now.Add(r.c.Build), metadata: body.Server.Metadata, tags: body.Server.Tags, request: body.Server,
	}
	for _, n := range body.Server.Networks {
		s.ports = append(s.ports, n.Port)
	}
	for _, device := range body.Server.BlockDevices {
		v := &volume{ID: uuid.NewString(), Status: "in-use", Size: device.Size, Type: device.Type, Metadata: map[string]string{}}
		r.c.volumes[v.ID] = v
		s.volumes = append(s.volumes, attached{v.ID, device.Delete})
	}
	if group := r.c.serverGroups[body.Hints.Group]; group != nil {
		group.Members = append(group.Members, s.id)
	}
	r.c.servers[s.id] = s
	return done(202, object("server", map[string]any{"id": s.id, "adminPass": "canary-admin-pass", "links": []any{}}))
}

// checkServer refuses what Nova's API refuses.
func (r *request) checkServer(s serverRequest, group string) (answer, bool) {
	invalid := func(format string, args ...any) (answer, bool) { return refuse(400, format, args...), true }
	if version := r.Header.Get("X-OpenStack-Nova-API-Version"); version != "2.67" {
		return invalid("version %q", version)
	}
	if a, bad := r.checkStrings(s); bad {
		return a, true
	}
	if !slices.ContainsFunc(r.c.flavors, func(f flavor) bool { return f.ID == s.FlavorRef }) {
		return invalid("Flavor %s could not be found.", s.FlavorRef)
	}
	source := s.ImageRef
	if len(s.BlockDevices) == 1 && s.BlockDevices[0].Source == "image" && s.BlockDevices[0].Destination == "volume" && s.BlockDevices[0].Size > 0 {
		source = s.BlockDevices[0].UUID
	} else if len(s.BlockDevices) > 0 {
		return invalid("Block Device Mapping is Invalid")
	}
	if i := r.c.images[source]; i == nil || i.Status != "active" {
		return invalid("Can not find requested image %s", source)
	}
	if group != "" && r.c.serverGroups[group] == nil {
		return invalid("ServerGroup %s could not be found", group)
	}
	if len(s.Networks) == 0 {
		return invalid("networks is required")
	}
	for _, n := range s.Networks {
		switch p := r.c.ports[n.Port]; {
		case p == nil:
			return invalid("Port id %s could not be found.", n.Port)
		case p.DeviceID != "":
			return refuse(409, "Port %s is still in use.", n.Port), true
		case s.FlavorRef == "3" && len(p.Groups) > 0:
			return invalid("bare metal has no security groups")
		}
	}
	if r.c.over("instances", len(r.c.servers)) {
		return refuse(403, "Quota exceeded for instances: Requested 1, but already used %d of %d instances",
			len(r.c.servers), r.c.Quotas["instances"]), true
	}
	return answer{}, false
}

func (r *request) checkStrings(s serverRequest) (answer, bool) {
	invalid := func(format string, args ...any) (answer, bool) { return refuse(400, format, args...), true }
	if s.Name == "" || len(s.Name) > 255 {
		return invalid("Invalid input for field/attribute name")
	}
	if s.AvailabilityZone != "" && !slices.Contains(strings.Fields(Zones), s.AvailabilityZone) {
		return invalid("The requested availability zone is not available")
	}
	if s.KeyName != "" && s.KeyName != KeyPair {
		return invalid("Invalid key_name provided.")
	}
	if data, err := base64.StdEncoding.DecodeString(s.UserData); err != nil || len(s.UserData) > 65535 {
		return invalid("user_data of %d bytes, %d encoded: %v", len(data), len(s.UserData), err)
	}
	for key, value := range s.Metadata {
		if key == "" || len(key) > 255 || len(value) > 255 {
			return invalid("Invalid input for field/attribute metadata")
		}
	}
	for _, tag := range s.Tags {
		if tag == "" || len(tag) > 60 || strings.ContainsAny(tag, ",/") {
			return invalid("Invalid tag %s", tag)
		}
	}
	return answer{}, false
}

// view is a server as the API shows it.
func (c *Cloud) view(s *server) map[string]any {
	addresses := map[string]any{}
	for _, id := range s.ports {
		p := c.ports[id]
		if p == nil || p.DeviceID != s.id {
			continue
		}
		list := []any{map[string]any{"addr": p.Address, "version": 4, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": p.MAC}}
		for _, f := range c.floating {
			if f.PortID == id {
				list = append(list, map[string]any{"addr": f.Address, "version": 4, "OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": p.MAC})
			}
		}
		addresses[c.networkName(p.NetworkID)] = list
	}
	task := any(nil)
	if s.task != "" {
		task = s.task
	}
	volumes := s.volumes
	if volumes == nil {
		volumes = []attached{}
	}
	return map[string]any{
		"id": s.id, "name": s.name, "status": s.status, "OS-EXT-STS:task_state": task, "created": stamp(s.created), "updated": stamp(s.created),
		"metadata": s.metadata, "tags": s.tags, "addresses": addresses, "os-extended-volumes:volumes_attached": volumes, "config_drive": "True",
	}
}

func (r *request) listServers() answer {
	wanted := strings.Split(r.URL.Query().Get("tags"), ",")
	var list []any
	for _, id := range slices.Sorted(maps.Keys(r.c.servers)) {
		s := r.c.servers[id]
		tagged := !slices.ContainsFunc(wanted, func(tag string) bool { return tag != "" && !slices.Contains(s.tags, tag) })
		if tagged && !r.c.now().Before(s.hidden) {
			list = append(list, r.c.view(s))
		}
	}
	return ok(objects("servers", list))
}

func (r *request) showServer() answer {
	s := r.c.servers[r.PathValue("id")]
	if s == nil {
		return refuse(404, "Instance %s could not be found.", r.PathValue("id"))
	}
	return ok(object("server", r.c.view(s)))
}

func (r *request) deleteServer() answer {
	s := r.c.servers[r.PathValue("id")]
	if s == nil {
		return refuse(404, "Instance %s could not be found.", r.PathValue("id"))
	}
	if s.gone.IsZero() {
		s.task, s.gone = "deleting", r.c.now().Add(r.c.Delete)
	}
	return done(204, nil)
}

// actions that change a server's power, with the states in which Nova takes them.
var actions = map[string][]string{
	"os-start": {"SHUTOFF"}, "unpause": {"PAUSED"}, "resume": {"SUSPENDED"}, "unshelve": {"SHELVED", "SHELVED_OFFLOADED"},
	"os-stop": {"ACTIVE", "ERROR"},
}

func (r *request) act() answer {
	s := r.c.servers[r.PathValue("id")]
	if s == nil {
		return refuse(404, "Instance %s could not be found.", r.PathValue("id"))
	}
	var body map[string]any // of one action
	if err := r.read(&body); err != nil || len(body) != 1 {
		return refuse(400, "%v", err)
	}
	for action := range body {
		if action == "os-getConsoleOutput" {
			return ok(object("output", fmt.Sprintf("booting %s\nMUSTER HOST IS UP\n", s.name)))
		}
		from, known := actions[action]
		if !known {
			return refuse(400, "There is no such action: %s", action)
		}
		if !slices.Contains(from, s.status) {
			return refuse(409, "Cannot '%s' instance %s while it is in vm_state %s", action, s.id, strings.ToLower(s.status))
		}
		s.status = "ACTIVE"
		if action == "os-stop" {
			s.status = "SHUTOFF"
		}
	}
	return done(202, nil)
}

func (r *request) showKeyPair() answer {
	if r.PathValue("name") != KeyPair {
		return refuse(404, "Keypair %s not found for user", r.PathValue("name"))
	}
	return ok(object("keypair", map[string]any{"name": KeyPair}))
}

func (r *request) listZones() answer {
	var list []any
	for _, zone := range strings.Fields(Zones) {
		list = append(list, map[string]any{"zoneName": zone, "zoneState": map[string]any{"available": true}, "hosts": nil})
	}
	return ok(objects("availabilityZoneInfo", list))
}

func (r *request) limits() answer {
	return ok(object("limits", map[string]any{"absolute": map[string]any{
		"maxTotalInstances": r.c.limit("instances"), "totalInstancesUsed": len(r.c.servers),
		"maxTotalCores": r.c.limit("cores"), "totalCoresUsed": len(r.c.servers),
		"maxTotalRAMSize": r.c.limit("ram"), "totalRAMUsed": 1024 * len(r.c.servers),
		"maxServerGroupMembers": r.c.limit("server_group_members"),
	}}))
}

func (r *request) listServerGroups() answer {
	var list []*serverGroup
	for _, id := range slices.Sorted(maps.Keys(r.c.serverGroups)) {
		list = append(list, r.c.serverGroups[id])
	}
	return ok(objects("server_groups", list))
}

func (r *request) createServerGroup() answer {
	var body struct {
		Group struct {
			Name   string `json:"name"`
			Policy string `json:"policy"`
		} `json:"server_group"`
	}
	if err := r.read(&body); err != nil || body.Group.Name == "" {
		return refuse(400, "%v", err)
	}
	if !slices.Contains([]string{"anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"}, body.Group.Policy) {
		return refuse(400, "Invalid policy %s", body.Group.Policy)
	}
	group := &serverGroup{ID: uuid.NewString(), Name: body.Group.Name, Policy: body.Group.Policy, Members: []string{}}
	r.c.serverGroups[group.ID] = group
	return ok(object("server_group", group))
}

func (r *request) deleteServerGroup() answer {
	if r.c.serverGroups[r.PathValue("id")] == nil {
		return refuse(404, "Instance group %s could not be found.", r.PathValue("id"))
	}
	delete(r.c.serverGroups, r.PathValue("id"))
	return done(204, nil)
}
