// Package deliver is the operator's part in bringing musterd to hosts whose image lacks it: it serves musterd to those
// that can reach this machine, and takes it over SSH to those that can reach nothing.
//
// What is served goes over plain HTTP: each host knows the file's SHA-256 from its user-data, which came by the provider's
// own channel, and runs nothing else. What a host was told must be there as long as it may ask; so files are copied into
// the state directory by their sums, and stay until no unfinished host's user-data names them.
//
// Over SSH no byte goes to a host whose key is not vouched for, be it by a known_hosts file (hashed names and
// @cert-authority included) or by what the host itself printed on its console, as far as the provider keeps that. A file
// is moved into place when its sum is right there; doing it again changes nothing.
//
// The package does not know which hosts there are, nor when they have joined: its caller does.
package deliver
