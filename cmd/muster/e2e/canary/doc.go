// Package canary looks for secrets where none may be. A test plants distinct values, or names secrets that it found, in a
// Set, and then searches what a system left behind: what it printed, its logs, a console, a directory, a disk, command
// lines, answers of an API.
//
// A secret is found as it is, escaped (JSON, Go, URL, XML), in hexadecimal, in base64 wherever it begins and however it is
// wrapped, in gzip, and in combinations of these; its first and last bytes alone count too, so that cutting hides
// nothing. A Hit names the secret and the place and never shows the value. What may be where is said by Rules, each with
// its reason; a rule that nothing needs is told, so that the list cannot rot.
//
// Fields reads from Go sources which fields hold secrets, so that a test can insist on a canary for each.
//
// The package does not know muster: it imports nothing of it, and every test of the repository may use it.
package canary
