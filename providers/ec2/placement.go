package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// EC2's bounds of a placement group in a zone (User Guide, "Placement strategies").
const (
	partitions = 7 // parts of a group with partitions; all are asked for
	spreadMost = 7 // instances of a spread group
)

// ensurePlacement makes the cluster's placement group of a strategy once. Its name keeps it from being made twice.
func (p *Provider) ensurePlacement(ctx context.Context, o owner, strategy string) (string, error) {
	return p.places.get(ctx, groupKey{owner: o, kind: strategy}, func(ctx context.Context) (string, error) {
		c, err := p.connect(ctx)
		if err != nil {
			return "", err
		}
		name := o.placementName(strategy)
		if err := p.records.save(o.cluster, recordOfPlace+strategy, record{Asked: p.now(), Open: true, ID: name}); err != nil {
			return "", err
		}
		if _, err = call(ctx, p, c.ec2.CreatePlacementGroup, o.placementInput(strategy)); hasCode(err, codePlacementExists) {
			return name, p.checkPlacement(ctx, o, name)
		}
		return name, err
	})
}

func (o owner) placementName(strategy string) string { return o.groupName("placement " + strategy) }

// placementInput is the request for the cluster's group of a strategy.
func (o owner) placementInput(strategy string) *ec2.CreatePlacementGroupInput {
	in := &ec2.CreatePlacementGroupInput{
		GroupName: aws.String(o.placementName(strategy)), Strategy: types.PlacementStrategy(strategy),
		TagSpecifications: tagged(o.tags(), types.ResourceTypePlacementGroup),
	}
	if strategy == placementPartition {
		in.PartitionCount = aws.Int32(partitions)
	}
	return in
}

// checkPlacement makes sure that a placement group that exists is the cluster's.
func (p *Provider) checkPlacement(ctx context.Context, o owner, name string) error {
	list, err := p.describePlacements(ctx, []types.Filter{filter("group-name", name)})
	if err == nil && len(list) > 0 && !o.owns(tagsOf(list[0].Tags)) {
		err = fmt.Errorf("placement group %s has the name of the cluster's and not its tags, delete or tag it: %w",
			name, providers.ErrConflict)
		return errors.Join(err, p.records.remove(o.cluster, recordOfPlace+string(list[0].Strategy)))
	}
	return err
}

func (p *Provider) describePlacements(ctx context.Context, filters []types.Filter) ([]types.PlacementGroup, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := call(ctx, p, c.ec2.DescribePlacementGroups, &ec2.DescribePlacementGroupsInput{Filters: filters})
	if err != nil {
		return nil, err
	}
	return out.PlacementGroups, nil
}

// removePlacements deletes the cluster's placement groups: those that are shown, and those that only the records know.
func (p *Provider) removePlacements(ctx context.Context, o owner, known map[string]record) error {
	list, err := p.describePlacements(ctx, o.filters())
	if err != nil {
		return err
	}
	var names []string
	for _, group := range list {
		if group.State != types.PlacementGroupStateDeleted && group.State != types.PlacementGroupStateDeleting {
			names = append(names, aws.ToString(group.GroupName))
		}
	}
	for _, strategy := range []string{placementCluster, placementSpread, placementPartition} {
		if r, ok := known[recordOfPlace+strategy]; ok && !slices.Contains(names, r.ID) {
			names = append(names, r.ID)
		}
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, err := call(ctx, p, c.ec2.DeletePlacementGroup, &ec2.DeletePlacementGroupInput{GroupName: aws.String(name)})
		if err != nil && !hasCode(err, codePlacementGone) {
			return err
		}
	}
	return nil
}
