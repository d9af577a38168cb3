package ec2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// groupKey names a security group by its VPC, or a placement group by its strategy.
type groupKey struct {
	owner owner
	kind  string
}

// rule lets a network reach ports, or, without a network, members of the group reach everything.
type rule struct {
	network  string
	from, to int32
}

// rules are what the cluster's security group lets in.
func (a Allow) rules() []rule {
	list := []rule{{}}
	add := func(networks []string, ports ...int) {
		for _, network := range networks {
			for _, port := range ports {
				list = append(list, rule{network: network, from: int32(port), to: int32(port)})
			}
		}
	}
	add(a.API, a.APIPort)
	add(a.SSH, sshPort)
	add(a.Members, a.APIPort, etcdClientPort, etcdPeerPort)
	slices.SortFunc(list, func(a, b rule) int { return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.from, b.from)) })
	return slices.Compact(list)
}

// ruleMark describes the rules that muster made. Others in the group are left alone.
const ruleMark = "muster"

// permission is a rule in EC2's words.
func (r rule) permission(group string) types.IpPermission {
	mark := aws.String(ruleMark)
	if r.network == "" {
		return types.IpPermission{
			IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String(group), Description: mark}},
		}
	}
	p := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(r.from), ToPort: aws.Int32(r.to)}
	if strings.Contains(r.network, ":") {
		p.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: aws.String(r.network), Description: mark}}
	} else {
		p.IpRanges = []types.IpRange{{CidrIp: aws.String(r.network), Description: mark}}
	}
	return p
}

// rulesOf reads the rules of a group that have muster's mark.
func rulesOf(group types.SecurityGroup) []rule {
	var list []rule
	for _, p := range group.IpPermissions {
		r := rule{from: aws.ToInt32(p.FromPort), to: aws.ToInt32(p.ToPort)}
		for _, each := range p.IpRanges {
			if r.network = aws.ToString(each.CidrIp); aws.ToString(each.Description) == ruleMark {
				list = append(list, r)
			}
		}
		for _, each := range p.Ipv6Ranges {
			if r.network = aws.ToString(each.CidrIpv6); aws.ToString(each.Description) == ruleMark {
				list = append(list, r)
			}
		}
		for _, each := range p.UserIdGroupPairs {
			if aws.ToString(each.Description) == ruleMark && aws.ToString(each.GroupId) == aws.ToString(group.GroupId) {
				list = append(list, rule{})
			}
		}
	}
	return list
}

// without are the rules of a that b lacks.
func without(a, b []rule) []rule {
	return slices.DeleteFunc(slices.Clone(a), func(r rule) bool { return slices.Contains(b, r) })
}

// ensureGroup makes the cluster's security group in a VPC once, and gives it the rules that the configuration says.
func (p *Provider) ensureGroup(ctx context.Context, o owner, vpc string) (string, error) {
	return p.groups.get(ctx, groupKey{owner: o, kind: vpc}, func(ctx context.Context) (string, error) {
		group, found, err := p.findGroup(ctx, o, vpc)
		var r record
		if err == nil && !found {
			r, _, err = p.records.load(o.cluster, recordOfGroup+vpc)
		}
		switch {
		case err != nil || found:
		case r.ID != "" && p.young(r):
			group.GroupId = aws.String(r.ID) // made, and not shown yet
		default:
			group, err = p.makeGroup(ctx, o, vpc)
		}
		if err != nil {
			return "", err
		}
		return aws.ToString(group.GroupId), p.setRules(ctx, group)
	})
}

// findGroup looks by name, which one group of a VPC has.
func (p *Provider) findGroup(ctx context.Context, o owner, vpc string) (types.SecurityGroup, bool, error) {
	list, err := p.describeGroups(ctx, []types.Filter{filter("vpc-id", vpc), filter("group-name", o.groupName("group"))})
	if err != nil || len(list) == 0 {
		return types.SecurityGroup{}, false, err
	}
	if !o.owns(tagsOf(list[0].Tags)) {
		return list[0], true, fmt.Errorf("security group %s has the name of the cluster's and not its tags, delete or tag it: %w",
			aws.ToString(list[0].GroupId), providers.ErrConflict)
	}
	return list[0], true, nil
}

func (p *Provider) describeGroups(ctx context.Context, filters []types.Filter) ([]types.SecurityGroup, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	var found []types.SecurityGroup
	in := &ec2.DescribeSecurityGroupsInput{Filters: filters, MaxResults: aws.Int32(perPage)}
	for {
		page, err := call(ctx, p, c.ec2.DescribeSecurityGroups, in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.SecurityGroups...)
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return found, nil
		}
	}
}

// makeGroup makes the group. Its name keeps it from being made twice.
func (p *Provider) makeGroup(ctx context.Context, o owner, vpc string) (types.SecurityGroup, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return types.SecurityGroup{}, err
	}
	asked := record{Asked: p.now(), Open: true}
	if err := p.records.save(o.cluster, recordOfGroup+vpc, asked); err != nil {
		return types.SecurityGroup{}, err
	}
	out, err := call(ctx, p, c.ec2.CreateSecurityGroup, o.groupInput(vpc))
	if hasCode(err, codeGroupExists) {
		return types.SecurityGroup{}, hidden("the cluster's security group") // somebody else just made it
	}
	if err != nil {
		return types.SecurityGroup{}, err
	}
	asked.Open, asked.ID = false, aws.ToString(out.GroupId)
	if err := p.records.save(o.cluster, recordOfGroup+vpc, asked); err != nil {
		return types.SecurityGroup{}, err
	}
	return types.SecurityGroup{GroupId: out.GroupId}, p.step("group")
}

// groupInput is the request for the cluster's group in a VPC.
func (o owner) groupInput(vpc string) *ec2.CreateSecurityGroupInput {
	tags := o.tags()
	tags[tagName] = "muster " + o.cluster
	return &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(o.groupName("group")), Description: aws.String("muster cluster " + o.cluster), VpcId: aws.String(vpc),
		TagSpecifications: tagged(tags, types.ResourceTypeSecurityGroup),
	}
}

// setRules adds the rules that are missing and takes away those of muster's that are not wanted any more.
func (p *Provider) setRules(ctx context.Context, group types.SecurityGroup) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	want, have := p.config.Allow.rules(), rulesOf(group)
	permissions := func(rules []rule) []types.IpPermission {
		list := make([]types.IpPermission, len(rules))
		for i, r := range rules {
			list[i] = r.permission(aws.ToString(group.GroupId))
		}
		return list
	}
	if missing := without(want, have); len(missing) > 0 {
		_, err = call(ctx, p, c.ec2.AuthorizeSecurityGroupIngress, &ec2.AuthorizeSecurityGroupIngressInput{
			GroupId: group.GroupId, IpPermissions: permissions(missing),
		})
		// Somebody else is at it too, or the list is behind: who looks again sees what is missing still.
		if hasCode(err, codeRuleExists, codeGroupGone) {
			err = hidden("security group " + aws.ToString(group.GroupId))
		}
	}
	if extra := without(have, want); err == nil && len(extra) > 0 {
		_, err = call(ctx, p, c.ec2.RevokeSecurityGroupIngress, &ec2.RevokeSecurityGroupIngressInput{
			GroupId: group.GroupId, IpPermissions: permissions(extra),
		})
		if hasCode(err, codeRuleGone) {
			err = nil
		}
	}
	return err
}

// removeGroups deletes the cluster's security groups: those that are shown, and those that only the records know.
func (p *Provider) removeGroups(ctx context.Context, o owner, known map[string]record) error {
	list, err := p.describeGroups(ctx, o.filters())
	if err != nil {
		return err
	}
	var ids []string
	for _, group := range list {
		ids = append(ids, aws.ToString(group.GroupId))
	}
	for name, r := range known {
		if strings.HasPrefix(name, recordOfGroup) && r.ID != "" && !slices.Contains(ids, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := call(ctx, p, c.ec2.DeleteSecurityGroup, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(id)})
		if err != nil && !hasCode(err, codeGroupGone) {
			return err
		}
	}
	return nil
}
