package main

import (
	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// circleMistakes finds a circle in which Replaces of units goes. The cluster refuses also those that do so with what it has.
func circleMistakes(files []api.Unit) finding.Findings {
	var units []schedule.Unit
	replaces := false
	for _, u := range files {
		file, _, err := unitfile.Parse(u.Name, []byte(u.Content))
		if err != nil {
			continue
		}
		rules, _ := file.Requirements(u.Name)
		units = append(units, schedule.Unit{Name: u.Name, Requirements: rules, Replicas: file.Muster(u.Name).Replicas})
		replaces = replaces || file.Replaces()
	}
	var mistakes finding.Findings
	for _, u := range units {
		if !replaces {
			break
		}
		if circle := schedule.Circle(units, u.Name); circle != "" { // and one at a time is enough
			mistakes.Add(finding.Position{File: u.Name}, "remove one of these `Replaces`", "Replaces goes in a circle: %s", circle)
			break
		}
	}
	return mistakes
}
