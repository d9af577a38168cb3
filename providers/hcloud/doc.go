// Package hcloud is the driver whose hosts are servers of the Hetzner Cloud. It is the smallest driver of a real cloud here,
// and the one to copy.
//
// The API has no client token, but names are unique in a project. A server's name follows from host, generation, cluster
// and provider, so a create that is repeated is refused, and the driver adopts the server of that name whose labels agree:
// whatever crashes, whichever answer is lost, and whatever lists do not show yet, at most one server of an identity is
// made. One of whose labels some are lost and none differs is completed; one without any of them is somebody else's.
//
// Servers, the cluster's firewall and its placement groups carry muster's labels from the call that makes them. A server's
// public addresses are made and end with it. Several providers of different names share a project and do not see each
// other's hosts. The names are the identity: servers must not be renamed.
//
// Making a host is one call, ending it three or more (look, delete, look until it is gone), listing one for every fifty
// hosts; types, images, networks, keys and groups are looked up once in five minutes. A project has 3600 calls an hour:
// when a tenth is left, the driver keeps to the rate at which they come back. calls.yaml lists what is called.
//
// A token reads, or reads and writes, all of its project, and nothing narrower exists. The least privilege is a project of
// the cluster's own with a read-and-write token.
//
// The package knows nothing of what runs on the hosts. Images must have cloud-init, as all of Hetzner's do.
package hcloud
