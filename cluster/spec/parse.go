package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
	"github.com/musterhq/muster/providers"
)

// Load reads the cluster file at a path. The error is a finding.Findings.
func Load(path string, reg *providers.Registry) (Spec, error) {
	data, err := strictyaml.ReadFile(path, strictyaml.MaxBytes)
	if err == nil {
		return Parse(path, data, reg)
	}
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "`muster init` writes one to start from"
	}
	var found finding.Findings
	found.Add(finding.Position{File: path}, hint, "cannot read the cluster file: %v", cause(err))
	return Spec{}, found.Err()
}

// cause leaves out the path of an error, which the finding has.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Parse reads a cluster file and the files that it names. file is its path: findings name it and relative paths start at
// its directory. The error is a finding.Findings.
func Parse(file string, data []byte, reg *providers.Registry) (Spec, error) {
	return parse(strictyaml.New(file), data, reg)
}

func parse(d *strictyaml.Decoder, data []byte, reg *providers.Registry) (Spec, error) {
	p := &parser{
		Decoder: d,
		reg:     reg,
		spec:    Spec{File: d.File, Lease: DefaultLease, VoterGrace: DefaultVoterGrace, Rebalance: DefaultRebalance, Network: Network{Mode: NetworkMode}},
		drivers: map[string]*providers.Driver{},
		used:    map[string]bool{},
		hosts:   map[string]place{},
		units:   map[string]string{},
		configs: map[string]cloudconfig.Document{},
	}
	p.file(data)
	if err := d.Findings().Err(); err != nil {
		return Spec{}, err
	}
	return p.spec, nil
}

// parser builds a Spec. Its methods report what is wrong and go on; what would only follow from an earlier finding is
// left out.
type parser struct {
	*strictyaml.Decoder
	root *yaml.Node
	reg  *providers.Registry
	spec Spec

	names   []string                     // of all providers in the file, right or wrong
	drivers map[string]*providers.Driver // provider → driver; none where it is not known
	used    map[string]bool              // providers that hosts are at
	whole   bool                         // every group is in the Spec
	group   struct {                     // being read
		path string
		node *yaml.Node
	}
	hosts   map[string]place  // where each host comes from
	units   map[string]string // path of the entry that each unit comes from
	configs map[string]cloudconfig.Document
}

// place is where in the file a host comes from.
type place struct{ group, path string }

// at reports something wrong with the field at a path from the root.
func (p *parser) at(path, hint, format string, args ...any) {
	p.AddAt(strictyaml.Locate(p.File, p.root, path), hint, format, args...)
}

// atKey reports something wrong with the key at a path from the root.
func (p *parser) atKey(path, hint, format string, args ...any) {
	p.AddAt(strictyaml.LocateKey(p.File, p.root, path), hint, format, args...)
}

// find returns the node at a path from the root, or nil. Below the group being read it does not search all groups.
func (p *parser) find(path string) *yaml.Node {
	if rest, ok := strings.CutPrefix(path, p.group.path+"."); ok && p.group.node != nil {
		return strictyaml.Find(p.group.node, rest)
	}
	return strictyaml.Find(p.root, path)
}

// has reports whether a path is in the file.
func (p *parser) has(path string) bool { return p.find(path) != nil }

// filled reports whether a path is in the file and has a value. A key without one is as good as none: its
// items are often in comments.
func (p *parser) filled(path string) bool {
	node := p.find(path)
	return node != nil && node.ShortTag() != "!!null"
}

// warn adds a warning at the key of a path.
func (p *parser) warn(path, hint, format string, args ...any) {
	p.spec.Warnings.Add(strictyaml.LocateKey(p.File, p.root, path), hint, format, args...)
}

func (p *parser) file(data []byte) {
	raw := clusterFile{
		Lease: DefaultLease, Grace: DefaultVoterGrace, Rebalance: DefaultRebalance, Backups: defaultBackups(),
		Network: networkFile{Mode: NetworkMode},
	}
	if p.root = p.Decoder.Parse(data); p.root == nil {
		return
	}
	if v := strictyaml.Find(p.root, "version"); v != nil && v.ShortTag() == "!!int" && v.Value != "1" {
		p.at("version", "this muster reads version 1", "version %s of the cluster file is not known", v.Value)
		return
	}
	p.Node(p.root, &raw)
	if p.root.Kind != yaml.MappingNode {
		return
	}
	if !p.has("version") {
		p.at("", "write `version: 1` into the first line", "`version` is missing")
	}
	p.header(raw)
	p.backups(raw.Backups)
	p.fleet(raw.Fleet)
	p.keys(raw.Keys)
	p.update(raw.Update)
	all := p.musterd("musterd", strictyaml.Find(p.root, "musterd"), Musterd{})
	p.providers(&raw.Providers, all)
	p.groups(&raw.Hosts)
	p.canaries()
	p.voters(raw.Voters)
	p.allUnits(raw.Units)
	p.unused()
}

// label is a DNS label (RFC 1123 section 2.1) in lower case.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const labelHint = "use at most 63 lower-case letters, digits and hyphens, none at an end"

// CheckName says what is wrong with a name of a cluster, a provider, a group or a host, or nil.
func CheckName(name string) error {
	if !label.MatchString(name) {
		return fmt.Errorf("`%s` is no name: %s", name, labelHint)
	}
	return nil
}

// reserved is a directory beside those of the clusters, in which drivers keep what they know.
const reserved = "providers"

// CheckClusterName says what is wrong with a name of a cluster, or nil.
func CheckClusterName(name string) error {
	if name == reserved {
		return fmt.Errorf("`%s` is reserved: muster keeps the providers' own state under that name", name)
	}
	return CheckName(name)
}

func (p *parser) header(raw clusterFile) {
	p.spec.Cluster, p.spec.Lease, p.spec.Network.Mode = raw.Cluster, raw.Lease, raw.Network.Mode
	switch {
	case !p.has("cluster"):
		p.at("", "add `cluster: NAME`", "`cluster` is missing")
	case raw.Cluster == reserved:
		p.at("cluster", "choose another name", "%v", CheckClusterName(raw.Cluster))
	case raw.Cluster != "" || p.isString("cluster"):
		p.name(strictyaml.Locate(p.File, p.root, "cluster"), "cluster", raw.Cluster)
	}
	if raw.Lease < MinLease || raw.Lease > MaxLease {
		p.at("lease", fmt.Sprintf("from %s to %s is possible", short(MinLease), short(MaxLease)),
			"a lease of %s is too %s", short(raw.Lease), tooWhat(raw.Lease < MinLease))
	}
	if g := raw.Grace; g != 0 && (g < MinVoterGrace || g > MaxVoterGrace) {
		p.at("voter_grace", fmt.Sprintf("from %s to %s is possible, and 0s for never", short(MinVoterGrace), short(MaxVoterGrace)),
			"a voter grace of %s is too %s", short(g), tooWhat(g < MinVoterGrace))
	}
	p.spec.VoterGrace = raw.Grace
	if p.spec.Rebalance = raw.Rebalance; raw.Rebalance < 0 || raw.Rebalance > 100 {
		p.at("rebalance", "from 0, for none, to 100", "%d percent of the units cannot move", raw.Rebalance)
	}
	if raw.Network.Mode != NetworkMode && p.isString("network.mode") {
		p.at("network.mode", "there is `direct`", "the network mode `%s` is not known", raw.Network.Mode)
	}
}

func tooWhat(less bool) string {
	if less {
		return "short"
	}
	return "long"
}

// short prints a duration as people write it: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	s, _ = strings.CutSuffix(s, "m0s")
	if s != d.String() {
		s += "m"
	}
	return s
}

// isString reports whether a path holds a string, so that its value is worth a finding.
func (p *parser) isString(path string) bool {
	node := p.find(path)
	return node != nil && node.ShortTag() == "!!str"
}

// isMapping reports whether a path holds a mapping, or nothing at all, so that a missing key is worth a finding.
func (p *parser) isMapping(path string) bool {
	node := p.find(path)
	return node == nil || node.Kind == yaml.MappingNode || node.ShortTag() == "!!null"
}

// name checks what shall be a DNS label, at a place.
func (p *parser) name(at finding.Position, what, name string) bool {
	if !label.MatchString(name) {
		p.AddAt(at, labelHint, "`%s` is no name of a %s", name, what)
		return false
	}
	return true
}

// voters checks that the hosts which vote are enough, and not too many.
func (p *parser) voters(count *int) {
	chosen, eligible := p.spec.voters()
	if count != nil {
		p.spec.Voters = *count
	}
	switch hosts := len(p.hosts); {
	case count != nil && !slices.Contains(VoterCounts, *count):
		p.at("voters", "1, 3, 5 or 7 is possible", "%d voters cannot decide by majority", *count)
	case !p.whole || hosts == 0:
		// There are findings enough.
	case eligible == 0:
		p.at("hosts", "remove `voter: false` from a group", "no host may vote")
	case chosen > 0 && !slices.Contains(VoterCounts, chosen):
		p.at(p.firstVoters(), "1, 3, 5 or 7 voters are possible", "%d %s `voter: true`", chosen, plural(chosen, "host has", "hosts have"))
	case chosen > 0 && count != nil && chosen != *count:
		p.at("voters", "remove `voters` or `voter`", "%d voters are asked for, but %d %s `voter: true`",
			*count, chosen, plural(chosen, "host has", "hosts have"))
	case count != nil && *count > eligible:
		p.at("voters", "add hosts, or ask for fewer voters", "%d voters are asked for, but only %d %s vote",
			*count, eligible, plural(eligible, "host may", "hosts may"))
	}
}

// firstVoters is the path of the first `voter: true`.
func (p *parser) firstVoters() string {
	for _, g := range p.spec.Groups {
		if g.Voter != nil && *g.Voter {
			return "hosts." + g.Name + ".voter"
		}
	}
	return "hosts"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// unused warns of providers that no host is at.
func (p *parser) unused() {
	for _, provider := range p.spec.Providers {
		if !p.used[provider.Name] {
			p.warn("providers."+provider.Name, "remove it, or give it hosts", "no host is at the provider `%s`", provider.Name)
		}
	}
}
