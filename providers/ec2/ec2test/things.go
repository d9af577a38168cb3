package ec2test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// The states of an instance.
const (
	statePending      = "pending"
	stateRunning      = "running"
	stateShuttingDown = "shutting-down"
	stateTerminated   = "terminated"
	stateStopping     = "stopping"
	stateStopped      = "stopped"
)

// thing is what everything in an account has.
type thing struct {
	id    string
	tags  map[string]string
	shown time.Time // lists show it from then on
}

func (t *thing) copyTags() map[string]string {
	if t.tags == nil {
		return map[string]string{}
	}
	return maps.Clone(t.tags)
}

// event is a change of state, maybe to come.
type event struct {
	at    time.Time
	state string
}

type instance struct {
	thing
	launch
	events          []event
	private, public netip.Addr
	made            time.Time
	started         time.Time
	settled         bool // its volumes and interfaces are gone
	reason          stateReason
	spot            *spotRequest
}

// stateAt is the state at a time.
func (i *instance) stateAt(at time.Time) string {
	state := statePending
	for _, e := range i.events {
		if !e.at.After(at) {
			state = e.state
		}
	}
	return state
}

// becomes changes the state now. What was to come does not.
func (i *instance) becomes(now time.Time, state string) {
	i.events = slices.DeleteFunc(i.events, func(e event) bool { return e.at.After(now) })
	i.events = append(i.events, event{at: now, state: state})
}

type volume struct {
	thing
	zone, device, kind, instance string
	gib                          int
	encrypted, deleteOnEnd       bool
}

func (v *volume) state() string {
	if v.instance == "" {
		return "available"
	}
	return "in-use"
}

type netInterface struct {
	thing
	subnet      Subnet
	groups      []string
	instance    string
	private     netip.Addr
	attached    time.Time
	deleteOnEnd bool
}

func (n *netInterface) state() string {
	if n.instance == "" {
		return "available"
	}
	return "in-use"
}

type address struct {
	thing
	public      netip.Addr
	instance    string
	association string
}

type group struct {
	thing
	name, vpc, description string
	rules                  []rule
}

// rule is one source for one range of ports.
type rule struct {
	protocol    string
	from, to    string
	network     string // IPv4 or IPv6
	group       string
	description string
}

type placement struct {
	thing
	name, strategy, partitions string
}

type spotRequest struct {
	thing
	state, instance string
}

type image struct {
	id, name, owner, architecture string
	gib                           int
	created                       time.Time
}

// launch is what RunInstances was asked for.
type launch struct {
	image, kind, key, token, profile, placement string
	subnet                                      Subnet
	groups                                      []string
	public, spot                                bool
	userData                                    []byte
	disks                                       []volume
	specs                                       map[string]map[string]string // by kind of resource
	tokens                                      string
	hops                                        int
}

func (c *Cloud) newID(prefix string) string {
	c.made++
	return fmt.Sprintf("%s-%017x", prefix, c.made+0xabc00000)
}

func (c *Cloud) newThing(prefix string, tags map[string]string) thing {
	tags = maps.Clone(tags)
	if tags == nil {
		tags = map[string]string{}
	}
	return thing{id: c.newID(prefix), tags: tags, shown: c.now().Add(c.options.Hidden)}
}

// newPrivate and newPublic are addresses of loopback: a dial ends at once, and nothing leaves this machine.
func (c *Cloud) newPrivate() netip.Addr {
	c.made++
	return netip.AddrFrom4([4]byte{127, 10, byte(c.made >> 8), byte(c.made)})
}

func (c *Cloud) newPublic() netip.Addr {
	c.made++
	return netip.AddrFrom4([4]byte{127, 20, byte(c.made >> 8), byte(c.made)})
}

func (c *Cloud) newAddress(tags map[string]string) *address {
	return &address{thing: c.newThing("eipalloc", tags), public: c.newPublic()}
}

// run makes an instance with everything that is made with it.
func (c *Cloud) run(l launch) *instance {
	now := c.now()
	i := &instance{thing: c.newThing("i", l.specs["instance"]), launch: l, private: c.newPrivate(), made: now, started: now}
	i.events = []event{{at: now, state: statePending}, {at: now.Add(c.options.BootTime), state: stateRunning}}
	if l.public {
		i.public = c.newPublic()
	}
	for _, d := range l.disks {
		v := d
		v.thing, v.zone, v.instance = c.newThing("vol", l.specs["volume"]), l.subnet.Zone, i.id
		c.volumes = append(c.volumes, &v)
	}
	c.interfaces = append(c.interfaces, &netInterface{
		thing: c.newThing("eni", l.specs["network-interface"]), subnet: l.subnet, groups: l.groups, instance: i.id,
		private: i.private, attached: now, deleteOnEnd: true,
	})
	if l.spot {
		i.spot = &spotRequest{thing: c.newThing("sir", l.specs["spot-instances-request"]), state: "active", instance: i.id}
		c.spots = append(c.spots, i.spot)
	}
	c.instances = append(c.instances, i)
	return i
}

// stateReason is why an instance has its state.
type stateReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

// asked is the reason of an end that somebody asked for.
var asked = stateReason{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}

// end begins an instance's end.
func (c *Cloud) end(i *instance, why stateReason) {
	now := c.now()
	if state := i.stateAt(now); state == stateShuttingDown || state == stateTerminated {
		return
	}
	i.reason = why
	i.becomes(now, stateShuttingDown)
	i.events = append(i.events, event{at: now.Add(c.options.EndTime), state: stateTerminated})
	if c.options.OnEnd != nil {
		c.options.OnEnd(i.id)
	}
}

// stop powers an instance off, which has no public address any more.
func (c *Cloud) stop(i *instance) {
	now := c.now()
	i.becomes(now, stateStopping)
	i.events = append(i.events, event{at: now.Add(c.options.EndTime), state: stateStopped})
	i.reason = asked
	if !c.hasAddress(i.id) {
		i.public = netip.Addr{}
	}
}

// settle removes what goes with the instances that have ended since.
func (c *Cloud) settle() {
	for _, i := range c.instances {
		if i.settled || i.stateAt(c.now()) != stateTerminated {
			continue
		}
		i.settled, i.public, i.private = true, netip.Addr{}, netip.Addr{}
		for _, v := range c.volumes {
			if v.instance == i.id && !v.deleteOnEnd {
				v.instance = ""
			}
		}
		c.volumes = slices.DeleteFunc(c.volumes, func(v *volume) bool { return v.instance == i.id })
		c.interfaces = slices.DeleteFunc(c.interfaces, func(n *netInterface) bool { return n.instance == i.id })
		for _, a := range c.addresses {
			if a.instance == i.id {
				a.instance, a.association = "", ""
			}
		}
		if i.spot != nil {
			i.spot.state = "closed"
		}
	}
}

func (c *Cloud) instance(id string) *instance {
	for _, i := range c.instances {
		if i.id == id {
			return i
		}
	}
	return nil
}

// roomIn is how many addresses a subnet has free.
func (c *Cloud) roomIn(subnet string) int {
	room := c.options.SubnetRoom
	for _, n := range c.interfaces {
		if n.subnet.ID == subnet {
			room--
		}
	}
	return room
}

func (c *Cloud) group(id string) *group {
	for _, g := range c.groups {
		if g.id == id {
			return g
		}
	}
	return nil
}

func (c *Cloud) hasAddress(instance string) bool {
	return slices.ContainsFunc(c.addresses, func(a *address) bool { return a.instance == instance })
}

// thing finds anything by its ID.
func (c *Cloud) thing(id string) *thing {
	for _, i := range c.instances {
		if i.id == id {
			return &i.thing
		}
	}
	for _, v := range c.volumes {
		if v.id == id {
			return &v.thing
		}
	}
	for _, n := range c.interfaces {
		if n.id == id {
			return &n.thing
		}
	}
	for _, a := range c.addresses {
		if a.id == id {
			return &a.thing
		}
	}
	for _, g := range c.groups {
		if g.id == id {
			return &g.thing
		}
	}
	return nil
}

// lists tells whether lists show a thing; knows, whether other calls do.
func (c *Cloud) lists(t *thing) bool { return !t.shown.After(c.now()) }

func (c *Cloud) knows(t *thing) bool { return !c.options.HideCalls || c.lists(t) }
