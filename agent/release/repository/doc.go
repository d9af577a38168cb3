// Package repository makes and changes a repository of releases: a directory of TUF metadata and files that any HTTP server can
// host, and beside it a directory of keys that none shall.
//
// It guarantees that a change is seen whole or not at all, since the timestamp is written last; that nothing is signed on top of
// metadata that was tampered with; that a version, once it was offered, never means other bytes; and that a revoked one does not
// come back. The root's keys are needed to make the repository and to replace keys, and for nothing else, so that they can be
// kept offline. It knows nothing of hosts.
package repository
