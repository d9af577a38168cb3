// Package datasource finds out, on a host, who the host is and what it shall become: its instance ID, its name and its
// user-data, from wherever the machine's owner has put them.
//
// Detect asks all sources at once, and takes the first that has something in their order, so a machine waits for the
// network only when nothing nearer answers. The order, that of Sources:
//
//  1. cmdline: cloud-config-url=URL on the kernel command line
//  2. nocloud-net: ds=nocloud;s=URL on the kernel command line, or as SMBIOS serial number
//  3. seed: the directory /var/lib/cloud/seed/nocloud, or /user-data with /meta-data.json as muster's local hosts have them
//  4. nocloud: a disk labelled cidata
//  5. configdrive: a disk labelled config-2, as OpenStack makes it
//  6. vmware: guestinfo variables
//  7. ec2: the instance metadata service, version 2, asked only on machines that say they are of EC2 or OpenStack
//
// A source that is there and cannot be read is an error, not a reason to ask the next: two sources that disagree would
// make the host depend on chance. What sources reply is bounded, and never logged. The package applies nothing.
package datasource
