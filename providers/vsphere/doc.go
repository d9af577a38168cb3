// Package vsphere is the driver whose hosts are virtual machines of VMware vSphere: of a vCenter, or of one ESXi host that
// no vCenter manages.
//
// At a vCenter a host is one CloneVM call, which carries everything: hardware, network, user-data (guestinfo), muster's tags
// and the order to power on. An ESXi cannot clone; there a machine is created with its tags and without a disk, gets a copy of
// its image's disk, and is then powered on. Tags are extraConfig entries and not vSphere tags: only they are part of the call
// that makes the machine, ESXi has them, and the guest cannot write them.
//
// A machine is the provider's when its instance UUID is the one that follows from its tags; a copy that somebody made has
// the tags and another UUID, and is left alone. The name follows from the identity too: two creates that do not know of each
// other ask for one name in one folder, and vSphere gives it to one. Machines are found wherever they were moved to in
// their datacenter, and whatever they were renamed to. A host counts as made when it runs, or when its phase says "launched",
// which is written last; before, List does not show it, and the next Create completes it or Cleanup removes it.
//
// OVA files and items of content libraries are imported once for a cluster and cloned from then on. An import has a name of
// its own until it is whole; giving it the image's name is what makes it the image, and that name is given once.
//
// A host takes four calls of its own to be made at a vCenter (search, clone, phase, read), five and a share in the changes of
// the rule when hosts are kept apart, and four to be destroyed; a list is one call, however many machines there are. What many
// hosts have in common (inventory, template, folder, image) is read once. Tasks of all calls are read together, at most once
// a second in the long run. For 200 hosts at once, whose clones take ten seconds each, that is 4.4 calls a host, 5.9 when they
// are kept apart, and 5.9 to destroy them; up to 32 calls are under way at a time.
//
// All calls of a provider share one session. When the server has forgotten it, the provider logs in once and repeats the
// call that was refused. There is no timer that keeps it alive: whatever waits asks once a second. The package knows nothing
// of what runs in the machines.
package vsphere
