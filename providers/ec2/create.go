package ec2

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// Create runs an instance, or adopts the one that there is. With an elastic address it returns when the host has it.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	if err := req.Validate(); err != nil {
		return providers.Instance{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	if req.UserData, err = userDataLimit.Fit(req.UserData); err != nil {
		return providers.Instance{}, fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	unlock, err := p.hosts.Lock(ctx, req.ID())
	if err != nil {
		return providers.Instance{}, err
	}
	defer unlock()
	o := p.owner(req.Cluster)
	made, err := p.findOrRun(ctx, o, req, settings)
	if err == nil {
		err = p.step("run")
	}
	if err == nil {
		made, err = p.complete(ctx, o, req.Identity, settings, made)
	}
	if err != nil {
		return providers.Instance{}, err
	}
	return p.instance(req.Identity, made, settings.reachPublic()), nil
}

// findOrRun finds the host's instance or runs it.
func (p *Provider) findOrRun(
	ctx context.Context, o owner, req providers.CreateRequest, s *Settings,
) (types.Instance, error) {
	seen, err := p.look(ctx, o, 0)
	if err != nil {
		return types.Instance{}, err
	}
	r, _, err := p.records.load(o.cluster, hostRecord(req.Identity))
	if err != nil {
		return types.Instance{}, err
	}
	r.Attempt = max(r.Attempt, 1)
	for _, each := range seen.ofHost(o, req.Identity) {
		if !ended(each) {
			return each, nil
		}
		if n := o.attemptOf(req.Identity, each); n >= r.Attempt {
			r.next(n + 1)
		}
	}
	if s.Address == addressElastic {
		if _, err := p.ensureAddress(ctx, o, req.Identity, o.hostTags(req.Identity, s.Tags)); err != nil {
			return types.Instance{}, err
		}
	}
	if r.Launch == nil {
		l, err := p.plan(ctx, o, req.Identity, s)
		if err != nil {
			return types.Instance{}, err
		}
		r.Launch = &l
	}
	return p.run(ctx, o, req, r)
}

// attemptOf is the number in an instance's client token, 0 if the token is not the host's.
func (o owner) attemptOf(id providers.Identity, i types.Instance) int {
	number, ok := strings.CutPrefix(aws.ToString(i.ClientToken), o.tokenPrefix(id))
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		return 0
	}
	return n
}

// next begins an attempt, with a request that is made anew.
func (r *record) next(attempt int) { *r = record{Attempt: attempt} }

// maxAttempts bounds how many spent tokens and full zones one call goes through.
const maxAttempts = 20

// run asks for the instance of a record until EC2 has one that lives. Every request is on the disk before it is sent.
func (p *Provider) run(
	ctx context.Context, o owner, req providers.CreateRequest, r record,
) (types.Instance, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return types.Instance{}, err
	}
	for range maxAttempts {
		openBefore := r.Open
		r.Open, r.Asked = true, p.now()
		if err := p.records.save(o.cluster, hostRecord(req.Identity), r); err != nil {
			return types.Instance{}, err
		}
		if err := p.step("recorded"); err != nil {
			return types.Instance{}, err
		}
		token := o.token(req.Identity, r.Attempt)
		out, err := call(ctx, p, c.ec2.RunInstances, r.Launch.input(req.UserData, token))
		if err == nil && (len(out.Instances) != 1 || out.Instances[0].InstanceId == nil) {
			err = fmt.Errorf("RunInstances: answered %d instances: %w", len(out.Instances), providers.ErrUnavailable)
		}
		var made types.Instance
		switch {
		case err == nil:
			made = out.Instances[0]
		case hasCode(err, codeMismatch):
			made, err = p.taken(ctx, o, req.Identity, &r, token)
		}
		if err == nil && !ended(made) {
			r.ID = aws.ToString(made.InstanceId)
			p.remember(o, made)
			return made, p.records.save(o.cluster, hostRecord(req.Identity), r)
		}
		if err := p.again(o, req.Identity, &r, openBefore, err); err != nil {
			return types.Instance{}, err
		}
	}
	return types.Instance{}, fmt.Errorf("%d client tokens of the host are spent: %w", maxAttempts, providers.ErrConflict)
}

// again prepares the next attempt, when an error or the end of the instance leaves room for one; err is nil for an ended
// instance. What it returns is why there is none.
func (p *Provider) again(o owner, id providers.Identity, r *record, openBefore bool, err error) error {
	l := *r.Launch
	switch {
	case err == nil || hasCode(err, codeTokenSpent):
		r.next(r.Attempt + 1)
		r.Launch = &l
		return nil
	case hasCode(err, noRoomHere...) && len(l.Subnets) > 1:
		p.log.Warn("a zone has no room for the host, the next one is asked", "host", id.Host, "zone", l.Subnets[0].Zone, "error", err)
		l.Subnets = l.Subnets[1:]
		r.next(r.Attempt + 1)
		r.Launch = &l
		return nil
	case unanswered(err) || openBefore:
		return err
	case errors.Is(err, providers.ErrThrottled) || errors.Is(err, providers.ErrAuth):
		r.Open = false // the request was not looked at, and will do
		return errors.Join(err, p.records.save(o.cluster, hostRecord(id), *r))
	}
	// Nothing was made, and the request will not do: the next create makes another one, under another token, since EC2 may
	// have tied this one to the request.
	r.next(r.Attempt + 1)
	if hasCode(err, codeGroupGone, codePlacementGone) && p.forgetGroups(o) {
		err = hidden("what the cluster's hosts have in common") // or somebody deleted it, and it is made again
	}
	return errors.Join(err, p.records.save(o.cluster, hostRecord(id), *r))
}

// unanswered tells whether a call that failed may have made something.
func unanswered(err error) bool {
	return errors.Is(err, providers.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		providers.Class(err) == "unknown"
}

// taken finds the instance that has a client token already, made by a request that was another one. If EC2 shows none for
// longer than it hides anything, the token is spent.
func (p *Provider) taken(
	ctx context.Context, o owner, id providers.Identity, r *record, token string,
) (types.Instance, error) {
	spent := !r.Differed.IsZero() && p.now().Sub(r.Differed) > p.timing.hidden
	seen, err := p.describe(ctx, []types.Filter{filter("client-token", token)})
	if err != nil {
		return types.Instance{}, err
	}
	if len(seen) > 0 {
		return seen[0], nil
	}
	if r.Differed.IsZero() {
		r.Differed = p.now()
		if err := p.records.save(o.cluster, hostRecord(id), *r); err != nil {
			return types.Instance{}, err
		}
	}
	if !spent {
		return types.Instance{}, hidden("an instance that was asked for in another way")
	}
	// As an instance that has ended: the request is made anew, without what the first one asked.
	return types.Instance{State: &types.InstanceState{Name: types.InstanceStateNameTerminated}}, nil
}

// complete gives an instance what it lacks: tags that somebody took away, and its elastic address.
func (p *Provider) complete(
	ctx context.Context, o owner, id providers.Identity, s *Settings, made types.Instance,
) (types.Instance, error) {
	if tagged, ok := o.hostOf(made.Tags); !ok || tagged != id {
		if err := p.tag(ctx, made, merged(o.tags(), id.Tags())); err != nil {
			return made, err
		}
	}
	if tagsOf(made.Tags)[tagPhase] != phaseMaking {
		return made, nil
	}
	address, err := p.ensureAddress(ctx, o, id, o.hostTags(id, s.Tags))
	if err != nil {
		return made, err
	}
	if made, err = p.powered(ctx, o, made); err != nil {
		return made, err
	}
	if err := p.associate(ctx, address, aws.ToString(made.InstanceId)); err != nil {
		return made, err
	}
	if err := p.step("associated"); err != nil {
		return made, err
	}
	if err := p.tag(ctx, made, map[string]string{tagPhase: phaseMade}); err != nil {
		return made, err
	}
	return p.withAddress(o, made, address), nil
}

// powered waits until an instance is no longer being made: only then it takes an address.
func (p *Provider) powered(ctx context.Context, o owner, made types.Instance) (types.Instance, error) {
	if stateOf(made) != types.InstanceStateNamePending {
		return made, nil
	}
	err := p.await(ctx, o, func(seen view) (bool, error) {
		now, shown := seen.byID(aws.ToString(made.InstanceId))
		switch {
		case !shown:
			return false, hidden("instance " + aws.ToString(made.InstanceId))
		case ended(now):
			return false, fmt.Errorf("instance %s ended at once: %s: %w", aws.ToString(made.InstanceId), reason(now), providers.ErrQuota)
		}
		made = now
		return stateOf(now) != types.InstanceStateNamePending, nil
	})
	return made, err
}

// reason is why an instance changed its state.
func reason(i types.Instance) string {
	if i.StateReason == nil {
		return "for no reason given"
	}
	return aws.ToString(i.StateReason.Message)
}

// withAddress is an instance as it will be shown with its elastic address.
func (p *Provider) withAddress(o owner, made types.Instance, address types.Address) types.Instance {
	if address.PublicIp != nil {
		made.PublicIpAddress = address.PublicIp
	}
	tags := tagsOf(made.Tags)
	tags[tagPhase] = phaseMade
	made.Tags = tagList(tags)
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	if known, ok := p.views.made[aws.ToString(made.InstanceId)]; ok && known.owner == o {
		known.instance = made
		p.views.made[aws.ToString(made.InstanceId)] = known
	}
	return made
}

// tag writes tags of an instance.
func (p *Provider) tag(ctx context.Context, i types.Instance, tags map[string]string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, err = call(ctx, p, c.ec2.CreateTags, &ec2.CreateTagsInput{
		Resources: []string{aws.ToString(i.InstanceId)}, Tags: tagList(tags),
	})
	if hasCode(err, codeInstanceGone) {
		return hidden("instance " + aws.ToString(i.InstanceId))
	}
	return err
}
