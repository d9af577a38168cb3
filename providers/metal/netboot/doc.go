// Package netboot decides what a machine that asks over the network may boot, and writes the script that boots it.
//
// Everything in it is pure: Next and Decide take what is remembered of a machine and return what to remember from then on,
// Script and CommandLine turn a decision into what iPXE and the booted system read. It guarantees that a machine cannot
// install in a loop: one Begin hands the installer out at most MaxBoots times, not once more after the installer said that
// it runs, and never to a machine that is provisioned. An unknown machine gets discovery and nothing else.
//
// It knows no packets, no files and no secrets: nothing that it writes may be kept from anybody on the network. A machine
// is found by what it says of itself, so a decision is no proof of who it is.
package netboot
