// Package keysapi serves the cluster's keys over HTTP as etcd's versions 1 and 2 did: an http.Handler over a keys.Store, for
// clients of 2013 to 2017 and for curl.
//
// Answers have the status, the headers and the bodies, byte for byte, of a genuine server of etcd 3.4 with version 2 enabled;
// where they do not, testdata/differences.txt says why. What is read while the store is away carries X-Muster-Stale, with the seconds
// since it was heard of last.
//
// The package knows no listeners and no callers: who may ask what, and how large and how often, is the business of those
// who mount it.
package keysapi
