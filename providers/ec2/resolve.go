package ec2

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/musterhq/muster/providers"
)

// image is an image that was found.
type image struct {
	id, name, rootDevice, architecture string
	rootGiB                            int32
}

// plan makes a launch of settings: it finds out what their names mean, and makes what the cluster has in common.
func (p *Provider) plan(ctx context.Context, o owner, id providers.Identity, s *Settings) (launch, error) {
	found, err := p.findImage(ctx, s.Image)
	if err != nil {
		return launch{}, err
	}
	subnets, err := p.findSubnets(ctx, s)
	if err != nil {
		return launch{}, err
	}
	l := p.draft(id, s, found, subnets)
	l.Tags = o.hostTags(id, s.Tags)
	if len(l.Groups) == 0 {
		group, err := p.ensureGroup(ctx, o, subnets[0].VPC)
		if err != nil {
			return launch{}, err
		}
		l.Groups = []string{group}
	}
	if s.placed() {
		l.Placement, err = p.ensurePlacement(ctx, o, s.Placement)
	}
	return l, err
}

// draft is the launch without what the cluster has in common.
func (p *Provider) draft(id providers.Identity, s *Settings, found image, subnets []subnet) launch {
	return launch{
		Image: found.id, Type: s.Type, Spot: s.Spot, SpotMaxPrice: s.SpotMaxPrice, Key: s.Key, InstanceProfile: s.InstanceProfile,
		HopLimit: s.HopLimit, Disks: disks(s, found.rootDevice), Subnets: spread(subnets, id.Host),
		Groups: slices.Clone(s.SecurityGroups), Public: s.Address != addressPrivate,
		Placement: s.PlacementGroup, Marks: marks(s),
	}
}

// findImage finds an image once.
func (p *Provider) findImage(ctx context.Context, want Image) (image, error) {
	return p.images.get(ctx, want, func(ctx context.Context) (image, error) {
		id := want.ID
		if want.Parameter != "" {
			var err error
			if id, err = p.parameter(ctx, want.Parameter); err != nil {
				return image{}, err
			}
		}
		if id != "" {
			return p.imageByID(ctx, id)
		}
		return p.imageByName(ctx, want.Name, want.Owner)
	})
}

// parameter reads a parameter of Systems Manager.
func (p *Provider) parameter(ctx context.Context, name string) (string, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return "", err
	}
	out, err := call(ctx, p, c.getParameter, &ssm.GetParameterInput{Name: aws.String(name)})
	if hasCode(err, "ParameterNotFound") {
		return "", fmt.Errorf("parameter %s not found in region %s: %w", name, c.region, providers.ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	id := aws.ToString(out.Parameter.Value)
	if !imageForm.MatchString(id) {
		return "", fmt.Errorf("parameter %s is %q, not the ID of an image: %w", name, id, providers.ErrInvalid)
	}
	return id, nil
}

func (p *Provider) imageByID(ctx context.Context, id string) (image, error) {
	list, err := p.describeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if hasCode(err, "InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable") || err == nil && len(list) == 0 {
		return image{}, p.noImage(ctx, id, "", defaultOwner)
	}
	if err != nil {
		return image{}, err
	}
	return usable(list[0])
}

// imageByName finds the newest image of a name.
func (p *Provider) imageByName(ctx context.Context, name, owner string) (image, error) {
	list, err := p.describeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{owner}, Filters: []types.Filter{filter("name", name), filter("state", string(types.ImageStateAvailable))},
		MaxResults: aws.Int32(perPage),
	})
	if err != nil {
		return image{}, err
	}
	if len(list) == 0 {
		return image{}, p.noImage(ctx, name, name, owner)
	}
	// Dates are of one form and zone. Of images of one moment the choice has to be the same each time.
	newest := slices.MaxFunc(list, func(a, b types.Image) int {
		return cmp.Or(cmp.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate)),
			cmp.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId)))
	})
	return usable(newest)
}

func (p *Provider) describeImages(ctx context.Context, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	var found []types.Image
	for {
		page, err := call(ctx, p, c.ec2.DescribeImages, in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Images...)
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return found, nil
		}
	}
}

// usable is what has to be known of an image.
func usable(found types.Image) (image, error) {
	i := image{
		id: aws.ToString(found.ImageId), name: aws.ToString(found.Name), rootDevice: aws.ToString(found.RootDeviceName),
		architecture: string(found.Architecture),
	}
	if found.State != "" && found.State != types.ImageStateAvailable {
		return i, fmt.Errorf("image %s is %s, wait or use another: %w", i.id, found.State, providers.ErrNotFound)
	}
	if found.RootDeviceType == types.DeviceTypeInstanceStore || i.rootDevice == "" {
		return i, fmt.Errorf("image %s does not boot from EBS, use one that does: %w", i.id, providers.ErrInvalid)
	}
	for _, m := range found.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == i.rootDevice && m.Ebs != nil {
			i.rootGiB = aws.ToInt32(m.Ebs.VolumeSize)
		}
	}
	return i, nil
}

// findSubnets finds the subnets that hosts may be in, all of one VPC, sorted. Those of a cluster placement group are in
// one zone, since such a group is.
func (p *Provider) findSubnets(ctx context.Context, s *Settings) ([]subnet, error) {
	found, err := p.allSubnets(ctx, s)
	if err == nil && s.Placement == placementCluster {
		found = slices.DeleteFunc(slices.Clone(found), func(each subnet) bool { return each.Zone != found[0].Zone })
	}
	return found, err
}

func (p *Provider) allSubnets(ctx context.Context, s *Settings) ([]subnet, error) {
	key := strings.Join(slices.Sorted(slices.Values(s.Subnets)), ",")
	for _, tag := range slices.Sorted(maps.Keys(s.SubnetTags)) {
		key += fmt.Sprintf(";%q=%q", tag, s.SubnetTags[tag])
	}
	return p.nets.get(ctx, key, func(ctx context.Context) ([]subnet, error) {
		in, err := p.subnetQuery(ctx, s)
		if err != nil {
			return nil, err
		}
		found, err := p.describeSubnets(ctx, in)
		if err != nil {
			return nil, err
		}
		return found, p.checkSubnets(found)
	})
}

// subnetQuery asks for the subnets given, or for those of the VPC: in the default VPC, for the default subnets.
func (p *Provider) subnetQuery(ctx context.Context, s *Settings) (*ec2.DescribeSubnetsInput, error) {
	if len(s.Subnets) > 0 {
		return &ec2.DescribeSubnetsInput{SubnetIds: s.Subnets}, nil
	}
	in := &ec2.DescribeSubnetsInput{
		MaxResults: aws.Int32(perPage), Filters: []types.Filter{filter("state", string(types.SubnetStateAvailable))},
	}
	for _, tag := range slices.Sorted(maps.Keys(s.SubnetTags)) {
		in.Filters = append(in.Filters, filter("tag:"+tag, s.SubnetTags[tag]))
	}
	vpc := p.config.VPC
	if vpc == "" {
		if len(s.SubnetTags) == 0 {
			in.Filters = append(in.Filters, filter("default-for-az", "true"))
			return in, nil
		}
		var err error
		if vpc, err = p.defaultVPC(ctx); err != nil {
			return nil, err
		}
	}
	in.Filters = append(in.Filters, filter("vpc-id", vpc))
	return in, nil
}

func (p *Provider) defaultVPC(ctx context.Context) (string, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return "", err
	}
	out, err := call(ctx, p, c.ec2.DescribeVpcs, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}})
	if err != nil {
		return "", err
	}
	if len(out.Vpcs) == 0 {
		return "", fmt.Errorf("region %s has no default VPC, set `vpc`: %w", c.region, providers.ErrNotFound)
	}
	return aws.ToString(out.Vpcs[0].VpcId), nil
}

func (p *Provider) describeSubnets(ctx context.Context, in *ec2.DescribeSubnetsInput) ([]subnet, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	var found []subnet
	for {
		page, err := call(ctx, p, c.ec2.DescribeSubnets, in)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Subnets {
			found = append(found, subnet{
				ID: aws.ToString(s.SubnetId), Zone: aws.ToString(s.AvailabilityZone), VPC: aws.ToString(s.VpcId),
				free: int(aws.ToInt32(s.AvailableIpAddressCount)),
			})
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			slices.SortFunc(found, func(a, b subnet) int { return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.ID, b.ID)) })
			return found, nil
		}
	}
}

// checkSubnets makes sure that there is a subnet, and that all are in one VPC, which is the one configured.
func (p *Provider) checkSubnets(found []subnet) error {
	if len(found) == 0 {
		return fmt.Errorf("there is no subnet to put hosts in, set `vpc` or `subnets`: %w", providers.ErrNotFound)
	}
	for _, s := range found {
		switch {
		case p.config.VPC != "" && s.VPC != p.config.VPC:
			return fmt.Errorf("subnet %s is in %s, and `vpc` is %s: %w", s.ID, s.VPC, p.config.VPC, providers.ErrInvalid)
		case s.VPC != found[0].VPC:
			return fmt.Errorf("subnets %s and %s are in different VPCs, keep those of one: %w", found[0].ID, s.ID, providers.ErrInvalid)
		}
	}
	return nil
}
