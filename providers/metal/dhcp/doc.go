// Package dhcp answers the DHCP packets of machines that boot over the network, either as the network's only server or as
// a ProxyDHCP beside the server that leases the addresses (PXE 2.1, section 2.2).
//
// A Responder turns a packet and the time into a packet; it opens no socket and reads no clock. It guarantees that a client
// which says that it is iPXE is given a script and never iPXE again, so that no chain of loaders loops; that a ProxyDHCP
// never gives an address; and that nothing in an answer is secret. It does not know what a machine may boot: that is
// decided when the script is fetched.
//
// Leases are kept in memory only. After a restart a client keeps its address, as it asks for it by name and the same one
// is chosen first again, but an address that is in use and not renewed yet may be offered to another client when the pool
// is nearly full: clients of RFC 2131 probe an address before they use it and decline it then.
package dhcp
