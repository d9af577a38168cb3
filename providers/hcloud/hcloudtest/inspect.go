package hcloudtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// Everything names all that the project pays for or that is limited, in order: servers, their addresses, firewalls and
// placement groups, with their labels.
func (c *Cloud) Everything() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	all := []string{}
	for _, s := range c.servers {
		all = append(all, fmt.Sprintf("server %s %d %v off=%t", s.Name, s.ID, s.Labels, s.off))
		for _, id := range []int64{s.ipv4, s.v6} {
			if id != 0 {
				all = append(all, fmt.Sprintf("primary IP %d of server %d", id, s.ID))
			}
		}
	}
	for _, f := range c.firewalls {
		all = append(all, fmt.Sprintf("firewall %s %d %v %d rules", f.Name, f.ID, f.Labels, len(f.Rules)))
	}
	for _, g := range c.placements {
		all = append(all, fmt.Sprintf("placement group %s %d %v", g.Name, g.ID, g.Labels))
	}
	slices.Sort(all)
	return all
}

// Count counts what Everything names, by the beginning of the name.
func (c *Cloud) Count(kind string) (n int) {
	for _, each := range c.Everything() {
		if strings.HasPrefix(each, kind+" ") {
			n++
		}
	}
	return n
}

// Server shows a server and the user-data that it was made with.
func (c *Cloud) Server(name string) (shown schema.Server, userData string, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.Name == name {
			return c.show(s), s.userData, true
		}
	}
	return schema.Server{}, "", false
}

// Firewall shows the firewall of a name.
func (c *Cloud) Firewall(name string) (shown schema.Firewall, there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.firewalls {
		if f.Name == name {
			return c.showFirewall(f), true
		}
	}
	return schema.Firewall{}, false
}

// Labels gives the server, firewall or placement group of a name other labels, as somebody at the console would.
func (c *Cloud) Labels(name string, labels map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.Name == name {
			s.Labels = labels
		}
	}
	for _, f := range c.firewalls {
		if f.Name == name {
			f.Labels = labels
		}
	}
	for _, g := range c.placements {
		if g.Name == name {
			g.Labels = labels
		}
	}
}

// PowerOff powers a server off, as somebody at the console would.
func (c *Cloud) PowerOff(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if fmt.Sprint(s.ID) == id {
			s.off = true
			return nil
		}
	}
	return fmt.Errorf("there is no server %s", id)
}

// Protect protects the server of a name from being deleted.
func (c *Cloud) Protect(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.Name == name {
			s.Protection.Delete = true
		}
	}
}

// PlantServer makes a server that the driver did not make, and tells its name.
func (c *Cloud) PlantServer(name string, labels map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.id()
	if name == "" {
		name = fmt.Sprintf("theirs-%d", id)
	}
	c.servers[id] = &server{
		Server: schema.Server{ID: id, Name: name, Labels: labels, Created: time.Now().Add(-time.Hour)}, begun: time.Now().Add(-time.Hour),
	}
	return name
}

// PlantFirewall makes a firewall that the driver did not make.
func (c *Cloud) PlantFirewall(name string, labels map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addFirewall(name, &labels, nil).Created = time.Now().Add(-time.Hour)
}

// PlantPlacement makes a placement group that the driver did not make.
func (c *Cloud) PlantPlacement(name string, labels map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addPlacement(name, &labels).Created = time.Now().Add(-time.Hour)
}
