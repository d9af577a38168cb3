// Package cloudconfig is one typed #cloud-config document: parsed strictly, merged, rendered, applied to a directory.
//
// Parse reports every finding at once with file, line and column, and refuses keys it does not know. Render is
// deterministic and Parse(Render(d)) equals d, but for the places of variables. FirstBoot makes what a host of a cluster
// needs at its first boot; Merge lays the operator's own document over it. Limit says what a provider takes, Open and
// Multipart know the forms in which user-data travels. Apply writes a document's files below a root directory, once per
// instance; package firstboot does all that a document asks for, package ignition writes it for Ignition, and package
// datasource finds it on a host.
//
// Two kinds of variables may stand in texts, never in keys: ${muster.NAME}, which Expand fills in on the operator's side,
// and $private_ipv4 and its like, which ExpandAddresses fills in on the host. Both work on the parsed document, so that no
// value can change its structure; one without a value is a finding with its line, and a backslash before one makes it
// stand for itself. Contents in base64 are left as they are.
//
// The package knows nothing of clusters: what it writes for musterd is bytes and strings to it.
package cloudconfig
