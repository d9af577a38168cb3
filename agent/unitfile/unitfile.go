// Package unitfile reads systemd unit files and what fleet and muster add to them: names, templates, specifiers, and
// the sections [X-Fleet] and [X-Muster]. It is pure.
package unitfile

import "github.com/musterhq/muster/cloudconfig/finding"

// Option is one assignment, with its place in the file.
type Option struct {
	Section string
	Name    string
	Value   string
	Line    int
}

// File is a parsed unit file. Options keep the order of the file.
type File struct {
	Options []Option
}

// Requirements are the placement rules of a unit, from [X-Fleet] (COMPAT: fleet) and its deprecated spellings, with
// specifiers expanded.
type Requirements struct {
	Global    bool
	MachineID string              // full ID or its first 8 characters
	MachineOf []string            // units whose host this one must share
	Conflicts []string            // shell patterns (path.Match) of units this one must not share a host with
	Metadata  map[string][]string // label → accepted values: OR within a label, AND between labels
}

// Parse reads a unit file. It returns every finding at once; warnings (unknown X-Fleet keys) do not fail.
// Implementation: parse.go. Declared here as the contract:
//
//	func Parse(name string, content []byte) (File, warnings finding.Findings, err error)
//	func CheckName(name string) error                    // fleet's rules
//	func Template(name string) (template string, ok bool) // "web@1.service" → "web@.service"
//	func (f File) Requirements(unitName string) (Requirements, finding.Findings)
//	func (f File) Values(section, name string) []string  // list semantics: an empty assignment resets
//	func (f File) Value(section, name string) (string, bool) // last one wins
//	func (f File) Bytes() []byte                          // serialised; Parse(Bytes()) is equal
//	func ExpandBraces(pattern string) ([]string, error)   // web@{1..6}.service, {a,b}
//	func Expand(s, unitName string, h HostSpecifiers) (string, error) // %n %N %p %i %m %H %%
var _ finding.Findings
