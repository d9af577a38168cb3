package ec2

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// view is what EC2 shows of an owner's instances, those that have ended lately included, and what is known better.
type view []types.Instance

// byID finds an instance.
func (v view) byID(id string) (types.Instance, bool) {
	i := slices.IndexFunc(v, func(each types.Instance) bool { return aws.ToString(each.InstanceId) == id })
	if i < 0 {
		return types.Instance{}, false
	}
	return v[i], true
}

// ofHost finds the instances of a host, by their tags or, if somebody changed those, by their client tokens.
func (v view) ofHost(o owner, id providers.Identity) []types.Instance {
	var found []types.Instance
	for _, each := range v {
		tagged, ok := o.hostOf(each.Tags)
		if ok && tagged == id || !ok && strings.HasPrefix(aws.ToString(each.ClientToken), o.tokenPrefix(id)) {
			found = append(found, each)
		}
	}
	return found
}

// ended tells whether an instance ends or has ended. It never comes back.
func ended(i types.Instance) bool {
	s := stateOf(i)
	return s == types.InstanceStateNameTerminated || s == types.InstanceStateNameShuttingDown
}

func stateOf(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return types.InstanceStateNamePending
	}
	return i.State.Name
}

// views are the views of all owners, and what is known of instances that lists do not show.
type views struct {
	mu        sync.Mutex
	instances map[owner]*shared[view]
	addresses map[owner]*shared[[]types.Address]
	made      map[string]madeInstance // by ID; not listed yet
	gone      map[string]time.Time    // by ID; when they were seen to have ended
	mourned   map[string]bool         // by ID; what was said of their end
}

// first tells whether an instance's end was not told yet.
func (v *views) first(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mourned == nil {
		v.mourned = map[string]bool{}
	}
	before := v.mourned[id]
	v.mourned[id] = true
	return !before
}

type madeInstance struct {
	owner    owner
	instance types.Instance
	at       time.Time
}

// look asks for the instances of an owner, at once or at a time at least gap after the last asking.
func (p *Provider) look(ctx context.Context, o owner, gap time.Duration) (view, error) {
	p.views.mu.Lock()
	s := p.views.instances[o]
	if s == nil {
		s = newShared(func(ctx context.Context) (view, error) { return p.describe(ctx, o.filters()) })
		if p.views.instances == nil {
			p.views.instances = map[owner]*shared[view]{}
		}
		p.views.instances[o] = s
	}
	p.views.mu.Unlock()
	seen, err := s.get(ctx, gap)
	if err != nil {
		return nil, err
	}
	return p.views.amend(o, seen, p.now(), p.timing.hidden), nil
}

// perPage is the most that EC2 answers at once.
const perPage = 1000

// describe reads all pages of the instances that filters choose.
func (p *Provider) describe(ctx context.Context, filters []types.Filter) (view, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	var seen view
	in := &ec2.DescribeInstancesInput{Filters: filters, MaxResults: aws.Int32(perPage)}
	for {
		page, err := call(ctx, p, c.ec2.DescribeInstances, in)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			seen = append(seen, r.Instances...)
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return seen, nil
		}
	}
}

// amend adds what was made and is not shown, and corrects what has ended and is shown as before. EC2 answers from several
// places, which do not learn of a change at the same time.
func (v *views) amend(o owner, seen view, now time.Time, hidden time.Duration) view {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen = slices.Clone(seen)
	for id, made := range v.made {
		// Twice as long as EC2 hides it: what was seen may be as old as a call takes.
		if _, shown := seen.byID(id); shown || now.Sub(made.at) > 2*hidden {
			delete(v.made, id)
		} else if made.owner == o {
			seen = append(seen, made.instance)
		}
	}
	maps.DeleteFunc(v.gone, func(_ string, at time.Time) bool { return now.Sub(at) > hidden })
	for i, each := range seen {
		if _, gone := v.gone[aws.ToString(each.InstanceId)]; gone {
			seen[i].State = &types.InstanceState{Name: types.InstanceStateNameTerminated}
		}
	}
	return seen
}

// remember notes an instance that EC2 answered with.
func (p *Provider) remember(o owner, instance types.Instance) {
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	if p.views.made == nil {
		p.views.made = map[string]madeInstance{}
	}
	p.views.made[aws.ToString(instance.InstanceId)] = madeInstance{owner: o, instance: instance, at: p.now()}
}

// bury notes that an instance has ended.
func (p *Provider) bury(id string) {
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	if p.views.gone == nil {
		p.views.gone = map[string]time.Time{}
	}
	delete(p.views.made, id)
	p.views.gone[id] = p.now()
}

// lookAddresses asks for the elastic addresses of an owner.
func (p *Provider) lookAddresses(ctx context.Context, o owner) ([]types.Address, error) {
	p.views.mu.Lock()
	s := p.views.addresses[o]
	if s == nil {
		s = newShared(func(ctx context.Context) ([]types.Address, error) { return p.describeAddresses(ctx, o.filters()) })
		if p.views.addresses == nil {
			p.views.addresses = map[owner]*shared[[]types.Address]{}
		}
		p.views.addresses[o] = s
	}
	p.views.mu.Unlock()
	return s.get(ctx, 0)
}

// describeAddresses reads the elastic addresses that filters choose. EC2 does not page them.
func (p *Provider) describeAddresses(ctx context.Context, filters []types.Filter) ([]types.Address, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := call(ctx, p, c.ec2.DescribeAddresses, &ec2.DescribeAddressesInput{Filters: filters})
	if err != nil {
		return nil, err
	}
	return out.Addresses, nil
}
