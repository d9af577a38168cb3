package ec2

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// Destroy gives back a host's elastic address, terminates its instance and returns when that has ended: its volumes and
// its interface are gone then. The instance goes last, so that a destroy which was cut short is seen and repeated.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	if err := instance.Identity.Validate(); err != nil {
		return err
	}
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
	if shown && !belongs(o, instance.Identity, found) {
		return fmt.Errorf("instance %s has the tags of another host now, end it yourself: %w", instance.ID, providers.ErrConflict)
	}
	if err := p.releaseIfAny(ctx, instance.Identity, found, shown); err != nil {
		return err
	}
	if err := p.step("released"); err != nil {
		return err
	}
	if err := p.terminate(ctx, o, instance, found, shown); err != nil {
		return err
	}
	return p.records.remove(o.cluster, hostRecord(instance.Identity))
}

// belongs tells whether an instance is the host's.
func belongs(o owner, id providers.Identity, i types.Instance) bool {
	tagged, ok := o.hostOf(i.Tags)
	return ok && tagged == id || !ok && o.attemptOf(id, i) > 0
}

// releaseIfAny gives back a host's elastic addresses, if it is one that has them or nothing tells.
func (p *Provider) releaseIfAny(ctx context.Context, id providers.Identity, found types.Instance, shown bool) error {
	_, asked, err := p.records.load(id.Cluster, addressRecord(id))
	if err != nil {
		return err
	}
	if shown && !asked && tagsOf(found.Tags)[tagPhase] == "" {
		return nil
	}
	return p.releaseHost(ctx, id)
}

// terminate ends an instance and waits for its end.
func (p *Provider) terminate(ctx context.Context, o owner, instance providers.Instance, found types.Instance, shown bool) error {
	if shown && stateOf(found) == types.InstanceStateNameTerminated {
		p.bury(instance.ID)
		return nil
	}
	if !shown || !ended(found) {
		gone, err := p.callTerminate(ctx, instance.ID)
		if err != nil {
			return err
		}
		if gone {
			// What EC2 showed, or made a moment ago, is there: those that have ended are shown for an hour.
			if shown || p.now().Sub(instance.Created) < p.timing.hidden {
				return hidden("instance " + instance.ID)
			}
			p.bury(instance.ID)
			return nil
		}
	}
	if err := p.step("terminated"); err != nil {
		return err
	}
	err := p.await(ctx, o, func(seen view) (bool, error) {
		now, shown := seen.byID(instance.ID)
		return !shown || stateOf(now) == types.InstanceStateNameTerminated, nil
	})
	if err == nil {
		p.bury(instance.ID)
	}
	return err
}

// callTerminate asks EC2 to end an instance. gone is that it does not know it.
func (p *Provider) callTerminate(ctx context.Context, id string) (gone bool, err error) {
	c, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	_, err = call(ctx, p, c.ec2.TerminateInstances, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if hasCode(err, codeInstanceGone) {
		return true, nil
	}
	return false, err
}
