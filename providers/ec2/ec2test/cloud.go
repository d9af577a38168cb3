package ec2test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Options are what the cloud is like. The zero value is a region without quotas, delays or faults.
type Options struct {
	Region    string // default eu-test-1
	AccessKey string // default AKIDTEST
	Now       func() time.Time

	Latency   time.Duration // of every answer
	BootTime  time.Duration // from pending to running
	EndTime   time.Duration // from shutting-down to terminated, and from stopping to stopped
	Hidden    time.Duration // how long lists do not show new things
	Lag       time.Duration // how old the states of instances are that lists show
	HideCalls bool          // other calls do not know hidden things either

	InstanceQuota int      // instances alive
	AddressQuota  int      // elastic addresses
	SubnetRoom    int      // addresses of a subnet, default 4091: those of a /20
	FullZones     []string // zones without capacity
	MaxPage       int      // most that a page has, whatever is asked for

	// EndedAnswers answers a spent token with the ended instance, as EC2 did until 2024, and not with
	// IdempotentInstanceTerminated.
	EndedAnswers bool
	// Policy is an IAM policy (JSON) that everybody is under.
	Policy []byte
	// Faults chooses what befalls a call. It is called by one goroutine at a time.
	Faults func(Call) Fault
	// OnRun is called when an instance has been made, before the answer. The addresses returned, if they are valid, are
	// the instance's instead of those that the cloud would choose.
	OnRun func(Launched) (private, public netip.Addr)
	// OnEnd is called when an instance is terminated.
	OnEnd func(instance string)
}

// Call is a call that was received.
type Call struct {
	Number int // from 1
	Action string
	Code   string // error code answered, "" for none
	Wrote  bool   // whether it changed something
}

// Fault is what befalls a call. The zero value is a call that goes well.
type Fault struct {
	Code   string // error code answered instead of doing anything
	Status int    // its HTTP status, default 503
	Lost   bool   // the call is done, and the connection ends without an answer
	After  string // error code answered after the call is done
}

// Launched is an instance that was made.
type Launched struct {
	Instance string
	Tags     map[string]string
	UserData []byte
	Zone     string
}

// Cloud is the stand-in. It is an http.Handler, safe for concurrent use.
type Cloud struct {
	options Options
	policy  *policy

	mu         sync.Mutex
	calls      []Call
	made       int // things, ever
	instances  []*instance
	volumes    []*volume
	interfaces []*netInterface
	addresses  []*address
	groups     []*group
	placements []*placement
	spots      []*spotRequest
	images     []image
	parameters map[string]string
	subnets    []Subnet
	keys       []string
	tokens     map[string]used
}

// Subnet is a subnet of a VPC. A default subnet is one of the default VPC.
type Subnet struct {
	ID, VPC, Zone string
	Default       bool
	Tags          map[string]string
}

// The account that a cloud begins with.
const (
	Account    = "123456789012"
	DefaultVPC = "vpc-00000000000000001"
	OtherVPC   = "vpc-00000000000000002"
	ImageID    = "ami-00000000000000001" // x86_64, named tiny-linux-1.2
	KeyName    = "operator"
	Parameter  = "/images/tiny" // holds ImageID
)

// New makes a cloud with a default VPC of three zones and another VPC, two images and a key pair.
func New(options Options) (*Cloud, error) {
	if options.Region == "" {
		options.Region = "eu-test-1"
	}
	if options.AccessKey == "" {
		options.AccessKey = "AKIDTEST"
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.SubnetRoom == 0 {
		options.SubnetRoom = 4091
	}
	c := &Cloud{
		options: options, keys: []string{KeyName}, tokens: map[string]used{}, parameters: map[string]string{Parameter: ImageID},
	}
	for i, zone := range []string{"a", "b", "c"} {
		c.subnets = append(c.subnets,
			Subnet{ID: fmt.Sprintf("subnet-0000000000000000%d", i+1), VPC: DefaultVPC, Zone: options.Region + zone, Default: true},
			Subnet{
				ID: fmt.Sprintf("subnet-0000000000000001%d", i+1), VPC: OtherVPC, Zone: options.Region + zone,
				Tags: map[string]string{"tier": "hosts"},
			})
	}
	for i, name := range []string{"tiny-linux-1.2", "tiny-linux-1.1", "large-linux-7"} {
		c.images = append(c.images, image{
			id: fmt.Sprintf("ami-0000000000000000%d", i+1), name: name, owner: Account, architecture: "x86_64", gib: 8,
			created: time.Date(2025, 1, 9-i, 0, 0, 0, 0, time.UTC),
		})
	}
	c.images[2].architecture = "arm64"
	if options.Policy != nil {
		var err error
		if c.policy, err = parsePolicy(options.Policy); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Resource is something in the account.
type Resource struct {
	Kind  string // as in tag specifications: instance, volume, network-interface, elastic-ip, security-group, ...
	ID    string
	State string // of what has one
	Tags  map[string]string
}

// Resources lists everything that exists now, in the order of its making, however new. Instances that have ended, and spot
// requests that are closed, are not there.
func (c *Cloud) Resources() []Resource {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	now := c.now()
	var all []Resource
	add := func(kind, state string, t *thing) {
		all = append(all, Resource{Kind: kind, ID: t.id, State: state, Tags: t.copyTags()})
	}
	for _, i := range c.instances {
		if state := i.stateAt(now); state != stateTerminated {
			add("instance", state, &i.thing)
		}
	}
	for _, v := range c.volumes {
		add("volume", v.state(), &v.thing)
	}
	for _, n := range c.interfaces {
		add("network-interface", n.state(), &n.thing)
	}
	for _, a := range c.addresses {
		add("elastic-ip", a.instance, &a.thing)
	}
	for _, g := range c.groups {
		add("security-group", "", &g.thing)
	}
	for _, p := range c.placements {
		add("placement-group", "", &p.thing)
	}
	for _, s := range c.spots {
		if s.state != "closed" && s.state != "cancelled" {
			add("spot-instances-request", s.state, &s.thing)
		}
	}
	return all
}

// Calls returns the calls received so far, in order.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Change changes the options of a running cloud.
func (c *Cloud) Change(change func(*Options)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.options)
}

// AddSubnet adds a subnet.
func (c *Cloud) AddSubnet(s Subnet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subnets = append(c.subnets, s)
}

// AddImage adds an image of the account, newer than those that there are, and returns its ID.
func (c *Cloud) AddImage(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.newID("ami")
	c.images = append(c.images, image{id: id, name: name, owner: Account, architecture: "x86_64", gib: 8, created: c.now()})
	return id
}

// Tag sets and, with an empty value, removes tags of a thing, as somebody at the console would.
func (c *Cloud) Tag(id string, tags map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.thing(id)
	for key, value := range tags {
		if value == "" {
			delete(t.tags, key)
		} else {
			t.tags[key] = value
		}
	}
}

// Stop stops an instance, as somebody at the console would.
func (c *Cloud) Stop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop(c.instance(id))
}

// Terminate ends an instance, as somebody at the console would.
func (c *Cloud) Terminate(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(c.instance(id), asked)
}

// Fail ends an instance as EC2 does by itself, for a reason such as Client.VolumeLimitExceeded.
func (c *Cloud) Fail(id, code, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(c.instance(id), stateReason{code, code + ": " + message})
}

// Plant makes an instance with tags, as somebody else would, and returns its ID.
func (c *Cloud) Plant(tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.run(launch{image: ImageID, kind: "t3.micro", subnet: c.subnets[0], specs: map[string]map[string]string{
		"instance": tags, "volume": tags, "network-interface": tags,
	}})
	i.shown, i.events = time.Time{}, []event{{at: c.now(), state: stateRunning}}
	return i.id
}

// PlantVolume makes a volume that is attached to nothing.
func (c *Cloud) PlantVolume(tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &volume{thing: c.newThing("vol", tags), zone: c.subnets[0].Zone, gib: 1, kind: "gp3"}
	c.volumes = append(c.volumes, v)
	return v.id
}

// PlantInterface makes an interface that is attached to nothing.
func (c *Cloud) PlantInterface(tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &netInterface{thing: c.newThing("eni", tags), subnet: c.subnets[0], private: c.newPrivate()}
	c.interfaces = append(c.interfaces, n)
	return n.id
}

// PlantAddress makes an elastic address that nothing has.
func (c *Cloud) PlantAddress(tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.newAddress(tags)
	c.addresses = append(c.addresses, a)
	return a.id
}

// PlantGroup makes a security group.
func (c *Cloud) PlantGroup(name, vpc string, tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := &group{thing: c.newThing("sg", tags), name: name, vpc: vpc}
	c.groups = append(c.groups, g)
	return g.id
}

// PlantSpotRequest makes a spot request that is open.
func (c *Cloud) PlantSpotRequest(tags map[string]string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &spotRequest{thing: c.newThing("sir", tags), state: "open"}
	c.spots = append(c.spots, s)
	return s.id
}

// Forget has lists show an instance no more, as EC2 does an hour after its end.
func (c *Cloud) Forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instance(id).shown = c.now().Add(24 * time.Hour)
}

func (c *Cloud) now() time.Time { return c.options.Now() }
