package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cmd/muster/output"
)

// planView says how a plan is shown.
type planView struct {
	all   bool // what stays as it is too
	color bool
}

// writePlan shows what would be done and why.
func writePlan(w io.Writer, p plan.Plan, v planView) error {
	fmt.Fprintf(w, "cluster %s: %s\n", p.Cluster, planHeadline(p))
	actions := p.Changes()
	if v.all {
		actions = p.Actions
	}
	if len(actions) > 0 {
		fmt.Fprintln(w)
		g := output.Grid{Columns: []string{"ACTION", "HOST", "PROVIDER", "GENERATION", "VOTER", "REASON"}, Color: v.color}
		for _, a := range actions {
			g.Add(string(a.Kind), a.Host, a.Provider, strconv.Itoa(a.Generation), map[bool]string{true: "yes", false: "no"}[a.Voter], a.Reason)
		}
		if err := g.Write(w); err != nil {
			return err
		}
	}
	if len(p.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, warning := range p.Warnings {
		writeWarning(w, warning, v.color)
	}
	return nil
}

// planHeadline counts the actions: "2 to create, 1 to destroy, 3 to keep".
func planHeadline(p plan.Plan) string {
	if len(p.Changes()) == 0 {
		return fmt.Sprintf("nothing to do, %s as the cluster file says", areHosts(len(p.Of(plan.Keep))))
	}
	var parts []string
	for _, kind := range []plan.Kind{plan.Create, plan.Start, plan.Stop, plan.Replace, plan.Relabel, plan.Appoint, plan.Retire, plan.Destroy, plan.Forget, plan.Keep} {
		if n := len(p.Of(kind)); n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, kind))
		}
	}
	return strings.Join(parts, ", ")
}

func areHosts(n int) string {
	if n == 1 {
		return "1 host is"
	}
	return fmt.Sprintf("%d hosts are", n)
}
