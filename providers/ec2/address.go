package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// addressesOf finds the elastic addresses of a host, the one to keep first: one that is in use, or the first by ID.
func (o owner) addressesOf(id providers.Identity, all []types.Address) []types.Address {
	var found []types.Address
	for _, each := range all {
		if tagged, ok := o.hostOf(each.Tags); ok && tagged == id {
			found = append(found, each)
		}
	}
	slices.SortFunc(found, func(a, b types.Address) int {
		return cmp.Or(cmp.Compare(b2i(a.AssociationId == nil), b2i(b.AssociationId == nil)),
			cmp.Compare(aws.ToString(a.AllocationId), aws.ToString(b.AllocationId)))
	})
	return found
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ensureAddress finds a host's elastic address or allocates it. EC2 has no client token for that: when an answer was lost,
// nothing is allocated until the list cannot hide what was asked for.
func (p *Provider) ensureAddress(ctx context.Context, o owner, id providers.Identity, tags map[string]string) (types.Address, error) {
	asked, _, err := p.records.load(o.cluster, addressRecord(id))
	if err != nil {
		return types.Address{}, err
	}
	young := p.young(asked) // what is young now may be hidden in what is looked at now
	all, err := p.lookAddresses(ctx, o)
	if err != nil {
		return types.Address{}, err
	}
	switch found := o.addressesOf(id, all); {
	case len(found) > 0:
		return found[0], nil
	case asked.ID != "" && young:
		return types.Address{AllocationId: aws.String(asked.ID)}, nil
	case asked.Open && young:
		return types.Address{}, hidden("the elastic address that was asked for")
	}
	return p.allocate(ctx, o, id, tags)
}

func (p *Provider) allocate(ctx context.Context, o owner, id providers.Identity, tags map[string]string) (types.Address, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return types.Address{}, err
	}
	asked := record{Asked: p.now(), Open: true}
	if err := p.records.save(o.cluster, addressRecord(id), asked); err != nil {
		return types.Address{}, err
	}
	out, err := call(ctx, p, c.ec2.AllocateAddress, addressInput(tags))
	asked.Asked = p.now()
	switch {
	case err == nil:
		asked.Open, asked.ID = false, aws.ToString(out.AllocationId)
	case !unanswered(err):
		return types.Address{}, errors.Join(err, p.records.remove(o.cluster, addressRecord(id))) // nothing was allocated
	default:
		return types.Address{}, errors.Join(err, p.records.save(o.cluster, addressRecord(id), asked))
	}
	if err := p.records.save(o.cluster, addressRecord(id), asked); err != nil {
		return types.Address{}, err
	}
	return types.Address{AllocationId: out.AllocationId, PublicIp: out.PublicIp}, p.step("allocated")
}

func addressInput(tags map[string]string) *ec2.AllocateAddressInput {
	return &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc, TagSpecifications: tagged(tags, types.ResourceTypeElasticIp)}
}

// associate gives a host its elastic address. To repeat it changes nothing.
func (p *Provider) associate(ctx context.Context, address types.Address, instance string) error {
	if aws.ToString(address.InstanceId) == instance {
		return nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = call(ctx, p, c.ec2.AssociateAddress, &ec2.AssociateAddressInput{
		AllocationId: address.AllocationId, InstanceId: aws.String(instance), AllowReassociation: aws.Bool(false),
	})
	if hasCode(err, "InvalidAllocationID.NotFound", codeInstanceGone) {
		return hidden("the elastic address") // both were answered a moment ago
	}
	if hasCode(err, "Resource.AlreadyAssociated") {
		err = fmt.Errorf("elastic address %s was given to something else, release it: %w", aws.ToString(address.AllocationId), err)
	}
	return err
}

// releaseAddresses takes addresses from what has them and gives them back. What is gone is no error.
func (p *Provider) releaseAddresses(ctx context.Context, addresses []types.Address) error {
	if len(addresses) == 0 {
		return nil
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.AssociationId != nil {
			_, err := call(ctx, p, c.ec2.DisassociateAddress, &ec2.DisassociateAddressInput{AssociationId: a.AssociationId})
			if err != nil && !hasCode(err, "InvalidAssociationID.NotFound") {
				return err
			}
		}
		_, err := call(ctx, p, c.ec2.ReleaseAddress, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId})
		if err != nil && !hasCode(err, "InvalidAllocationID.NotFound") {
			return err
		}
	}
	return nil
}

// releaseHost gives back every elastic address of a host, one that the list hides included.
func (p *Provider) releaseHost(ctx context.Context, id providers.Identity) error {
	o := p.owner(id.Cluster)
	asked, known, err := p.records.load(o.cluster, addressRecord(id))
	if err != nil {
		return err
	}
	young := p.young(asked)
	all, err := p.lookAddresses(ctx, o)
	if err != nil {
		return err
	}
	found := o.addressesOf(id, all)
	if known && len(found) == 0 && young {
		if asked.ID == "" {
			return hidden("the elastic address that was asked for")
		}
		found = []types.Address{{AllocationId: aws.String(asked.ID)}}
	}
	if err := p.releaseAddresses(ctx, found); err != nil {
		return err
	}
	return p.records.remove(o.cluster, addressRecord(id))
}
