package ec2test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// policy is an IAM policy, as far as it is needed (IAM User Guide, "IAM JSON policy reference").
type policy struct {
	Version    string
	Statements []statement `json:"Statement"`
}

type statement struct {
	Sid       string
	Effect    string
	Action    oneOrMore
	Resource  oneOrMore
	Condition map[string]map[string]oneOrMore
}

type oneOrMore []string

// UnmarshalJSON reads a string or a list of them.
func (o *oneOrMore) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*o = []string{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(o))
}

func parsePolicy(text []byte) (*policy, error) {
	p := &policy{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	if p.Version != "2012-10-17" {
		return nil, fmt.Errorf("the policy has version %q", p.Version)
	}
	for _, s := range p.Statements {
		if s.Effect != "Allow" || len(s.Action) == 0 || len(s.Resource) == 0 {
			return nil, fmt.Errorf("statement %s is not one that allows actions on resources", s.Sid)
		}
		for operator := range s.Condition {
			if operators[operator] == nil {
				return nil, fmt.Errorf("statement %s has condition %s, which is not known here", s.Sid, operator)
			}
		}
	}
	return p, nil
}

// operators are the conditions that are known: of what a request has under a key, and of what the policy says.
var operators = map[string]func(have string, there bool, want []string) bool{
	"StringEquals": func(have string, there bool, want []string) bool { return there && slices.Contains(want, have) },
	"StringLike": func(have string, there bool, want []string) bool {
		return there && slices.ContainsFunc(want, func(pattern string) bool { return wild(pattern, have) })
	},
	"Null": func(_ string, there bool, want []string) bool { return slices.Contains(want, fmt.Sprint(!there)) },
}

// resource is what a call is about.
type resource struct {
	service string            // "" is ec2
	kind    string            // as in ARNs; "*" for calls that are about none
	id      string            // "" or "*" for one that is to be made
	tags    map[string]string // that it has
	asked   map[string]string // that the request gives it
	creates string            // for CreateTags: the action that makes the resource
}

func (r *request) arn(what resource) string {
	switch {
	case what.kind == "*":
		return "*"
	case what.service == "ssm":
		return "arn:aws:ssm:" + r.options.Region + ":" + Account + ":" + what.kind + "/" + what.id
	case what.kind == "image":
		return "arn:aws:ec2:" + r.options.Region + "::image/" + what.id
	}
	id := what.id
	if id == "" {
		id = "*"
	}
	return "arn:aws:ec2:" + r.options.Region + ":" + Account + ":" + what.kind + "/" + id
}

// allow asks the policy whether the action may be done to a resource.
func (r *request) allow(what resource) error { return r.allowAction(r.action, what) }

func (r *request) allowAction(action string, what resource) error {
	if r.policy == nil {
		return nil
	}
	service := what.service
	if service == "" {
		service = "ec2"
	}
	keys := map[string]string{}
	for key, value := range what.tags {
		keys["aws:ResourceTag/"+key] = value
	}
	for key, value := range what.asked {
		keys["aws:RequestTag/"+key] = value
	}
	if what.creates != "" {
		keys["ec2:CreateAction"] = what.creates
	}
	arn := r.arn(what)
	if slices.ContainsFunc(r.policy.Statements, func(s statement) bool { return s.allows(service+":"+action, arn, keys) }) {
		return nil
	}
	return &problem{
		code: "UnauthorizedOperation", status: http.StatusForbidden,
		message: fmt.Sprintf("You are not authorized to perform %s:%s on %s with %v", service, action, arn, slices.Sorted(maps.Keys(keys))),
	}
}

func (s statement) allows(action, arn string, keys map[string]string) bool {
	like := func(text string) func(string) bool { return func(pattern string) bool { return wild(pattern, text) } }
	if !slices.ContainsFunc(s.Action, func(a string) bool { return strings.EqualFold(a, action) }) ||
		!slices.ContainsFunc(s.Resource, like(arn)) {
		return false
	}
	for operator, conditions := range s.Condition {
		for key, want := range conditions {
			have, there := keys[key]
			if !operators[operator](have, there, want) {
				return false
			}
		}
	}
	return true
}

// allowMaking asks whether resources may be made, and tagged in the call that makes them. What has no tags is made too.
func (r *request) allowMaking(made map[string]map[string]string) error {
	for _, kind := range slices.Sorted(maps.Keys(made)) {
		tags := made[kind]
		if err := r.allow(resource{kind: kind, asked: tags}); err != nil {
			return err
		}
		if len(tags) == 0 {
			continue
		}
		if err := r.allowAction("CreateTags", resource{kind: kind, asked: tags, creates: r.action}); err != nil {
			return err
		}
	}
	return nil
}

// allowRun asks whether an instance may be run with everything that it uses.
func (r *request) allowRun(l launch) error {
	uses := []resource{{kind: "image", id: l.image}, {kind: "subnet", id: l.subnet.ID, tags: l.subnet.Tags}}
	for _, id := range l.groups {
		uses = append(uses, resource{kind: "security-group", id: id, tags: r.group(id).tags})
	}
	if l.key != "" {
		uses = append(uses, resource{kind: "key-pair", id: l.key})
	}
	if l.placement != "" {
		uses = append(uses, resource{kind: "placement-group", id: l.placement, tags: r.placement(l.placement).tags})
	}
	for _, each := range uses {
		if err := r.allow(each); err != nil {
			return err
		}
	}
	made := map[string]map[string]string{
		"instance": l.specs["instance"], "volume": l.specs["volume"], "network-interface": l.specs["network-interface"],
	}
	if l.spot {
		made["spot-instances-request"] = l.specs["spot-instances-request"]
	}
	return r.allowMaking(made)
}
