package ec2

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// Start powers a stopped instance on. One that still stops is ErrUnavailable until it has.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	return p.withHost(ctx, instance, func(c *clients, found types.Instance) error {
		if s := stateOf(found); s == types.InstanceStateNameRunning || s == types.InstanceStateNamePending {
			return nil
		}
		_, err := call(ctx, p, c.ec2.StartInstances, &ec2.StartInstancesInput{InstanceIds: []string{instance.ID}})
		return err
	})
}

// Stop powers an instance off. EC2 asks the guest, and ends what is left of it after some minutes. It is called whatever
// the list says, which may be older than a start. A public address is given back; an elastic one stays.
func (p *Provider) Stop(ctx context.Context, instance providers.Instance) error {
	return p.withHost(ctx, instance, func(c *clients, found types.Instance) error {
		if found.InstanceLifecycle == types.InstanceLifecycleTypeSpot {
			return fmt.Errorf("instance %s is a spot instance of a one-time request, which EC2 can end and not stop; "+
				"set `spot: false` for hosts that are to be stopped: %w", instance.ID, providers.ErrInvalid)
		}
		_, err := call(ctx, p, c.ec2.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{instance.ID}})
		if hasCode(err, codeInstanceGone) {
			return hidden("instance " + instance.ID) // it was shown
		}
		return err
	})
}

// withHost does something with the instance of a host, alone, if it is there and the host's.
func (p *Provider) withHost(ctx context.Context, instance providers.Instance, do func(*clients, types.Instance) error) error {
	unlock, err := p.hosts.Lock(ctx, instance.Identity.ID())
	if err != nil {
		return err
	}
	defer unlock()
	o := p.owner(instance.Cluster)
	seen, err := p.look(ctx, o, 0)
	if err != nil {
		return err
	}
	found, shown := seen.byID(instance.ID)
	switch {
	case !shown || ended(found):
		return fmt.Errorf("instance %s is gone: %w", instance.ID, providers.ErrNotFound)
	case !belongs(o, instance.Identity, found):
		return fmt.Errorf("instance %s has the tags of another host now: %w", instance.ID, providers.ErrConflict)
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	return do(c, found)
}
