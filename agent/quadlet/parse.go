package quadlet

import (
	"errors"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// Parse is unitfile.Parse, and if the unit is a container it also tells what is wrong with that: what no engine can do, or
// the one that the unit names.
func Parse(name string, content []byte) (unitfile.File, finding.Findings, error) {
	f, warnings, err := unitfile.Parse(name, content)
	if err != nil {
		return f, warnings, err
	}
	problems := check(name, f)
	if err := problems.Err(); err != nil {
		return unitfile.File{}, warnings, err
	}
	warnings = append(warnings, advice(name, f)...)
	_ = warnings.Err() // sorts
	return f, warnings, nil
}

func check(name string, f unitfile.File) finding.Findings {
	engine := f.Muster(name).Engine
	if !f.IsContainer() {
		return strayEngine(name, f)
	}
	if !strings.HasSuffix(name, ".service") {
		var problems finding.Findings
		at := finding.Position{File: name, Line: f.Section("Container")[0].Line}
		problems.Add(at, "put it into a file NAME.container", "a unit with [Container] is a service, %s is none", name)
		return problems
	}
	d := read(name, f)
	if len(d.problems) > 0 {
		return d.problems
	}
	if engine == "" {
		engine = unitfile.Podman // which knows all
	}
	rendered, err := d.render(Host{Engine: engine, Path: "/usr/bin/" + engine, Systemd: true})
	if err == nil {
		_, err = rendered.Service(name)
	}
	var problems finding.Findings
	errors.As(err, &problems)
	return problems
}

// strayEngine refuses an engine for what is no container.
func strayEngine(name string, f unitfile.File) finding.Findings {
	var problems finding.Findings
	for _, o := range f.Section("X-Muster") {
		if o.Name == "Engine" && o.Value != "" {
			problems = append(problems, o.Finding(name, wrong("remove it", "the unit has no [Container] that it could run"), ""))
		}
	}
	return problems
}

// advice warns of what works on some hosts and not on others.
func advice(name string, f unitfile.File) finding.Findings {
	if !f.IsContainer() {
		return nil
	}
	var warnings finding.Findings
	d := read(name, f)
	image := d.one("Image")
	if image != "" && !qualified(image) && !strings.ContainsAny(image, "%$") && !strings.Contains(image, ":/") &&
		f.Muster(name).Engine != unitfile.Docker {
		warnings = append(warnings, d.given["Image"].Finding(name, wrong("write localhost/"+image+" for one that is on the host, "+
			"docker.io/library/"+image+" for Docker Hub's", "%q names no registry, and hosts may look in different ones", image), ""))
	}
	return warnings
}
