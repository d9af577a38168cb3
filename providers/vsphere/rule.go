package vsphere

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// keyApart is the extraConfig entry of a host that is kept apart from the others: the compute cluster whose rule it
// belongs to. The rule itself cannot say so before there are two.
const keyApart = "muster.apart"

// rules gathers the machines that wait to be put into a rule, so that many creates change it once.
type rules struct {
	mu      sync.Mutex
	waiting map[string][]types.ManagedObjectReference // by compute cluster and owner
}

func (r *rules) add(key string, ref types.ManagedObjectReference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[string][]types.ManagedObjectReference{}
	}
	r.waiting[key] = append(r.waiting[key], ref)
}

// list is who waits.
func (r *rules) list(key string) []types.ManagedObjectReference {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.waiting[key])
}

// drop takes machines out that wait no more.
func (r *rules) drop(key string, done []types.ManagedObjectReference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[key] = slices.DeleteFunc(r.waiting[key], func(ref types.ManagedObjectReference) bool { return slices.Contains(done, ref) })
}

// maxRuleTries is how often a rule is read and changed again that somebody else changes at the same time.
const maxRuleTries = 3

// keepApart puts a machine into the owner's rule, together with all others that wait for it.
func (p *Provider) keepApart(ctx context.Context, c *client, want order, at place, ref types.ManagedObjectReference) error {
	if want.settings.AntiAffinity == affinityOff {
		return nil
	}
	o := p.owner(want.id.Cluster)
	key := at.compute.ref.Value + " " + o.ruleName()
	p.rules.add(key, ref)
	unlock, err := p.shared.Lock(ctx, "rule "+key)
	if err != nil {
		p.rules.drop(key, []types.ManagedObjectReference{ref})
		return err
	}
	defer unlock()
	batch := p.rules.list(key)
	if !slices.Contains(batch, ref) {
		return nil // whoever held the lock before has done it
	}
	mandatory := want.settings.AntiAffinity == affinityRequired
	for try := 1; ; try++ {
		err = p.extendRule(ctx, c, o, at.compute, batch, mandatory)
		if err == nil {
			p.rules.drop(key, batch)
			return nil
		}
		if try == maxRuleTries || !isFault[*types.DuplicateName](err) && !isFault[types.BaseInvalidArgument](err) {
			p.rules.drop(key, []types.ManagedObjectReference{ref})
			return fmt.Errorf("cannot keep the hosts apart with rule %s of %s: %w", o.ruleName(), at.compute.name, err)
		}
	}
}

// extendRule makes the rule or adds machines to it. A rule needs two.
func (p *Provider) extendRule(
	ctx context.Context, c *client, o owner, compute entry, batch []types.ManagedObjectReference, mandatory bool,
) error {
	found, err := c.lookOne(ctx, compute.ref, "configurationEx")
	if err != nil {
		return err
	}
	rule, exists := ruleNamed(found, o.ruleName())
	members := slices.Clone(batch)
	operation := types.ArrayUpdateOperationAdd
	if exists {
		operation = types.ArrayUpdateOperationEdit
		members = append(slices.Clone(rule.Vm), batch...)
	} else {
		rule = types.ClusterAntiAffinityRuleSpec{}
		others, err := p.apart(ctx, c, o, compute.ref)
		if err != nil {
			return err
		}
		members = append(members, others...)
	}
	members = distinct(members)
	if len(members) < 2 || exists && len(members) == len(rule.Vm) {
		return nil
	}
	rule.Name, rule.Vm = o.ruleName(), members
	enabled, byUser := true, true
	rule.Enabled, rule.Mandatory, rule.UserCreated = &enabled, &mandatory, &byUser
	return p.changeRule(ctx, c, compute.ref, types.ClusterRuleSpec{
		ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: operation}, Info: &rule,
	})
}

func (p *Provider) changeRule(ctx context.Context, c *client, compute types.ManagedObjectReference, spec types.ClusterRuleSpec) error {
	res, err := methods.ReconfigureComputeResource_Task(ctx, c, &types.ReconfigureComputeResource_Task{
		This: compute, Modify: true, Spec: &types.ClusterConfigSpecEx{RulesSpec: []types.ClusterRuleSpec{spec}},
	})
	if err == nil {
		_, err = p.tasks.wait(ctx, c, res.Returnval)
	}
	return err
}

// ruleNamed finds a rule that keeps machines apart in a compute cluster's configuration.
func ruleNamed(compute object, name string) (types.ClusterAntiAffinityRuleSpec, bool) {
	config, is := compute.props["configurationEx"].(types.ClusterConfigInfoEx)
	if !is {
		return types.ClusterAntiAffinityRuleSpec{}, false
	}
	for _, each := range config.Rule {
		if rule, is := each.(*types.ClusterAntiAffinityRuleSpec); is && rule.Name == name {
			return *rule, true
		}
	}
	return types.ClusterAntiAffinityRuleSpec{}, false
}

// apart are the owner's machines that are to be kept apart in a compute cluster.
func (p *Provider) apart(ctx context.Context, c *client, o owner, compute types.ManagedObjectReference) ([]types.ManagedObjectReference, error) {
	all, err := p.machines(ctx, c)
	var list []types.ManagedObjectReference
	for _, m := range all {
		if m.ours(o) && m.tags[keyApart] == compute.Value {
			list = append(list, m.ref)
		}
	}
	return list, err
}

// distinct sorts references and drops those that are there twice.
func distinct(list []types.ManagedObjectReference) []types.ManagedObjectReference {
	slices.SortFunc(list, func(a, b types.ManagedObjectReference) int { return compareRefs(a, b) })
	return slices.Compact(list)
}

// removeRules removes the owner's rule from all compute clusters.
func (p *Provider) removeRules(ctx context.Context, c *client, inv *inventory, o owner) error {
	var clusters []types.ManagedObjectReference
	for _, e := range inv.of(kindCompute) {
		if e.ref.Type == "ClusterComputeResource" {
			clusters = append(clusters, e.ref)
		}
	}
	if len(clusters) == 0 {
		return nil
	}
	list, err := c.look(ctx, clusters, wanted("ClusterComputeResource", "configurationEx"))
	if err != nil {
		return err
	}
	for _, compute := range list {
		rule, exists := ruleNamed(compute, o.ruleName())
		if !exists {
			continue
		}
		spec := types.ClusterRuleSpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationRemove, RemoveKey: rule.Key}}
		if err := p.changeRule(ctx, c, compute.ref, spec); err != nil {
			return fmt.Errorf("cannot remove rule %s: %w", o.ruleName(), err)
		}
	}
	return nil
}
