// Package local is the driver whose hosts are processes: a host is a musterd with its own root directory and, on Linux,
// its own loopback address, started from the same user-data as a host of any cloud.
//
// A provider's hosts live below one directory, a directory each, and the tags in it are the only record that a host
// exists. They are written first, by a rename, so that a crash at any moment leaves either nothing, or a directory that
// the next Create completes and Cleanup removes. Addresses are leased machine-wide, so that any number of clusters, and
// of "clouds" of one cluster, run side by side.
//
// The package signals only processes that it has proved to be the host's: they carry its instance identifier in their
// environment, or descend from one that does. It knows nothing of what musterd does.
package local
