package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// noImage says that there is no such image, and which are called nearly so.
func (p *Provider) noImage(ctx context.Context, what, name, owner string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	near := ""
	list, err := p.describeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{owner}, Filters: []types.Filter{filter("name", stem(name)+"*")}, MaxResults: aws.Int32(perPage),
	})
	if names := nearest(name, list); err == nil && len(names) > 0 {
		near = "; nearest names: " + strings.Join(names, ", ")
	}
	return fmt.Errorf("image %s not found in region %s%s: %w", what, c.region, near, providers.ErrNotFound)
}

// stem is the beginning of an image's name by which its relatives are found: its first word.
func stem(name string) string {
	if i := strings.IndexAny(name, "-_/ .*?"); i > 0 {
		return name[:i]
	}
	return strings.TrimRight(name, "*?")
}

// nearest are the names of up to three images: those that begin most like the name, and of these the newest.
func nearest(name string, list []types.Image) []string {
	alike := func(i types.Image) int {
		n, other := 0, aws.ToString(i.Name)
		for n < len(name) && n < len(other) && name[n] == other[n] {
			n++
		}
		return n
	}
	slices.SortStableFunc(list, func(a, b types.Image) int {
		return cmp.Or(cmp.Compare(alike(b), alike(a)), cmp.Compare(aws.ToString(b.CreationDate), aws.ToString(a.CreationDate)),
			cmp.Compare(aws.ToString(a.Name), aws.ToString(b.Name)))
	})
	var names []string
	for _, i := range list {
		text := aws.ToString(i.Name)
		if name == "" {
			text += " (" + aws.ToString(i.ImageId) + ")"
		}
		if len(names) < 3 && !slices.Contains(names, text) {
			names = append(names, text)
		}
	}
	return names
}

// Check finds out whether EC2 would make the hosts: it looks at everything that the settings name and at every kind of thing
// that it would have to find again, and makes dry runs of what it would make. Prices of spot instances are logged.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	if _, err := p.describe(ctx, p.owner(probeCluster).filters()); err != nil {
		return err // as would everything else
	}
	errs := []error{p.checkLooks(ctx)}
	var kinds []*Settings
	hosts, elastic := map[*Settings]int{}, 0 // hosts of a group share their settings
	for _, each := range settings {
		s, err := settingsOf(each)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if hosts[s]++; hosts[s] == 1 {
			kinds = append(kinds, s)
		}
		elastic += b2i(s.Address == addressElastic)
	}
	together := crowds{}
	for _, s := range kinds {
		subnets, err := p.checkHost(ctx, s, hosts[s])
		if len(subnets) > 0 {
			together.add(subnets, hosts[s])
		}
		errs = append(errs, p.checkReach(s), err)
	}
	for _, key := range slices.Sorted(maps.Keys(together)) {
		errs = append(errs, p.checkRoom(ctx, together[key]))
	}
	return errors.Join(append(errs, p.checkAddresses(ctx, elastic))...)
}

// checkReach makes sure that operator and members reach each other through the cluster's security group.
func (p *Provider) checkReach(s *Settings) error {
	if len(s.SecurityGroups) > 0 || !s.reachPublic() {
		return nil
	}
	allow := p.config.Allow
	switch {
	case len(allow.Members) == 0:
		return fmt.Errorf("hosts are reached at public addresses, by which a security group does not know members: "+
			"set `allow.members` to the networks of all hosts (0.0.0.0/0 if they are not known; the ports ask for a certificate), "+
			"or `reach: private`: %w", providers.ErrInvalid)
	case len(allow.API) == 0:
		return fmt.Errorf("nobody outside the cluster reaches the API: set `allow.api` to your own network: %w", providers.ErrInvalid)
	}
	return nil
}

// checkHost asks for everything that the settings of some hosts name. It returns the subnets.
func (p *Provider) checkHost(ctx context.Context, s *Settings, hosts int) ([]subnet, error) {
	found, err := p.findImage(ctx, s.Image)
	subnets, netErr := p.findSubnets(ctx, s)
	if err = errors.Join(err, netErr); err != nil {
		return nil, err
	}
	if min := Size(found.rootGiB) << 30; s.Root.Size != 0 && s.Root.Size < min {
		err = fmt.Errorf("`root.size` is %s, and image %s needs %s: %w", s.Root.Size, found.id, min, providers.ErrInvalid)
	}
	if err = errors.Join(err, checkSpread(s, subnets, hosts), p.checkType(ctx, s, found, subnets)); err != nil {
		return nil, err
	}
	p.logPrice(ctx, s, subnets)
	return subnets, p.checkMaking(ctx, s, found, subnets)
}

// checkSpread makes sure that a spread placement group takes the hosts.
func checkSpread(s *Settings, subnets []subnet, hosts int) error {
	zones := map[string]bool{}
	for _, each := range subnets {
		zones[each.Zone] = true
	}
	if s.Placement != placementSpread || hosts <= spreadMost*len(zones) {
		return nil
	}
	return fmt.Errorf("a placement group that spreads has at most %d hosts a zone, and %d are to be in %d zones: take `placement: partition`: %w",
		spreadMost, hosts, len(zones), providers.ErrInvalid)
}

// checkType makes sure that the zones have the instance type and that it runs the image.
func (p *Provider) checkType(ctx context.Context, s *Settings, found image, subnets []subnet) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	out, err := call(ctx, p, c.ec2.DescribeInstanceTypeOfferings, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{filter("instance-type", s.Type)},
	})
	if err != nil {
		return err
	}
	var offered, lacking []string
	for _, o := range out.InstanceTypeOfferings {
		offered = append(offered, aws.ToString(o.Location))
	}
	for _, each := range subnets {
		if !slices.Contains(offered, each.Zone) && !slices.Contains(lacking, each.Zone) {
			lacking = append(lacking, each.Zone)
		}
	}
	slices.Sort(offered)
	switch {
	case len(offered) == 0:
		return fmt.Errorf("region %s has no instance type %s: %w", c.region, s.Type, providers.ErrNotFound)
	case len(s.Subnets) > 0 && len(lacking) > 0, len(lacking) > 0 && !slices.ContainsFunc(subnets, func(each subnet) bool {
		return slices.Contains(offered, each.Zone)
	}):
		return fmt.Errorf("instance type %s is not in %s, but in %s: take `subnets` there: %w",
			s.Type, strings.Join(lacking, ", "), strings.Join(offered, ", "), providers.ErrNotFound)
	}
	return p.checkArchitecture(ctx, s, found)
}

func (p *Provider) checkArchitecture(ctx context.Context, s *Settings, found image) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	out, err := call(ctx, p, c.ec2.DescribeInstanceTypes, &ec2.DescribeInstanceTypesInput{
		InstanceTypes: []types.InstanceType{types.InstanceType(s.Type)},
	})
	if err != nil || len(out.InstanceTypes) == 0 || out.InstanceTypes[0].ProcessorInfo == nil || found.architecture == "" {
		return err
	}
	runs := out.InstanceTypes[0].ProcessorInfo.SupportedArchitectures
	if !slices.Contains(runs, types.ArchitectureType(found.architecture)) {
		return fmt.Errorf("image %s is for %s, and instance type %s runs %v: %w", found.id, found.architecture, s.Type, runs,
			providers.ErrInvalid)
	}
	return nil
}

// logPrice logs what spot instances of a type cost now. The API tells no other prices, and a price is no reason to fail.
func (p *Provider) logPrice(ctx context.Context, s *Settings, subnets []subnet) {
	c, err := p.connect(ctx)
	if err != nil || !s.Spot {
		return
	}
	out, err := call(ctx, p, c.ec2.DescribeSpotPriceHistory, &ec2.DescribeSpotPriceHistoryInput{
		InstanceTypes: []types.InstanceType{types.InstanceType(s.Type)}, ProductDescriptions: []string{"Linux/UNIX"},
		StartTime: aws.Time(p.now()), EndTime: aws.Time(p.now()),
	})
	if err != nil {
		p.log.Debug("cannot ask for spot prices", "error", err)
		return
	}
	for _, price := range out.SpotPriceHistory {
		zone := aws.ToString(price.AvailabilityZone)
		if slices.ContainsFunc(subnets, func(each subnet) bool { return each.Zone == zone }) {
			p.log.Info("spot price", "type", s.Type, "zone", zone, "usd_per_hour", aws.ToString(price.SpotPrice))
		}
	}
}
