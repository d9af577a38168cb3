// Package e2e holds the end-to-end tests: they build the real binaries and drive them as an operator would, on the
// embedded local provider. Nothing in them reaches into muster but what a user can see: commands, status, processes,
// files. Each test has its own state directory and ends only processes of its own hosts.
package e2e
