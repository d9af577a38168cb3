// Package gateway is how programs of a host reach the keys that all hosts share: at one address, on each of two ports, it
// serves etcd's API v3 over gRPC, and over HTTP/1 what it is given (v1 and v2, agent/keysapi).
//
// It guarantees that nothing but the applications' subtree can be named through it: each key of a request is moved into the
// subtree, what is not known of a request is dropped, and every call that does not stand here is refused. Leases have IDs of
// their own, so that those of the cluster's sessions cannot be named either. Programs behind a bridge, containers, may read,
// and write what was granted; no web page may do anything. Limits bound what one caller can take from others.
//
// It does not know what the keys mean, and keeps none: each call is passed to a voter with the host's own rights.
package gateway
