// Package apply makes what the cluster file says true: it asks the providers what there is, plans, makes and ends hosts,
// brings the first ones together and lets later ones join, and submits the units.
//
// It guarantees that the process may end at any moment. Every call that makes, starts or ends something at a provider is
// announced in the journal before and noted after it, with the very identity, token and user-data, so that the next run
// asks for the same thing again or ends it; at most one live instance of a host exists, and Down leaves nothing behind. A
// provider that cannot be listed ends the run before anything is changed. All hosts are worked on at the same time, and
// one host's failure does not stop the others.
//
// A cluster is born in one of three phases, which follow from the journal alone:
//
//	fresh    nothing is decided: hosts are made, told nothing, and wait to be dialled
//	forming  the first membership is fixed on disk, and hosts may have been told
//	formed   the voters work together: hosts join through them, and what they say of the members counts
//
// The package knows no driver and no agent: it speaks to the cluster through Fleet, and shows its work through Reporter.
package apply
