// Package installer is what a machine does that booted the installer over the network: it says what it is made of, asks what
// to do, and writes an image to a disk, erases disks, or gives the operator a shell.
//
// An image is written from its second MiB on, hashed on the way, and read back; only then the first MiB follows, which has
// the partition table and what BIOS boots. So whatever ends an installation early, a wrong sum, a server that is gone, the
// power, the disk boots nothing half. What ends it is reported, and tried until somebody hears it. An image server that goes
// away is waited for, and asked for the rest.
//
// The package knows disks that are whole and of sectors of 512 bytes, as the image has them, and images that have their data
// in an ext4 partition labelled var. It decides neither what the machine is to do nor which host it becomes.
package installer
