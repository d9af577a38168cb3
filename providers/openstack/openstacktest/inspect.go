package openstacktest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Everything lists what there is beside what a new cloud has, each as "kind name", sorted: to count what a test left.
func (c *Cloud) Everything() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	var all []string
	for id, s := range c.servers {
		all = append(all, fmt.Sprintf("server %s %s %s", s.name, id, s.status))
	}
	for _, p := range c.ports {
		all = append(all, "port "+p.Name+" "+p.Description)
	}
	for _, f := range c.floating {
		all = append(all, "floating IP "+f.Description)
	}
	for _, g := range c.groups {
		all = append(all, "security group "+g.Name)
	}
	for _, g := range c.serverGroups {
		all = append(all, "affinity group "+g.Name)
	}
	for _, v := range c.volumes {
		all = append(all, "volume "+v.Name+" "+v.Metadata["muster.cluster"])
	}
	for _, a := range c.allocations {
		all = append(all, "allocation "+a.Name+" "+a.Extra["muster.cluster"])
	}
	for _, n := range c.nodes {
		for range n.vifs {
			all = append(all, "interface of node "+n.Name)
		}
	}
	slices.Sort(all)
	return all
}

// Count counts what Everything lists of a kind.
func (c *Cloud) Count(kind string) int {
	n := 0
	for _, each := range c.Everything() {
		if strings.HasPrefix(each, kind+" ") {
			n++
		}
	}
	return n
}

// PlantServer makes a server of somebody else, active and without ports.
func (c *Cloud) PlantServer(name string, metadata map[string]string, tags ...string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.servers[id] = &server{
		id: id, name: name, status: "ACTIVE", created: c.now(), metadata: maps.Clone(metadata), tags: tags, foreign: true,
	}
	return id
}

// PlantPort makes a port of somebody else.
func (c *Cloud) PlantPort(name, description, device string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.ports[id] = &port{
		ID: id, Name: name, Description: description, NetworkID: c.networks[0].ID, DeviceID: device, Revision: 1,
		Created: stamp(c.now()), Project: Project, Groups: []string{},
	}
	return id
}

// PlantGroup makes a security group of somebody else.
func (c *Cloud) PlantGroup(name, description string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.groups[id] = &securityGroup{ID: id, Name: name, Description: description, Project: Project}
	return id
}

// PlantFloatingIP makes a floating IP of somebody else.
func (c *Cloud) PlantFloatingIP(description string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.floating[id] = &floatingIP{ID: id, Description: description, NetworkID: c.networks[2].ID, Project: Project, Address: "198.51.100.251"}
	return id
}

// PlantImage makes an image and returns its ID.
func (c *Cloud) PlantImage(name, status string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := uuid.NewString()
	c.images[id] = &image{ID: id, Name: name, Status: status}
	return id
}

// Untouched describes a planted server as it is, "" when it is gone.
func (c *Cloud) Untouched(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[id]
	if s == nil {
		return ""
	}
	return fmt.Sprint(s.name, s.status, s.task, s.metadata, s.tags)
}

// PowerOff stops a server as somebody at the console would.
func (c *Cloud) PowerOff(id string) error { return c.SetStatus(id, "SHUTOFF") }

// SetStatus gives an active server another status, as somebody who pauses or shelves it would.
func (c *Cloud) SetStatus(id, status string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	s := c.servers[id]
	if s == nil || s.status != "ACTIVE" {
		return fmt.Errorf("server %s is not active", id)
	}
	s.status = status
	return nil
}

// Requested is what a server was given, in base64, with its other parameters of interest.
func (c *Cloud) Requested(id string) (userData, keyName, zone string, configDrive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[id]
	if s == nil {
		return "", "", "", false
	}
	return s.request.UserData, s.request.KeyName, s.request.AvailabilityZone, s.request.ConfigDrive
}
