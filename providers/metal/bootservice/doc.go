// Package bootservice serves machines that boot over the network: DHCP, TFTP for the first loader, and HTTP for scripts,
// kernels and images, the latter with range requests.
//
// It reads and writes sockets and files, and decides nothing: package dhcp answers packets, and a Decider says what a
// machine boots. It serves the files that it was given by name and no others, only reads them, and keeps the loaders alone in
// memory, so its memory does not grow with what machines load. All of it is in the clear: nothing secret belongs here.
package bootservice
