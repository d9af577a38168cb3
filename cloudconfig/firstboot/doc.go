// Package firstboot makes a host what its user-data asks for, without cloud-init: it finds the data source, reads the
// cloud-config and applies it, once for each instance.
//
// In this order: bootcmd (at every boot), hostname, /etc/hosts, the addresses in /etc/environment, accounts with their
// keys and sudo rules, files, the host's own SSH key, units with drop-ins, masks and links, the commands of units, runcmd
// and scripts. A step that fails does not keep the next from being done; what failed is repeated at the next boot, but
// commands are started once for an instance, whatever comes of them. Everything is done again from the start when the
// instance ID changes.
//
// Commands wait up to a minute for an address. A document that refers to an address that no data source gives waits for one
// longer, and the log says so. The public SSH keys are printed on the console at every boot as cloud-init prints them, so
// that whoever owns the machine knows them before the first connection.
//
// What was written is noted in /var/lib/muster/firstboot.json with path, mode and SHA-256. The log has paths and names,
// never contents, commands or what they print; that goes to /var/lib/muster/firstboot.out, which root alone can read.
//
// Accounts are edited in /etc/passwd and its companions directly, under the lock that shadow's tools take: an image needs
// neither them nor Python, and a root directory that is not running can be prepared. On "/", programs are run and the
// kernel gets the hostname; on another root directory only files are written.
package firstboot
