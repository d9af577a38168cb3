package ec2

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// Cleanup ends half-made instances of the cluster and removes every address, volume, interface and spot request that was
// left, its placement groups and its security groups. What EC2 may hide still is waited for.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	o := p.owner(cluster)
	known, err := p.records.all(cluster)
	if err != nil {
		return err
	}
	if err := p.outwait(ctx, known); err != nil {
		return err
	}
	if err := p.endHalfMade(ctx, o); err != nil {
		return err
	}
	for _, remove := range []func(context.Context, owner) error{
		p.removeAddresses, p.removeSpotRequests, p.removeVolumes, p.removeInterfaces,
	} {
		if err := remove(ctx, o); err != nil {
			return err
		}
	}
	if err := p.removePlacements(ctx, o, known); err != nil {
		return err
	}
	if err := p.removeGroups(ctx, o, known); err != nil {
		return err
	}
	p.forget(o)
	return p.records.removeAll(cluster)
}

// outwait waits until EC2 shows whatever was asked for and not answered.
func (p *Provider) outwait(ctx context.Context, known map[string]record) error {
	var until time.Time
	for _, r := range known {
		if shown := r.Asked.Add(p.timing.hidden); r.Open && r.ID == "" && shown.After(until) {
			until = shown
		}
	}
	if rest := until.Sub(p.now()); rest > 0 {
		return providers.Pause(ctx, rest)
	}
	return context.Cause(ctx)
}

// endHalfMade terminates what is not a host and waits for everything that is ending.
func (p *Provider) endHalfMade(ctx context.Context, o owner) error {
	seen, err := p.look(ctx, o, 0)
	if err != nil {
		return err
	}
	for _, each := range seen {
		if id, ok := o.hostOf(each.Tags); ok && !ended(each) && !halfMade(each) {
			return fmt.Errorf("host %s still has instance %s: %w", id.Host, aws.ToString(each.InstanceId), providers.ErrConflict)
		}
	}
	for _, each := range seen {
		if ended(each) {
			continue
		}
		if _, err := p.callTerminate(ctx, aws.ToString(each.InstanceId)); err != nil {
			return err
		}
	}
	return p.await(ctx, o, func(seen view) (bool, error) {
		return !slices.ContainsFunc(seen, func(i types.Instance) bool {
			return stateOf(i) != types.InstanceStateNameTerminated
		}), nil
	})
}

func (p *Provider) removeAddresses(ctx context.Context, o owner) error {
	found, err := p.lookAddresses(ctx, o)
	if err != nil {
		return err
	}
	return p.releaseAddresses(ctx, found)
}

// removeSpotRequests cancels requests that could still become instances.
func (p *Provider) removeSpotRequests(ctx context.Context, o owner) error {
	ids, err := p.describeSpotRequests(ctx, o)
	if err != nil || len(ids) == 0 {
		return err
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = call(ctx, p, c.ec2.CancelSpotInstanceRequests, &ec2.CancelSpotInstanceRequestsInput{SpotInstanceRequestIds: ids})
	return err
}

// describeSpotRequests reads the IDs of an owner's requests that could still become instances.
func (p *Provider) describeSpotRequests(ctx context.Context, o owner) (ids []string, err error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeSpotInstanceRequestsInput{
		Filters:    append(o.filters(), filter("state", string(types.SpotInstanceStateOpen), string(types.SpotInstanceStateActive))),
		MaxResults: aws.Int32(perPage),
	}
	for {
		page, err := call(ctx, p, c.ec2.DescribeSpotInstanceRequests, in)
		if err != nil {
			return nil, err
		}
		for _, r := range page.SpotInstanceRequests {
			ids = append(ids, aws.ToString(r.SpotInstanceRequestId))
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return ids, nil
		}
	}
}

// removeVolumes deletes the volumes that outlived their instance because somebody detached them or told them to.
func (p *Provider) removeVolumes(ctx context.Context, o owner) error {
	found, err := p.describeVolumes(ctx, o)
	if err != nil {
		return err
	}
	for _, v := range found {
		if err := p.removeVolume(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// volumesPerPage is the most that EC2 answers at once.
const volumesPerPage = 500

// describeVolumes reads the volumes of an owner.
func (p *Provider) describeVolumes(ctx context.Context, o owner) (found []types.Volume, err error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeVolumesInput{Filters: o.filters(), MaxResults: aws.Int32(volumesPerPage)}
	for {
		page, err := call(ctx, p, c.ec2.DescribeVolumes, in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Volumes...)
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return found, nil
		}
	}
}

func (p *Provider) removeVolume(ctx context.Context, v types.Volume) error {
	switch {
	case v.State == types.VolumeStateDeleting || v.State == types.VolumeStateDeleted:
		return nil
	case v.State == types.VolumeStateInUse && len(v.Attachments) > 0 && v.Attachments[0].State == types.VolumeAttachmentStateAttached:
		return fmt.Errorf("volume %s of the cluster is attached to instance %s, detach it or remove its tags: %w",
			aws.ToString(v.VolumeId), aws.ToString(v.Attachments[0].InstanceId), providers.ErrConflict)
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = call(ctx, p, c.ec2.DeleteVolume, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId})
	if hasCode(err, "InvalidVolume.NotFound") {
		return nil
	}
	return err
}

// removeInterfaces deletes the interfaces that outlived their instance.
func (p *Provider) removeInterfaces(ctx context.Context, o owner) error {
	found, err := p.describeInterfaces(ctx, o)
	if err != nil {
		return err
	}
	for _, n := range found {
		if err := p.removeInterface(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// describeInterfaces reads the interfaces of an owner.
func (p *Provider) describeInterfaces(ctx context.Context, o owner) (found []types.NetworkInterface, err error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeNetworkInterfacesInput{Filters: o.filters(), MaxResults: aws.Int32(perPage)}
	for {
		page, err := call(ctx, p, c.ec2.DescribeNetworkInterfaces, in)
		if err != nil {
			return nil, err
		}
		found = append(found, page.NetworkInterfaces...)
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return found, nil
		}
	}
}

func (p *Provider) removeInterface(ctx context.Context, n types.NetworkInterface) error {
	if a := n.Attachment; a != nil && a.Status == types.AttachmentStatusAttached {
		return fmt.Errorf("interface %s of the cluster is attached to instance %s, detach it or remove its tags: %w",
			aws.ToString(n.NetworkInterfaceId), aws.ToString(a.InstanceId), providers.ErrConflict)
	}
	if n.Status != types.NetworkInterfaceStatusAvailable {
		return fmt.Errorf("interface %s is %s: %w", aws.ToString(n.NetworkInterfaceId), n.Status, providers.ErrUnavailable)
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = call(ctx, p, c.ec2.DeleteNetworkInterface, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: n.NetworkInterfaceId})
	if hasCode(err, "InvalidNetworkInterfaceID.NotFound") {
		return nil
	}
	return err
}

// forget what is known of a cluster that is gone.
func (p *Provider) forget(o owner) {
	p.forgetGroups(o)
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	delete(p.views.instances, o)
	delete(p.views.addresses, o)
}

// forgetGroups looks again for the cluster's security and placement groups next time. It tells whether there were any.
func (p *Provider) forgetGroups(o owner) bool {
	ofOwner := func(k groupKey) bool { return k.owner == o }
	return p.groups.forget(ofOwner)+p.places.forget(ofOwner) > 0
}
