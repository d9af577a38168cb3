// Package local is the driver whose hosts are on this machine. A host is a process, a musterd with its own root directory
// and, on Linux, its own loopback address; or it is a whole system, a systemd-nspawn container of muster's host image with
// an address on a bridge, for which the provider takes root. Both start from the same user-data as a host of any cloud.
//
// A provider's hosts live below one directory, a directory each, and the tags in it are the only record that a host
// exists. They are written first, by a rename, so that a crash at any moment leaves either nothing, or a directory that
// the next Create completes and Cleanup removes. Addresses are leased machine-wide, so that any number of clusters, and
// of "clouds" of one cluster, run side by side.
//
// A container is an overlay over the image, which many share, with a /var of its own. The first process around it leads a
// PID namespace with mounts of its own: with that process, however it ends, the kernel ends everything of the container.
// Its control group, its bridge and its interface have names and marks that lead back to it. Containers are for trying
// and testing: root in one is not kept from this machine by more than systemd-nspawn's ways.
//
// The package signals only processes that it has proved to be the host's: they carry its instance identifier in their
// environment, or descend from one that does. It knows nothing of what musterd does.
package local
