package ec2test

import (
	"encoding/xml"
	"net/netip"
	"slices"
	"strings"
)

var networkActions = map[string]action{
	"DescribeVpcs":    {do: describeVpcs, params: []string{"VpcId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken"}},
	"DescribeSubnets": {do: describeSubnets, params: []string{"SubnetId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken"}},
	"DescribeSecurityGroups": {do: describeGroups, params: []string{
		"GroupId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"CreateSecurityGroup": {writes: true, do: createGroup, params: []string{
		"GroupName!", "GroupDescription!", "VpcId",
		"TagSpecification.#.ResourceType", "TagSpecification.#.Tag.#.Key", "TagSpecification.#.Tag.#.Value",
	}},
	"AuthorizeSecurityGroupIngress": {writes: true, do: authorize, params: permissionParams},
	"RevokeSecurityGroupIngress":    {writes: true, do: revoke, params: permissionParams},
	"DeleteSecurityGroup":           {writes: true, do: deleteGroup, params: []string{"GroupId!"}},
	"DescribePlacementGroups":       {do: describePlacements, params: []string{"GroupName.#", "Filter.#.Name", "Filter.#.Value.#"}},
	"CreatePlacementGroup": {writes: true, do: createPlacement, params: []string{
		"GroupName!", "Strategy!", "PartitionCount:int",
		"TagSpecification.#.ResourceType", "TagSpecification.#.Tag.#.Key", "TagSpecification.#.Tag.#.Value",
	}},
	"DeletePlacementGroup": {writes: true, do: deletePlacement, params: []string{"GroupName!"}},
}

var permissionParams = []string{
	"GroupId!", "IpPermissions.#.IpProtocol!", "IpPermissions.#.FromPort:int", "IpPermissions.#.ToPort:int",
	"IpPermissions.#.IpRanges.#.CidrIp", "IpPermissions.#.IpRanges.#.Description",
	"IpPermissions.#.Ipv6Ranges.#.CidrIpv6", "IpPermissions.#.Ipv6Ranges.#.Description",
	"IpPermissions.#.Groups.#.GroupId", "IpPermissions.#.Groups.#.Description",
}

func describeVpcs(r *request) (any, error) {
	filters, err := r.filters("tag:", "is-default", "vpc-id")
	if err != nil {
		return nil, err
	}
	answer := xmlVpcs{}
	for _, id := range []string{DefaultVPC, OtherVPC} {
		isDefault := "false"
		if id == DefaultVPC {
			isDefault = "true"
		}
		if matches(filters, nil, func(name string) []string {
			return map[string][]string{"is-default": {isDefault}, "vpc-id": {id}}[name]
		}) {
			answer.Items = append(answer.Items, xmlVpc{ID: id, Default: isDefault})
		}
	}
	return answer, nil
}

func describeSubnets(r *request) (any, error) {
	filters, err := r.filters("tag:", "vpc-id", "state", "default-for-az", "availability-zone", "subnet-id")
	if err != nil {
		return nil, err
	}
	ids := r.list("SubnetId")
	for _, id := range ids {
		if !slices.ContainsFunc(r.subnets, func(s Subnet) bool { return s.ID == id }) {
			return nil, refuse("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
		}
	}
	var found []xmlSubnet
	for _, s := range r.subnets {
		isDefault := "false"
		if s.Default {
			isDefault = "true"
		}
		if len(ids) > 0 && !slices.Contains(ids, s.ID) || !matches(filters, s.Tags, func(name string) []string {
			return map[string][]string{
				"vpc-id": {s.VPC}, "state": {"available"}, "default-for-az": {isDefault}, "availability-zone": {s.Zone}, "subnet-id": {s.ID},
			}[name]
		}) {
			continue
		}
		found = append(found, xmlSubnet{
			ID: s.ID, VPC: s.VPC, Zone: s.Zone, State: "available", Default: isDefault, Tags: xmlTags(s.Tags), Free: r.roomIn(s.ID),
		})
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlSubnets{Items: part, Next: next}, err
}

func describeGroups(r *request) (any, error) {
	filters, err := r.filters("tag:", "vpc-id", "group-name", "group-id")
	if err != nil {
		return nil, err
	}
	ids := r.list("GroupId")
	var found []xmlGroup
	for _, g := range r.groups {
		if !r.lists(&g.thing) || len(ids) > 0 && !slices.Contains(ids, g.id) {
			continue
		}
		if matches(filters, g.tags, func(name string) []string {
			return map[string][]string{"vpc-id": {g.vpc}, "group-name": {g.name}, "group-id": {g.id}}[name]
		}) {
			found = append(found, xmlGroupOf(g))
		}
	}
	if len(found) < len(ids) {
		return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", strings.Join(ids, ", "))
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlGroups{Items: part, Next: next}, err
}

func createGroup(r *request) (any, error) {
	specs, err := r.tagSpecs("security-group")
	if err != nil {
		return nil, err
	}
	name, vpc, tags := r.str("GroupName"), r.str("VpcId"), specs["security-group"]
	switch {
	case vpc != DefaultVPC && vpc != OtherVPC:
		return nil, refuse("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	case len(name) > 255 || strings.HasPrefix(name, "sg-"):
		return nil, refuse("InvalidParameterValue", "Value (%s) for parameter GroupName is invalid", name)
	}
	err = r.allow(resource{kind: "vpc", id: vpc})
	if err == nil {
		err = r.allowMaking(map[string]map[string]string{"security-group": tags})
	}
	if err == nil {
		err = r.dryRun()
	}
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(r.groups, func(g *group) bool { return g.name == name && g.vpc == vpc }) {
		return nil, refuse("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, vpc)
	}
	g := &group{thing: r.newThing("sg", tags), name: name, vpc: vpc, description: r.str("GroupDescription")}
	r.Cloud.groups = append(r.Cloud.groups, g)
	return xmlMadeGroup{Return: true, ID: g.id}, nil
}

// theGroup finds the group that a call changes, and asks whether that is allowed.
func (r *request) theGroup() (*group, error) {
	g := r.group(r.str("GroupId"))
	if g == nil || !r.knows(&g.thing) {
		return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", r.str("GroupId"))
	}
	if err := r.allow(resource{kind: "security-group", id: g.id, tags: g.tags}); err != nil {
		return nil, err
	}
	return g, r.dryRun()
}

// permissions reads the rules of a call.
func (r *request) permissions() ([]rule, error) {
	var all []rule
	for _, p := range r.items("IpPermissions") {
		base := rule{protocol: p.str("IpProtocol"), from: p.str("FromPort"), to: p.str("ToPort")}
		if base.protocol != "-1" && (base.from == "" || base.to == "") {
			return nil, refuse("MissingParameter", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
		}
		before := len(all)
		for _, s := range append(p.items("IpRanges"), p.items("Ipv6Ranges")...) {
			next := base
			next.network, next.description = s.str("CidrIp")+s.str("CidrIpv6"), s.str("Description")
			network, err := netip.ParsePrefix(next.network)
			if err != nil || network != network.Masked() || network.Addr().Is4() != s.has("CidrIp") {
				return nil, refuse("InvalidParameterValue", "CIDR block %s is malformed", next.network)
			}
			all = append(all, next)
		}
		for _, s := range p.items("Groups") {
			next := base
			next.group, next.description = s.str("GroupId"), s.str("Description")
			if r.group(next.group) == nil {
				return nil, refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", next.group)
			}
			all = append(all, next)
		}
		if len(all) == before {
			return nil, refuse("InvalidParameterCombination", "The permission has no source")
		}
	}
	return all, nil
}

// same tells whether two rules are the same, whatever their descriptions.
func (r rule) same(other rule) bool {
	r.description, other.description = "", ""
	return r == other
}

func authorize(r *request) (any, error) {
	g, err := r.theGroup()
	if err != nil {
		return nil, err
	}
	add, err := r.permissions()
	if err != nil {
		return nil, err
	}
	for _, each := range add {
		if slices.ContainsFunc(g.rules, each.same) {
			return nil, refuse("InvalidPermission.Duplicate", "the specified rule \"%+v\" already exists", each)
		}
	}
	if len(g.rules)+len(add) > 60 {
		return nil, refuse("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
	}
	g.rules = append(g.rules, add...)
	return xmlDone{XMLName: xml.Name{Local: "AuthorizeSecurityGroupIngressResponse"}, Return: true}, nil
}

func revoke(r *request) (any, error) {
	g, err := r.theGroup()
	if err != nil {
		return nil, err
	}
	gone, err := r.permissions()
	if err != nil {
		return nil, err
	}
	for _, each := range gone {
		if !slices.ContainsFunc(g.rules, each.same) {
			return nil, refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
	}
	g.rules = slices.DeleteFunc(g.rules, func(have rule) bool { return slices.ContainsFunc(gone, have.same) })
	return xmlDone{XMLName: xml.Name{Local: "RevokeSecurityGroupIngressResponse"}, Return: true}, nil
}

func deleteGroup(r *request) (any, error) {
	g, err := r.theGroup()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(r.interfaces, func(n *netInterface) bool { return slices.Contains(n.groups, g.id) }) {
		return nil, refuse("DependencyViolation", "resource %s has a dependent object", g.id)
	}
	r.Cloud.groups = slices.DeleteFunc(r.groups, func(other *group) bool { return other == g })
	return xmlDone{XMLName: xml.Name{Local: "DeleteSecurityGroupResponse"}, Return: true}, nil
}

func (c *Cloud) placement(name string) *placement {
	for _, p := range c.placements {
		if p.name == name {
			return p
		}
	}
	return nil
}

func describePlacements(r *request) (any, error) {
	filters, err := r.filters("tag:", "group-name", "state", "strategy")
	if err != nil {
		return nil, err
	}
	names := r.list("GroupName")
	answer := xmlPlacements{}
	for _, p := range r.placements {
		if r.lists(&p.thing) && (len(names) == 0 || slices.Contains(names, p.name)) && matches(filters, p.tags, func(name string) []string {
			return map[string][]string{"group-name": {p.name}, "state": {"available"}, "strategy": {p.strategy}}[name]
		}) {
			answer.Items = append(answer.Items, xmlPlacement{
				ID: p.id, Name: p.name, Strategy: p.strategy, State: "available", Tags: xmlTags(p.tags),
			})
		}
	}
	return answer, nil
}

func createPlacement(r *request) (any, error) {
	specs, err := r.tagSpecs("placement-group")
	if err == nil {
		err = r.allowMaking(map[string]map[string]string{"placement-group": specs["placement-group"]})
	}
	if err == nil {
		err = r.dryRun()
	}
	if err != nil {
		return nil, err
	}
	name, strategy := r.str("GroupName"), r.str("Strategy")
	switch {
	case !slices.Contains([]string{"cluster", "spread", "partition"}, strategy):
		return nil, refuse("InvalidParameterValue", "Invalid placement strategy '%s'", strategy)
	case strategy != "partition" && r.has("PartitionCount"):
		return nil, refuse("InvalidParameterCombination", "PartitionCount is for the strategy partition")
	case r.number("PartitionCount", 2) > 7:
		return nil, refuse("InvalidParameterValue", "a placement group has at most 7 partitions")
	case r.placement(name) != nil:
		return nil, refuse("InvalidPlacementGroup.Duplicate", "The placement group '%s' already exists.", name)
	}
	r.Cloud.placements = append(r.placements, &placement{
		thing: r.newThing("pg", specs["placement-group"]), name: name, strategy: strategy, partitions: r.str("PartitionCount"),
	})
	return xmlDone{XMLName: xml.Name{Local: "CreatePlacementGroupResponse"}, Return: true}, nil
}

func deletePlacement(r *request) (any, error) {
	p := r.placement(r.str("GroupName"))
	if p == nil {
		return nil, refuse("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", r.str("GroupName"))
	}
	if err := r.allow(resource{kind: "placement-group", id: p.name, tags: p.tags}); err != nil {
		return nil, err
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(r.instances, func(i *instance) bool {
		return i.launch.placement == p.name && i.stateAt(r.now()) != stateTerminated
	}) {
		return nil, refuse("InvalidPlacementGroup.InUse", "The placement group '%s' is in use and may not be deleted.", p.name)
	}
	r.Cloud.placements = slices.DeleteFunc(r.placements, func(other *placement) bool { return other == p })
	return xmlDone{XMLName: xml.Name{Local: "DeletePlacementGroupResponse"}, Return: true}, nil
}

// The forms of answers about networks and groups.
type (
	xmlVpcs struct {
		XMLName xml.Name `xml:"DescribeVpcsResponse"`
		Items   []xmlVpc `xml:"vpcSet>item"`
	}
	xmlVpc struct {
		ID      string `xml:"vpcId"`
		Default string `xml:"isDefault"`
	}
	xmlSubnets struct {
		XMLName xml.Name    `xml:"DescribeSubnetsResponse"`
		Items   []xmlSubnet `xml:"subnetSet>item"`
		Next    string      `xml:"nextToken,omitempty"`
	}
	xmlSubnet struct {
		ID      string   `xml:"subnetId"`
		VPC     string   `xml:"vpcId"`
		Zone    string   `xml:"availabilityZone"`
		State   string   `xml:"state"`
		Default string   `xml:"defaultForAz"`
		Free    int      `xml:"availableIpAddressCount"`
		Tags    []xmlTag `xml:"tagSet>item"`
	}
	xmlGroups struct {
		XMLName xml.Name   `xml:"DescribeSecurityGroupsResponse"`
		Items   []xmlGroup `xml:"securityGroupInfo>item"`
		Next    string     `xml:"nextToken,omitempty"`
	}
	xmlGroup struct {
		ID    string    `xml:"groupId"`
		Name  string    `xml:"groupName"`
		VPC   string    `xml:"vpcId"`
		Tags  []xmlTag  `xml:"tagSet>item"`
		Rules []xmlRule `xml:"ipPermissions>item"`
	}
	xmlRule struct {
		Protocol string         `xml:"ipProtocol"`
		From     string         `xml:"fromPort,omitempty"`
		To       string         `xml:"toPort,omitempty"`
		V4       []xmlRange     `xml:"ipRanges>item"`
		V6       []xmlRange6    `xml:"ipv6Ranges>item"`
		Groups   []xmlGroupPair `xml:"groups>item"`
	}
	xmlRange struct {
		Network     string `xml:"cidrIp"`
		Description string `xml:"description,omitempty"`
	}
	xmlRange6 struct {
		Network     string `xml:"cidrIpv6"`
		Description string `xml:"description,omitempty"`
	}
	xmlGroupPair struct {
		ID          string `xml:"groupId"`
		Description string `xml:"description,omitempty"`
	}
	xmlMadeGroup struct {
		XMLName xml.Name `xml:"CreateSecurityGroupResponse"`
		Return  bool     `xml:"return"`
		ID      string   `xml:"groupId"`
	}
	xmlPlacements struct {
		XMLName xml.Name       `xml:"DescribePlacementGroupsResponse"`
		Items   []xmlPlacement `xml:"placementGroupSet>item"`
	}
	xmlPlacement struct {
		ID       string   `xml:"groupId"`
		Name     string   `xml:"groupName"`
		Strategy string   `xml:"strategy"`
		State    string   `xml:"state"`
		Tags     []xmlTag `xml:"tagSet>item"`
	}
)

func xmlGroupOf(g *group) xmlGroup {
	x := xmlGroup{ID: g.id, Name: g.name, VPC: g.vpc, Tags: xmlTags(g.tags)}
	for _, each := range g.rules {
		out := xmlRule{Protocol: each.protocol, From: each.from, To: each.to}
		switch {
		case each.group != "":
			out.Groups = []xmlGroupPair{{each.group, each.description}}
		case strings.Contains(each.network, ":"):
			out.V6 = []xmlRange6{{each.network, each.description}}
		default:
			out.V4 = []xmlRange{{each.network, each.description}}
		}
		x.Rules = append(x.Rules, out)
	}
	return x
}
