package omaha

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/musterhq/muster/agent/version"
)

// Machine is who asks. What it says of itself is within bounds.
type Machine struct {
	ID      string // /etc/machine-id, or what update_engine makes of it
	Boot    string
	Version string // that it runs, a valid one
	Track   string
	OEM     string
	Arch    string // as GOARCH names it
}

// Offer is a release that a machine may have now.
type Offer struct {
	Version string
	Base    string // URL, to which the package's name is appended
	Package Package
}

// Package is the one payload of a release.
type Package struct {
	Name   string
	Size   int64
	SHA1   [20]byte
	SHA256 [32]byte
}

// Choice is what is decided for a machine that asks for a release: an offer, nothing and why, or that it cannot be decided.
type Choice struct {
	Offer  *Offer
	Reason string // why there is no offer, for people
	Failed bool   // to decide
}

// Report is what a machine has told, and what it was answered.
type Report struct {
	Machine Machine
	Events  []Event
	Asked   bool   // for a release
	Choice  Choice // if it asked
}

var (
	machineForm = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	boards      = map[string]string{"amd64-usr": "amd64", "arm64-usr": "arm64", "": "amd64"}
)

// Answer answers every application of a request, of which Flatcar is the one that there is. choose is asked for a machine that
// wants a release, and given what it has told; nobody runs what is offered to it already.
func Answer(r Request, choose func(Machine, []Event) Choice) (Response, []Report) {
	answer := Response{Protocol: protocol, Server: "muster"}
	var reports []Report
	for _, app := range r.Apps {
		m, known := machineOf(app)
		if !known {
			answer.Apps = append(answer.Apps, AppAnswer{ID: app.ID, Status: "error-unknownApplication"})
			continue
		}
		a, report := AppAnswer{ID: app.ID, Status: "ok"}, Report{Machine: m, Events: app.Events, Asked: app.Check != nil}
		if app.Check != nil {
			report.Choice = choose(m, app.Events)
			a.Check = report.Choice.answer(m)
		}
		if app.Ping != nil {
			a.Ping = &ok{"ok"}
		}
		for range app.Events {
			a.Events = append(a.Events, ok{"ok"})
		}
		answer.Apps = append(answer.Apps, a)
		reports = append(reports, report)
	}
	return answer, reports
}

// machineOf is who asks for an application, if that is Flatcar and the machine one that can be told from others.
func machineOf(a App) (Machine, bool) {
	id := strings.Trim(a.MachineID, "{}")
	arch, known := boards[a.Board]
	if strings.Trim(strings.ToLower(a.ID), "{}") != AppID || !known || !machineForm.MatchString(id) || !version.Valid(a.Version) {
		return Machine{}, false
	}
	return Machine{ID: id, Boot: strings.Trim(a.BootID, "{}"), Version: a.Version, Track: a.Track, OEM: a.OEM, Arch: arch}, true
}

func (c Choice) answer(m Machine) *checkAnswer {
	switch {
	case c.Failed:
		return &checkAnswer{Status: "error-internal"}
	case c.Offer == nil || version.Compare(c.Offer.Version, m.Version) <= 0:
		return &checkAnswer{Status: "noupdate"}
	}
	p := c.Offer.Package
	return &checkAnswer{
		Status: "ok", URLs: &urls{URL: []codebase{{c.Offer.Base}}},
		Manifest: &manifest{
			Version:  c.Offer.Version,
			Packages: []packageElement{{Name: p.Name, SHA1: base64.StdEncoding.EncodeToString(p.SHA1[:]), Size: p.Size, Required: true}},
			Actions: []action{{
				Event: "postinstall", SHA256: base64.StdEncoding.EncodeToString(p.SHA256[:]), DisplayVersion: c.Offer.Version, NoBackoff: true,
			}},
		},
	}
}
