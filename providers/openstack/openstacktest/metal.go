package openstacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// node is a machine of Ironic (https://docs.openstack.org/api-ref/baremetal/).
type node struct {
	UUID          string         `json:"uuid"`
	Name          string         `json:"name"`
	ResourceClass string         `json:"resource_class"`
	Provision     string         `json:"provision_state"`
	Power         string         `json:"power_state"`
	hard          bool           // knows no soft power off
	InstanceUUID  string         `json:"instance_uuid"`
	InstanceInfo  map[string]any `json:"instance_info"`

	vifs  []string
	drive map[string]any
	until time.Time // when the state it is in ends
}

type allocation struct {
	UUID          string            `json:"uuid"`
	Name          string            `json:"name"`
	State         string            `json:"state"`
	LastError     string            `json:"last_error"`
	ResourceClass string            `json:"resource_class"`
	Candidates    []string          `json:"candidate_nodes"`
	NodeUUID      string            `json:"node_uuid"`
	Extra         map[string]string `json:"extra"`
	Created       string            `json:"created_at"`
}

func (c *Cloud) metalRoutes() {
	const base = "/baremetal/v1/"
	c.route("POST "+base+"allocations", (*request).createAllocation)
	c.route("GET "+base+"allocations", (*request).listAllocations)
	c.route("GET "+base+"allocations/{id}", (*request).showAllocation)
	c.route("DELETE "+base+"allocations/{id}", (*request).deleteAllocation)
	c.route("GET "+base+"nodes", (*request).listNodes)
	c.route("GET "+base+"nodes/{id}", (*request).showNode)
	c.route("PATCH "+base+"nodes/{id}", (*request).updateNode)
	c.route("PUT "+base+"nodes/{id}/states/provision", (*request).provision)
	c.route("PUT "+base+"nodes/{id}/states/power", (*request).power)
	c.route("GET "+base+"nodes/{id}/vifs", (*request).listVIFs)
	c.route("POST "+base+"nodes/{id}/vifs", (*request).attachVIF)
	c.route("DELETE "+base+"nodes/{id}/vifs/{vif}", (*request).detachVIF)
}

// advanceNodes lets nodes be deployed, torn down and cleaned, and allocations find theirs.
func (c *Cloud) advanceNodes(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		n := c.nodes[id]
		if now.Before(n.until) {
			continue
		}
		switch n.Provision {
		case "deploying":
			n.Provision, n.Power = "active", "power on"
		case "deleting":
			delete(c.allocations, n.InstanceUUID)
			n.Provision, n.Power, n.InstanceUUID, n.InstanceInfo, n.vifs, n.drive = "cleaning", "power off", "", nil, nil, nil
			n.until = now.Add(c.Delete)
		case "cleaning":
			n.Provision = "available"
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.allocations)) {
		if a := c.allocations[id]; a.State == "allocating" {
			c.allocate(a)
		}
	}
}

func (c *Cloud) allocate(a *allocation) {
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		n := c.nodes[id]
		wanted := len(a.Candidates) == 0 || slices.Contains(a.Candidates, n.UUID)
		if wanted && n.InstanceUUID == "" && n.Provision == "available" && n.ResourceClass == a.ResourceClass {
			n.InstanceUUID, a.NodeUUID, a.State = a.UUID, n.UUID, "active"
			return
		}
	}
	a.State, a.LastError = "error", "Failed to process allocation: no available nodes match the resource class"
}

// refuseIronic is how Ironic refuses.
func refuseIronic(status int, format string, args ...any) answer {
	text, _ := json.Marshal(map[string]any{"faultcode": "Client", "faultstring": fmt.Sprintf(format, args...), "debuginfo": nil})
	return answer{status: status, body: object("error_message", string(text))}
}

func (c *Cloud) findAllocation(name string) *allocation {
	for _, a := range c.allocations {
		if a.UUID == name || a.Name == name {
			return a
		}
	}
	return nil
}

func (c *Cloud) findNode(name string) *node {
	for _, n := range c.nodes {
		if n.UUID == name || n.Name == name {
			return n
		}
	}
	return nil
}

func (r *request) createAllocation() answer {
	var a allocation
	if err := r.read(&a); err != nil || a.ResourceClass == "" {
		return refuseIronic(400, "Missing mandatory parameter: resource_class: %v", err)
	}
	if r.c.findAllocation(a.Name) != nil {
		return refuseIronic(409, "An allocation with name %s already exists.", a.Name)
	}
	for _, candidate := range a.Candidates {
		if r.c.findNode(candidate) == nil {
			return refuseIronic(400, "Node %s could not be found.", candidate)
		}
	}
	a.UUID, a.State, a.Created = uuid.NewString(), "allocating", stamp(r.c.now())
	r.c.allocations[a.UUID] = &a
	return done(201, a)
}

func (r *request) listAllocations() answer {
	var list []*allocation
	for _, id := range slices.Sorted(maps.Keys(r.c.allocations)) {
		list = append(list, r.c.allocations[id])
	}
	return ok(objects("allocations", list))
}

func (r *request) showAllocation() answer {
	a := r.c.findAllocation(r.PathValue("id"))
	if a == nil {
		return refuseIronic(404, "Allocation %s could not be found.", r.PathValue("id"))
	}
	return ok(a)
}

func (r *request) deleteAllocation() answer {
	a := r.c.findAllocation(r.PathValue("id"))
	if a == nil {
		return refuseIronic(404, "Allocation %s could not be found.", r.PathValue("id"))
	}
	if n := r.c.findNode(a.NodeUUID); n != nil {
		if n.Provision != "available" && n.Provision != "manageable" {
			return refuseIronic(409, "Node %s is associated with instance %s.", n.UUID, a.UUID)
		}
		n.InstanceUUID = ""
	}
	delete(r.c.allocations, a.UUID)
	return done(204, nil)
}

func (r *request) listNodes() answer {
	var list []*node
	for _, id := range slices.Sorted(maps.Keys(r.c.nodes)) {
		n := r.c.nodes[id]
		if r.URL.Query().Get("associated") == "" || n.InstanceUUID != "" {
			list = append(list, n)
		}
	}
	return ok(objects("nodes", list))
}

// withNode carries out what is asked of a node.
func (r *request) withNode(do func(*node) answer) answer {
	n := r.c.findNode(r.PathValue("id"))
	if n == nil {
		return refuseIronic(404, "Node %s could not be found.", r.PathValue("id"))
	}
	return do(n)
}

func (r *request) showNode() answer { return r.withNode(func(n *node) answer { return ok(n) }) }

func (r *request) updateNode() answer {
	return r.withNode(func(n *node) answer {
		var patch []struct {
			Op    string `json:"op"`
			Path  string `json:"path"`
			Value any    `json:"value"`
		}
		if err := r.read(&patch); err != nil {
			return refuseIronic(400, "%v", err)
		}
		for _, each := range patch {
			key, isInfo := strings.CutPrefix(each.Path, "/instance_info/")
			if each.Op != "add" || !isInfo || n.Provision != "available" {
				return refuseIronic(400, "cannot %s %s in state %s", each.Op, each.Path, n.Provision)
			}
			if n.InstanceInfo == nil {
				n.InstanceInfo = map[string]any{}
			}
			n.InstanceInfo[key] = each.Value
		}
		return ok(n)
	})
}

func (r *request) provision() answer {
	return r.withNode(func(n *node) answer {
		var body struct {
			Target string         `json:"target"`
			Drive  map[string]any `json:"configdrive"`
		}
		if err := r.read(&body); err != nil {
			return refuseIronic(400, "%v", err)
		}
		switch {
		case body.Target == "active" && n.Provision == "available" && n.InstanceInfo["image_source"] != nil:
			n.Provision, n.drive, n.until = "deploying", body.Drive, r.c.now().Add(r.c.Build)
		case body.Target == "deleted" && (n.Provision == "active" || n.Provision == "deploy failed"):
			n.Provision, n.until = "deleting", r.c.now().Add(r.c.Delete)
		default:
			return refuseIronic(400, "The requested action %q can not be performed on node %q while it is in state %q.",
				body.Target, n.UUID, n.Provision)
		}
		return done(202, nil)
	})
}

func (r *request) power() answer {
	return r.withNode(func(n *node) answer {
		var body struct {
			Target  string `json:"target"`
			Timeout int    `json:"timeout"`
		}
		if err := r.read(&body); err != nil || !slices.Contains([]string{"power on", "power off", "soft power off"}, body.Target) {
			return refuseIronic(400, "%v", err)
		}
		target, soft := strings.CutPrefix(body.Target, "soft ")
		if soft && n.hard {
			return refuseIronic(400, "Failed to validate power: the driver does not support %s", body.Target)
		}
		n.Power = target
		return done(202, nil)
	})
}

func (r *request) listVIFs() answer {
	return r.withNode(func(n *node) answer {
		var list []any
		for _, id := range n.vifs {
			list = append(list, object("id", id))
		}
		return ok(objects("vifs", list))
	})
}

func (r *request) attachVIF() answer {
	return r.withNode(func(n *node) answer {
		var body struct {
			ID string `json:"id"`
		}
		if err := r.read(&body); err != nil {
			return refuseIronic(400, "%v", err)
		}
		switch p := r.c.ports[body.ID]; {
		case p == nil || len(p.Groups) > 0:
			return refuseIronic(400, "port %s is not there or has security groups", body.ID)
		case slices.Contains(n.vifs, body.ID):
			return refuseIronic(409, "VIF %s is already attached", body.ID)
		case len(n.vifs) == 2:
			return refuseIronic(400, "Unable to attach VIF %s, not enough free physical ports.", body.ID)
		}
		n.vifs = append(n.vifs, body.ID)
		return done(204, nil)
	})
}

func (r *request) detachVIF() answer {
	return r.withNode(func(n *node) answer {
		i := slices.Index(n.vifs, r.PathValue("vif"))
		if i < 0 {
			return refuseIronic(400, "Unable to detach VIF %s: it is not attached", r.PathValue("vif"))
		}
		n.vifs = slices.Delete(n.vifs, i, i+1)
		return done(204, nil)
	})
}

// Drive is the config drive that the node of an allocation was deployed with.
func (c *Cloud) Drive(allocation string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.InstanceUUID == allocation {
			return n.drive
		}
	}
	return nil
}

// PowerOffNode stops the node of an allocation as somebody at its button would.
func (c *Cloud) PowerOffNode(allocation string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n.InstanceUUID == allocation {
			n.Power = "power off"
			return nil
		}
	}
	return fmt.Errorf("no node of allocation %s", allocation)
}
