package main

import (
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cmd/muster/output"
)

func exampleStatus() api.Status {
	host := func(name, provider, address, state string, voter bool, labels map[string]string) api.HostStatus {
		return api.HostStatus{
			Name: name, Provider: provider, Address: address, State: state, Voter: voter, Labels: labels,
			ID: "0123456789abcdef0123456789abcdef", Generation: 1, Ports: roster.DefaultPorts(),
		}
	}
	return api.Status{
		Cluster:   "demo",
		Voters:    api.VotersStatus{Total: 3, Healthy: 2, Leader: "node-1"},
		Scheduler: "node-2",
		Hosts: []api.HostStatus{
			host("node-1", "cloud-a", "127.1.2.3", "ready", true, map[string]string{"role": "web", "disk": "ssd"}),
			host("node-2", "cloud-b", "127.1.2.4", "ready", true, map[string]string{}),
			host("node-3", "cloud-a", "127.1.2.5", "lost", true, map[string]string{}),
			host("node-4", "cloud-b", "", "joining", false, map[string]string{}),
		},
		Units: []api.UnitStatus{
			{Name: "api@1.service", Host: "node-1", State: "running", Desired: "launched", Load: "loaded", Active: "active", Sub: "running"},
			{Name: "api@2.service", State: "pending", Desired: "launched", Reason: "no host has label role=db"},
			{Name: "once.service", Host: "node-2", State: "exited", Desired: "launched", Load: "loaded", Active: "active", Sub: "exited"},
			{
				Name: "bad.service", Host: "node-2", State: "failed", Desired: "launched", Reason: "exit status 3",
				Load: "loaded", Active: "failed", Sub: "failed",
			},
			{Name: "later.service", State: "inactive", Desired: "inactive"},
		},
		Warnings: []string{"2 of 3 voters answer: node-3 is lost; run `muster up` to start it again"},
	}
}

func TestViews(t *testing.T) {
	s := exampleStatus()
	empty := api.Status{Cluster: "demo", Voters: api.VotersStatus{Total: 1}, Stale: true}
	why := api.Why{
		Unit: "api@2.service", State: "pending", Reason: "no host has label role=db",
		Hosts: []api.HostReason{{Host: "node-1", Reason: "label role is web, not db"}, {Host: "node-2", Reason: "no label role"}},
	}
	placed := api.Why{
		Unit: "api@1.service", Host: "node-1", State: "running", Reason: "least loaded of 2 hosts that fit",
		Hosts: []api.HostReason{{Host: "node-1", Fits: true, Reason: "chosen"}, {Host: "node-2", Fits: true, Reason: "has more units"}},
	}
	for name, write := range map[string]func(io.Writer) error{
		"status.txt":       func(w io.Writer) error { return writeStatus(w, s, false) },
		"status-color.txt": func(w io.Writer) error { return writeStatus(w, s, true) },
		"status-empty.txt": func(w io.Writer) error { return writeStatus(w, empty, false) },
		"status.json":      func(w io.Writer) error { return output.Write(w, output.JSON, complete(s), nil) },
		"status.yaml":      func(w io.Writer) error { return output.Write(w, output.YAML, complete(s), nil) },
		"why-pending.txt":  func(w io.Writer) error { return writeWhy(w, why, false) },
		"why-placed.txt":   func(w io.Writer) error { return writeWhy(w, placed, false) },
		"unit-status.txt": func(w io.Writer) error {
			writeUnitReport(w, unitReport{UnitStatus: s.Units[3], Log: []string{"starting", "cannot bind: address in use"}}, false)
			return nil
		},
		"plan.txt":      func(w io.Writer) error { return writePlan(w, examplePlan(), planView{}) },
		"plan-all.txt":  func(w io.Writer) error { return writePlan(w, examplePlan(), planView{all: true}) },
		"plan-none.txt": func(w io.Writer) error { return writePlan(w, keepPlan(), planView{}) },
		"plan.json":     func(w io.Writer) error { return output.Write(w, output.JSON, examplePlan(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, "testdata/golden/"+name, b.Bytes())
		})
	}
}

// TestStatusContract holds the shape of `status -o json` that programs rely on: these names, these types, no fewer.
func TestStatusContract(t *testing.T) {
	var b bytes.Buffer
	if err := output.Write(&b, output.JSON, complete(exampleStatus()), nil); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	hasFields(t, "", got, map[string]any{"cluster": "", "voters": map[string]any{}, "hosts": []any{}, "units": []any{}})
	hasFields(t, "voters.", got["voters"], map[string]any{"total": 0.0, "healthy": 0.0, "leader": ""})
	for _, host := range got["hosts"].([]any) {
		hasFields(t, "hosts[].", host, map[string]any{
			"name": "", "provider": "", "address": "", "state": "", "voter": true, "labels": map[string]any{},
		})
	}
	for _, unit := range got["units"].([]any) {
		hasFields(t, "units[].", unit, map[string]any{"name": "", "host": "", "state": "", "desired": "", "reason": ""})
	}
}

// TestStatusContractEmpty: lists are lists even when they are empty.
func TestStatusContractEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := output.Write(&b, output.JSON, complete(api.Status{Hosts: []api.HostStatus{{}}}), nil); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Hosts []struct{ Labels map[string]string }
		Units []any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Units == nil || got.Hosts[0].Labels == nil {
		t.Errorf("null where a list or an object should be:\n%s", b.String())
	}
}

func hasFields(t *testing.T, at string, got any, want map[string]any) {
	t.Helper()
	object, ok := got.(map[string]any)
	if !ok {
		t.Fatalf("%s is a %T", at, got)
	}
	for name, example := range want {
		value, ok := object[name]
		if !ok {
			t.Errorf("%s%s is missing", at, name)
			continue
		}
		if typeName(value) != typeName(example) {
			t.Errorf("%s%s is a %T, not a %T", at, name, value, example)
		}
	}
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "list"
	case map[string]any:
		return "object"
	default:
		return "null"
	}
}

func examplePlan() plan.Plan {
	return plan.Plan{
		Cluster: "demo", ClusterID: "8c2f5ad0-7f4e-4d19-9f0f-1d2f6a3b4c5d", Voters: []string{"node-1", "node-2", "node-3"},
		Actions: []plan.Action{
			{Kind: plan.Keep, Host: "node-1", Provider: "cloud-a", Generation: 1, ID: "a1", Voter: true, Reason: "as the cluster file says"},
			{Kind: plan.Replace, Host: "node-2", Provider: "cloud-b", Generation: 2, ID: "a2", Voter: true, Reason: "the instance has failed"},
			{
				Kind: plan.Create, Host: "node-3", Provider: "cloud-a", Generation: 1, ID: "a3", Voter: true,
				Labels: map[string]string{"role": "db"}, Reason: "does not exist yet",
			},
			{Kind: plan.Destroy, Host: "old-1", Provider: "cloud-b", Generation: 1, ID: "a4", Reason: "not in the cluster file"},
		},
		Warnings: []string{"cloud-a holds 2 of 3 voters: when it is away, nothing can be changed"},
	}
}

func keepPlan() plan.Plan {
	p := examplePlan()
	p.Actions, p.Warnings = p.Actions[:1], []string{}
	return p
}
