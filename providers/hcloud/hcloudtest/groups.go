package hcloudtest

import (
	"cmp"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

type firewall struct {
	schema.Firewall
	servers []int64
	busy    time.Time // until then it is in use by servers that are gone
}

type placement struct{ schema.PlacementGroup }

func inUse(kind string, id int64) *refusal {
	return &refusal{http.StatusUnprocessableEntity, "resource_in_use", kind + " with ID " + strconv.FormatInt(id, 10) + " is still in use", nil}
}

func checkGroup(name string, labels *map[string]string) *refusal {
	if name == "" || len(name) > maxGroupName {
		return invalid("name", "%q is empty or too long", name)
	}
	return checkLabels(labels)
}

// checkRules refuses rules that do not say what they let in (API reference, "Set Rules").
func checkRules(rules []schema.FirewallRuleRequest) *refusal {
	if len(rules) > 50 {
		return invalid("rules", "a firewall has at most 50 rules")
	}
	for _, rule := range rules {
		ports := slices.Contains([]string{"tcp", "udp"}, rule.Protocol)
		if rule.Direction != "in" || len(rule.SourceIPs) == 0 || len(rule.SourceIPs) > 100 || len(rule.DestinationIPs) > 0 ||
			ports != (rule.Port != nil) || ports && !isPorts(*rule.Port) {
			return invalid("rules", "%+v is not one", rule)
		}
		for _, text := range rule.SourceIPs {
			if network, err := netip.ParsePrefix(text); err != nil || network != network.Masked() {
				return invalid("rules", "%q is not a network", text)
			}
		}
	}
	return nil
}

func isPorts(text string) bool {
	first, last, ranged := strings.Cut(text, "-")
	low, err := strconv.Atoi(first)
	high := low
	if ranged && err == nil {
		high, err = strconv.Atoi(last)
	}
	return err == nil && 1 <= low && low <= high && high <= 65535
}

func ruled(requests []schema.FirewallRuleRequest) []schema.FirewallRule {
	rules := []schema.FirewallRule{}
	for _, r := range requests {
		rules = append(rules, schema.FirewallRule{
			Direction: r.Direction, SourceIPs: r.SourceIPs, DestinationIPs: []string{}, Protocol: r.Protocol, Port: r.Port, Description: r.Description,
		})
	}
	return rules
}

func (c *Cloud) showFirewall(f *firewall) schema.Firewall {
	shown := f.Firewall
	shown.Labels, shown.AppliedTo = maps.Clone(f.Labels), []schema.FirewallResource{}
	for _, id := range f.servers {
		shown.AppliedTo = append(shown.AppliedTo, schema.FirewallResource{Type: "server", Server: &schema.FirewallResourceServer{ID: id}})
	}
	return shown
}

func (c *Cloud) firewallRoutes() {
	c.handle("GET /v1/firewalls", func(r *http.Request) (int, any, *refusal) {
		q, refused := readQuery(r, "name")
		if refused != nil {
			return 0, nil, refused
		}
		all := []item{}
		for _, f := range c.firewalls {
			all = append(all, item{f.ID, f.Name, f.Labels, f.Created, c.showFirewall(f)})
		}
		return c.list("firewalls", q, all)
	})
	c.handle("POST /v1/firewalls", func(r *http.Request) (int, any, *refusal) {
		body, refused := read[schema.FirewallCreateRequest](r)
		refused = cmp.Or(refused, checkGroup(body.Name, body.Labels), checkRules(body.Rules), c.over("firewall", len(c.firewalls)))
		for _, f := range c.firewalls {
			if f.Name == body.Name {
				refused = cmp.Or(refused, taken("firewall name"))
			}
		}
		if refused != nil {
			return 0, nil, refused
		}
		f := c.addFirewall(body.Name, body.Labels, ruled(body.Rules))
		return http.StatusCreated, map[string]any{"firewall": c.showFirewall(f), "actions": []schema.Action{}}, nil
	})
	c.handle("POST /v1/firewalls/{id}/actions/set_rules", func(r *http.Request) (int, any, *refusal) {
		f, ok := c.firewalls[pathID(r)]
		if !ok {
			return 0, nil, notFound("firewall", r.PathValue("id"))
		}
		body, refused := read[schema.FirewallActionSetRulesRequest](r)
		if refused = cmp.Or(refused, checkRules(body.Rules)); refused != nil {
			return 0, nil, refused
		}
		f.Rules = ruled(body.Rules)
		return http.StatusCreated, map[string]any{"actions": []schema.Action{}}, nil
	})
	c.handle("DELETE /v1/firewalls/{id}", func(r *http.Request) (int, any, *refusal) {
		f, ok := c.firewalls[pathID(r)]
		switch {
		case !ok:
			return 0, nil, notFound("firewall", r.PathValue("id"))
		case len(f.servers) > 0 || time.Now().Before(f.busy):
			return 0, nil, inUse("firewall", f.ID)
		}
		delete(c.firewalls, f.ID)
		return http.StatusNoContent, nil, nil
	})
}

func (c *Cloud) addFirewall(name string, labels *map[string]string, rules []schema.FirewallRule) *firewall {
	f := &firewall{Firewall: schema.Firewall{ID: c.id(), Name: name, Created: time.Now(), Rules: rules, Labels: map[string]string{}}}
	if labels != nil {
		f.Labels = *labels
	}
	c.firewalls[f.ID] = f
	return f
}

// members are the servers of a placement group.
func (c *Cloud) members(group int64) []int64 {
	ids := []int64{}
	for _, s := range c.servers {
		if s.PlacementGroup != nil && s.PlacementGroup.ID == group {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (c *Cloud) showPlacement(g *placement) schema.PlacementGroup {
	shown := g.PlacementGroup
	shown.Labels, shown.Servers = maps.Clone(g.Labels), c.members(g.ID)
	return shown
}

func (c *Cloud) placementRoutes() {
	c.handle("GET /v1/placement_groups", func(r *http.Request) (int, any, *refusal) {
		q, refused := readQuery(r, "name", "type")
		if refused != nil {
			return 0, nil, refused
		}
		all := []item{}
		for _, g := range c.placements {
			all = append(all, item{g.ID, g.Name, g.Labels, g.Created, c.showPlacement(g)})
		}
		return c.list("placement_groups", q, all)
	})
	c.handle("POST /v1/placement_groups", func(r *http.Request) (int, any, *refusal) {
		body, refused := read[schema.PlacementGroupCreateRequest](r)
		refused = cmp.Or(refused, checkGroup(body.Name, body.Labels), c.over("placement_group", len(c.placements)))
		if body.Type != "spread" {
			refused = cmp.Or(refused, invalid("type", "%q is not one", body.Type))
		}
		for _, g := range c.placements {
			if g.Name == body.Name {
				refused = cmp.Or(refused, taken("placement group name"))
			}
		}
		if refused != nil {
			return 0, nil, refused
		}
		g := c.addPlacement(body.Name, body.Labels)
		return http.StatusCreated, map[string]any{"placement_group": c.showPlacement(g), "action": nil}, nil
	})
	c.handle("DELETE /v1/placement_groups/{id}", func(r *http.Request) (int, any, *refusal) {
		g, ok := c.placements[pathID(r)]
		switch {
		case !ok:
			return 0, nil, notFound("placement group", r.PathValue("id"))
		case len(c.members(g.ID)) > 0:
			return 0, nil, inUse("placement group", g.ID)
		}
		delete(c.placements, g.ID)
		return http.StatusNoContent, nil, nil
	})
}

func (c *Cloud) addPlacement(name string, labels *map[string]string) *placement {
	g := &placement{schema.PlacementGroup{ID: c.id(), Name: name, Type: "spread", Created: time.Now(), Labels: map[string]string{}}}
	if labels != nil {
		g.Labels = *labels
	}
	c.placements[g.ID] = g
	return g
}
