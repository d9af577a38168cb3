// Package enrol is the conversation between a machine that booted the installer over the network and who runs the rack.
//
// It goes over TLS 1.3. The machine knows the server by the hash of its CA's certificate, which stands on the kernel's
// command line. The server knows the machine by the boot: a random number that one script carried, which came in the clear
// and so is no secret, bound to the key that first claimed it, which the machine makes and never shows. Whoever else comes
// with the number contests the boot: it ends as broken and nothing is handed over any more. A MAC finds a machine and proves
// nothing; one that was given no boot may say what it is made of, and is told nothing.
//
// A machine that claimed its boot is told what to do, says how far it is and how it ended, and gets its user-data, with the
// join token in it, once and while the operator's window is open. A request may be repeated, since its answer may have been
// lost; that for the user-data alone may not. Sizes and numbers of all that is taken are bounded.
//
// The package decides by Ticket, which is pure; who remembers tickets and machines is behind Machines.
package enrol
