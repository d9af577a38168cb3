package spec

import (
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/store"
)

// Limits and defaults of a cluster file.
const (
	Version  = 1      // the only value of `version:`
	MaxHosts = 10_000 // in one cluster
	// DefaultVoterGrace is store.DefaultVoterGrace: longer than a host takes to boot.
	DefaultVoterGrace = store.DefaultVoterGrace

	MaxInstances     = 10_000           // of units named by one cluster file
	DefaultLease     = 5 * time.Second  // how long a silent host is believed to live
	MinLease         = 2 * time.Second  // below it a busy host would be given up
	MaxLease         = 10 * time.Minute // above it nothing would ever fail over
	MaxVoterGrace    = 24 * time.Hour   // above it only an operator replaces voters
	MinVoterGrace    = 5 * time.Second  // below it a voter that restarts would be replaced
	MaxUnitBytes     = 1 << 20          // size of one unit file
	DefaultRebalance = 5                // percent of the units that may move at a time when hosts join
	NetworkMode      = "direct"         // the network mode of a file that names none: hosts reach each other as they are
)

// VoterCounts are the numbers of voters that a cluster may have.
var VoterCounts = []int{1, 3, 5, 7}

// Spec is a cluster file, checked and complete.
type Spec struct {
	File    string // as it was given to Parse
	Cluster string // the cluster's name, a DNS label
	Voters  int    // as the file says, 0 when it leaves the number to VoterCount
	Lease   time.Duration
	// VoterGrace is how long a voter may be silent before a standby host takes its place, 0 for ever.
	VoterGrace time.Duration
	Update     Update
	Rebalance  int             // how many units, in percent, may move at a time when hosts join; 0 for none
	Backups    backup.Schedule // that voters write by themselves
	Network    Network
	Fleet      join.Fleet // how hosts serve fleet's API beside its unix socket
	Keys       join.Keys  // who reaches the keys beside hosts' own programs
	Providers  []Provider // sorted by name
	Groups     []Group    // in the order of the file
	Units      []Unit     // in the order of the file, a template before its instances
	// Warnings do not make the file invalid: a provider that no host uses, for example.
	Warnings finding.Findings
}

// Network is how hosts reach each other.
type Network struct {
	Mode string // "direct"
}

// Provider is one configured provider.
type Provider struct {
	Name   string // in the cluster file, a DNS label
	Driver string // a name in the registry
	Config any    // what Driver.NewConfig returned, filled and validated
	// Musterd is how its hosts get musterd: as the provider says, else as the file says of all.
	Musterd Musterd
}

// Group is a set of like hosts.
type Group struct {
	Name      string
	Hosts     []string // their names, in order
	Providers []string // host i is at Providers[i mod len(Providers)], so that scaling moves no host
	Labels    map[string]string
	Voter     *bool          // nil: muster chooses
	Settings  map[string]any // provider name → what its Driver.NewSettings returned, filled and validated
	// CloudConfig is the operator's own cloud-config for these hosts; it may be empty.
	CloudConfig cloudconfig.Document
}

// Host is one desired host.
type Host struct {
	Name        string // unique in the cluster, a DNS label
	Group       string
	Provider    string
	Labels      map[string]string // shared by the group: not to be changed
	Voter       *bool             // true: shall vote; false: shall not; nil: muster chooses
	Settings    any               // for providers.CreateRequest, shared by the group's hosts at the provider
	CloudConfig cloudconfig.Document
}

// Unit is one unit that the cluster shall have.
type Unit struct {
	Name    string           // "lb.service", "api@.service" or "api@1.service"
	File    string           // path of the file that Content was read from
	Content []byte           // of instances too: their template's. Not to be changed
	Desired string           // "inactive", "loaded" or "launched", as in store.Desired; not inactive of a template is for replicas
	At      finding.Position // of its file in the cluster file
}

// Hosts returns every desired host, in the order of the file and then by number.
func (s Spec) Hosts() []Host {
	var hosts []Host
	for _, g := range s.Groups {
		hosts = append(hosts, g.hosts()...)
	}
	return hosts
}

func (g Group) hosts() []Host {
	hosts := make([]Host, len(g.Hosts))
	for i, name := range g.Hosts {
		provider := g.Providers[i%len(g.Providers)]
		hosts[i] = Host{
			Name:        name,
			Group:       g.Name,
			Provider:    provider,
			Labels:      g.Labels,
			Voter:       g.Voter,
			Settings:    g.Settings[provider],
			CloudConfig: g.CloudConfig,
		}
	}
	return hosts
}

// Provider finds a configured provider by its name.
func (s Spec) Provider(name string) (Provider, bool) {
	i := slices.IndexFunc(s.Providers, func(p Provider) bool { return p.Name == name })
	if i < 0 {
		return Provider{}, false
	}
	return s.Providers[i], true
}

// VoterCount is how many hosts shall vote: those with `voter: true` if there are any, else what the file says, else 3,
// or 1 when fewer than three hosts may vote.
func (s Spec) VoterCount() int {
	chosen, eligible := s.voters()
	switch {
	case chosen > 0:
		return chosen
	case s.Voters > 0:
		return s.Voters
	case eligible >= 3:
		return 3
	default:
		return 1
	}
}

// voters counts the hosts that shall vote by their group's word, and those that may.
func (s Spec) voters() (chosen, eligible int) {
	for _, g := range s.Groups {
		if g.Voter == nil || *g.Voter {
			eligible += len(g.Hosts)
		}
		if g.Voter != nil && *g.Voter {
			chosen += len(g.Hosts)
		}
	}
	return chosen, eligible
}

// NumberedHosts names count hosts of a group: group-1 to group-count.
func NumberedHosts(group string, count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", group, i+1)
	}
	return names
}
