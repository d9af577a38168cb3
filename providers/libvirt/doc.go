// Package libvirt is the driver whose hosts are QEMU virtual machines of a libvirt daemon, on this machine or on another
// that is reached over TLS or SSH.
//
// Everything that the driver makes is known by a name or UUID that follows from the cluster, the provider and the host:
// domains, which carry muster's tags in their metadata, volumes in one storage pool, and a network. Images are uploaded
// once, under the SHA-256 of all their bytes, and shared by all clusters of the pool; their runs of zeros are neither sent
// nor stored, which takes libvirt 3.4 or later. Hosts' disks are copy-on-write clones of them. A host counts as made when
// its domain says "launched"; before, List does not show it, and the next Create completes it or Cleanup removes it. Its
// domain is the last thing to go, so that a destroy which was cut short is seen and repeated.
//
// The driver does nothing beside the daemon: files, consoles and addresses are read through it, which is why it works
// the same from afar. Every call opens a connection of its own and closes it at the end. The package knows nothing of
// what runs in the machines.
package libvirt
