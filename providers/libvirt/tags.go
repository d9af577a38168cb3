package libvirt

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/providers"
)

// Namespace is the XML namespace of muster's element in a domain's metadata: `virsh metadata DOMAIN NAMESPACE`.
const Namespace = "https://github.com/musterhq/muster/libvirt/1"

// metadataKey is the prefix of the namespace.
const metadataKey = "muster"

// phase is how far a domain's life has come.
type phase string

const (
	phaseMaking   phase = "making"   // defined, and maybe never started
	phaseLaunched phase = "launched" // a host
	phaseEnding   phase = "ending"   // being destroyed; its volumes may be gone
)

// record is what a domain's metadata says.
type record struct {
	tags     map[string]string
	provider string
	phase    phase
	created  time.Time
}

// recordOf is the record of a host that is being made.
func recordOf(id providers.Identity, provider string, created time.Time) record {
	return record{tags: id.Tags(), provider: provider, phase: phaseMaking, created: created.UTC().Truncate(time.Second)}
}

// identity is whose the domain is, by its tags.
func (r record) identity() (providers.Identity, bool) { return providers.IdentityFromTags(r.tags) }

type recordXML struct {
	XMLName  xml.Name
	Space    string   `xml:"xmlns:muster,attr,omitempty"`
	Provider string   `xml:"provider,attr,omitempty"`
	Phase    string   `xml:"phase,attr,omitempty"`
	Created  string   `xml:"created,attr,omitempty"`
	Tags     []tagXML `xml:"tag"`
}

type tagXML struct {
	XMLName xml.Name
	Name    string `xml:"name,attr"`
	Value   string `xml:"value,attr"`
}

// marshal renders the element. Inside a domain it has a prefix and declares it; libvirt's call that sets metadata wants
// it without, and adds both.
func (r record) marshal(inDomain bool) (string, error) {
	prefix, space := "", ""
	if inDomain {
		prefix, space = metadataKey+":", Namespace
	}
	doc := recordXML{
		XMLName: xml.Name{Local: prefix + "host"}, Space: space, Provider: r.provider, Phase: string(r.phase),
		Created: r.created.Format(time.RFC3339),
	}
	for _, name := range slices.Sorted(maps.Keys(r.tags)) {
		doc.Tags = append(doc.Tags, tagXML{XMLName: xml.Name{Local: prefix + "tag"}, Name: name, Value: r.tags[name]})
	}
	text, err := xml.MarshalIndent(doc, "    ", "  ")
	return string(text), err
}

// parseRecord reads what libvirt answers when asked for our element, which has no prefix then.
func parseRecord(text string) (record, error) {
	var doc recordXML
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		return record{}, fmt.Errorf("metadata is not ours: %w", err)
	}
	r := record{tags: map[string]string{}, provider: doc.Provider, phase: phase(doc.Phase)}
	for _, tag := range doc.Tags {
		r.tags[tag.Name] = tag.Value
	}
	// A time that cannot be read is unknown.
	r.created, _ = time.Parse(time.RFC3339, doc.Created)
	return r, nil
}
