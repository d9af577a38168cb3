// Package dir is the update engine of hosts whose slots are directories that hold musterd: those of the local provider, and any
// other's whose image is not ours to replace, where musterd alone is updated.
//
// A boot is a start of musterd. The boot loader is musterd itself, in the version that the provider brought: while there is a
// slot table it starts the slot's musterd as its child, counts the tries of one that is not good yet, and starts the other one
// when they are used up, when it ends by itself or says nothing for too long. Units are not its children's children: they run
// on, unless the engine is told that a reboot ends everything on the host (Config.Whole), as it does elsewhere.
//
// It guarantees that the table on the disk always names a musterd that was good, and that a slot is named only when its file is
// complete. It does not guard against a machine whose disk changes what it has written.
package dir
