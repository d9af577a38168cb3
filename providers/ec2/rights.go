package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// probeCluster is the UUID under which nothing is ever made.
const probeCluster = "00000000-0000-0000-0000-000000000000"

// checkLooks looks at every kind of thing that the driver makes, as Cleanup will: what it may not see it would leave behind.
// What it may change and end EC2 tells only of things that exist.
func (p *Provider) checkLooks(ctx context.Context) error {
	o := p.owner(probeCluster)
	var errs []error
	for _, look := range []func() error{
		func() error { _, err := p.describeAddresses(ctx, o.filters()); return err },
		func() error { _, err := p.describeSpotRequests(ctx, o); return err },
		func() error { _, err := p.describeVolumes(ctx, o); return err },
		func() error { _, err := p.describeInterfaces(ctx, o); return err },
		func() error { _, err := p.describePlacements(ctx, o.filters()); return err },
		func() error { _, err := p.describeGroups(ctx, o.filters()); return err },
	} {
		errs = append(errs, look())
	}
	return errors.Join(errs...)
}

// dry makes a dry run of a call: EC2 says whether it would do it. The input has DryRun set.
func dry[I, O, F any](
	ctx context.Context, p *Provider, method func(context.Context, *I, ...F) (*O, error), in *I,
) error {
	_, err := call(ctx, p, method, in)
	if hasCode(err, codeDryRun) {
		return nil
	}
	return cmp.Or(err, fmt.Errorf("a dry run was answered as if it were none: %w", providers.ErrInvalid))
}

// checkMaking makes dry runs of a host, and of what its settings have the driver make beside it. The cluster's own groups
// may not be there yet and are left out of the host's.
func (p *Provider) checkMaking(ctx context.Context, s *Settings, found image, subnets []subnet) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	o, yes := p.owner(probeCluster), aws.Bool(true)
	probe := providers.Identity{Cluster: probeCluster, Host: "check", Generation: 1}
	l := p.draft(probe, s, found, subnets)
	l.Tags = o.hostTags(probe, s.Tags)
	run := l.input(nil, o.token(probe, 1))
	run.DryRun = yes
	errs := []error{dry(ctx, p, c.ec2.RunInstances, run)}
	if len(s.SecurityGroups) == 0 {
		in := o.groupInput(subnets[0].VPC)
		in.DryRun = yes
		errs = append(errs, dry(ctx, p, c.ec2.CreateSecurityGroup, in))
	}
	if s.placed() {
		in := o.placementInput(s.Placement)
		in.DryRun = yes
		errs = append(errs, dry(ctx, p, c.ec2.CreatePlacementGroup, in))
	}
	if s.Address == addressElastic {
		in := addressInput(l.Tags)
		in.DryRun = yes
		errs = append(errs, dry(ctx, p, c.ec2.AllocateAddress, in))
	}
	return errors.Join(errs...)
}

// crowd is how many hosts are to be in the same subnets.
type crowd struct {
	subnets []subnet
	hosts   int
}

// crowds counts hosts by their subnets.
type crowds map[string]crowd

func (c crowds) add(subnets []subnet, hosts int) {
	var ids []string
	for _, s := range subnets {
		ids = append(ids, s.ID)
	}
	key := strings.Join(ids, ",")
	c[key] = crowd{subnets: subnets, hosts: c[key].hosts + hosts}
}

// checkRoom compares the hosts to come with the addresses that their subnets have free. What the provider has there already
// counts as free: some of the hosts to come may be there.
func (p *Provider) checkRoom(ctx context.Context, c crowd) error {
	free := 0
	filters := []types.Filter{filter("tag:"+providers.TagProvider, p.name), filter("subnet-id")}
	for _, s := range c.subnets {
		free += s.free
		filters[1].Values = append(filters[1].Values, s.ID)
	}
	if c.hosts <= free {
		return nil
	}
	ours, err := p.describe(ctx, filters)
	if err != nil || c.hosts <= free+len(ours) {
		return err
	}
	return fmt.Errorf("%d hosts are to be in subnets (%s) that have %d free addresses, take more or larger `subnets`: %w",
		c.hosts, strings.Join(filters[1].Values, ", "), free, providers.ErrQuota)
}

// checkAddresses compares the elastic addresses to come with what the account may have.
func (p *Provider) checkAddresses(ctx context.Context, wanted int) error {
	if wanted == 0 {
		return nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	out, err := call(ctx, p, c.ec2.DescribeAccountAttributes, &ec2.DescribeAccountAttributesInput{
		AttributeNames: []types.AccountAttributeName{"vpc-max-elastic-ips"},
	})
	if err != nil {
		return err
	}
	limit := 0
	for _, a := range out.AccountAttributes {
		for _, v := range a.AttributeValues {
			_, _ = fmt.Sscan(aws.ToString(v.AttributeValue), &limit)
		}
	}
	used, err := p.describeAddresses(ctx, nil)
	if err != nil {
		return err
	}
	others := 0
	for _, a := range used {
		others += b2i(tagsOf(a.Tags)[providers.TagProvider] != p.name)
	}
	if limit == 0 || others+wanted <= limit {
		return nil
	}
	return fmt.Errorf("the account may have %d elastic addresses, others use %d and %d are wanted: %s: %w",
		limit, others, wanted, hints["AddressLimitExceeded"], providers.ErrQuota)
}
