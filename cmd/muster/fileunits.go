package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/store"
)

// checkUnits tells what is wrong with the units of a cluster file, which only the voters would find out else.
func (c *cli) checkUnits(units []spec.Unit) error {
	warnings, mistakes := unitMistakes(units)
	for _, w := range warnings {
		writeWarning(c.err, w.Error(), c.color(c.err))
	}
	return mistakes.Err()
}

// unitMistakes is what is wrong with unit files, and with what the cluster file wants of them. An instance has the same
// mistakes as its template, and they are told once.
func unitMistakes(units []spec.Unit) (warnings, mistakes finding.Findings) {
	said := make(map[string]bool)
	files := make([]api.Unit, 0, len(units))
	for _, u := range units {
		files = append(files, api.Unit{Name: u.Name, Content: string(u.Content)})
		odd, found := readUnit(u.Name, u.File, u.Content)
		warnings = append(warnings, fresh(said, odd)...)
		mistakes = append(mistakes, fresh(said, found)...)
		n, replicated := replicasOf(u)
		switch {
		case !unitfile.IsTemplate(u.Name):
		case !replicated && u.Desired != string(store.DesiredInactive):
			mistakes.Add(u.At, "add `instances: 1..3`, `desired: inactive` to store the template alone, or Replicas=3 below [X-Muster] in its file",
				"the template `%s` cannot be %s itself", u.Name, u.Desired)
		case replicated && slices.ContainsFunc(units, func(i spec.Unit) bool { return i.At == u.At && i.Name != u.Name }):
			warnings.Add(u.At, "remove one of them", "Replicas=%d of `%s` has no effect beside `instances`", n, u.Name)
		}
	}
	return warnings, append(mistakes, circleMistakes(files)...)
}

// fresh are the findings that were not said before.
func fresh(said map[string]bool, found finding.Findings) finding.Findings {
	return slices.DeleteFunc(found, func(f finding.Finding) bool {
		before := said[f.Error()]
		said[f.Error()] = true
		return before
	})
}

// replicasOf is how many replicas a template's file asks for, if it does.
func replicasOf(u spec.Unit) (n int, replicated bool) {
	file, _, err := quadlet.Parse(u.Name, u.Content)
	if err != nil {
		return 0, false
	}
	m := file.Muster(u.Name)
	return m.Replicas, m.Replicated
}

// instancesOf is how many units a unit of a cluster file stands for.
func instancesOf(u spec.Unit) int {
	if n, replicated := replicasOf(u); replicated {
		return n
	}
	return 1
}

// writeUnitsLine tells what a cluster file wants of its units, such as
// "units: 12 launched (10 of web@.service), 1 loaded". Templates that are only stored are not told.
func writeUnitsLine(w io.Writer, units []spec.Unit) error {
	var parts []string
	for _, desired := range []store.Desired{store.DesiredLaunched, store.DesiredLoaded, store.DesiredInactive} {
		total, replicas := 0, []string(nil)
		for _, u := range units {
			if u.Desired != string(desired) || unitfile.IsTemplate(u.Name) && desired == store.DesiredInactive {
				continue
			}
			n := instancesOf(u)
			total += n
			if unitfile.IsTemplate(u.Name) {
				replicas = append(replicas, fmt.Sprintf("%d of %s", n, u.Name))
			}
		}
		if total > 0 || len(replicas) > 0 {
			part := fmt.Sprintf("%d %s", total, desired)
			if len(replicas) > 0 {
				part += " (" + strings.Join(replicas, ", ") + ")"
			}
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nunits: %s\n", strings.Join(parts, ", "))
	return err
}
