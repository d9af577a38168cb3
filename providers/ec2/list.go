package ec2

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// List returns the instances that carry the cluster's tags and the provider's.
func (p *Provider) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	o := p.owner(cluster)
	seen, err := p.look(ctx, o, 0)
	if err != nil {
		return nil, err
	}
	list := []providers.Instance{}
	for _, each := range seen {
		id, ok := o.hostOf(each.Tags)
		switch {
		case ok && ended(each):
			p.mourn(id, each)
		case ok && !halfMade(each):
			list = append(list, p.instance(id, each, tagsOf(each.Tags)[tagReach] != addressPrivate))
		}
	}
	slices.SortStableFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}

// mourn logs once why an instance ended that nobody asked to end: a limit of the account, a key that may not be used, a
// spot instance that was taken back. EC2 says so after it has accepted the request, and shows the instance for an hour.
func (p *Provider) mourn(id providers.Identity, i types.Instance) {
	if i.StateReason == nil || aws.ToString(i.StateReason.Code) == reasonAsked {
		return
	}
	if p.views.first(aws.ToString(i.InstanceId)) {
		p.log.Warn("an instance ended by itself", "host", id.Host, "instance", aws.ToString(i.InstanceId), "reason", reason(i))
	}
}

// reasonAsked is why an instance has ended that somebody terminated (API Reference, "StateReason").
const reasonAsked = "Client.UserInitiatedShutdown"

// halfMade tells whether an instance waits for its elastic address.
func halfMade(i types.Instance) bool { return tagsOf(i.Tags)[tagPhase] == phaseMaking }

// instance is an instance as providers.Provider shows it.
func (p *Provider) instance(id providers.Identity, i types.Instance, publicFirst bool) providers.Instance {
	return providers.Instance{
		Identity: id, ID: aws.ToString(i.InstanceId), State: instanceState(i), Addresses: addresses(i, publicFirst), Created: created(i),
	}
}

// instanceState is what a state of EC2 means. An instance that stops can be started when it has.
func instanceState(i types.Instance) providers.State {
	switch stateOf(i) {
	case types.InstanceStateNamePending:
		return providers.StatePending
	case types.InstanceStateNameRunning:
		return providers.StateRunning
	case types.InstanceStateNameStopping, types.InstanceStateNameStopped:
		return providers.StateStopped
	default:
		return providers.StateFailed
	}
}

// addresses are an instance's, the one at which it is reached first. An instance that is to have a public address and
// does not have it yet is not shown by its private one.
func addresses(i types.Instance, publicFirst bool) []netip.Addr {
	order := []*string{i.PrivateIpAddress, i.PublicIpAddress, i.Ipv6Address}
	if publicFirst {
		order = []*string{i.PublicIpAddress, i.PrivateIpAddress, i.Ipv6Address}
	}
	if aws.ToString(order[0]) == "" {
		return nil
	}
	var list []netip.Addr
	for _, text := range order {
		if address, err := netip.ParseAddr(aws.ToString(text)); err == nil && !slices.Contains(list, address) {
			list = append(list, address)
		}
	}
	return list
}

// created is when an instance was made: when its first interface was attached. Its launch time is that of its last start.
func created(i types.Instance) time.Time {
	for _, n := range i.NetworkInterfaces {
		if a := n.Attachment; a != nil && a.AttachTime != nil && aws.ToInt32(a.DeviceIndex) == 0 {
			return *a.AttachTime
		}
	}
	return aws.ToTime(i.LaunchTime)
}
