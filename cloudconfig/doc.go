// Package cloudconfig is one typed #cloud-config document: parsed strictly, merged, rendered, applied to a directory.
//
// Parse reports every finding at once with file, line and column, and refuses keys it does not know. Render is
// deterministic and Parse(Render(d)) equals d. HostDocument makes what a host of a cluster needs at its first boot;
// Merge lays the operator's own document over it. Apply writes a document's files below a root directory, once per
// instance, as cloud-init does on a host that has it.
//
// The package knows nothing of clusters: what it writes for musterd is bytes and strings to it.
package cloudconfig
