// Package fleet is the cluster as its records tell it: it reads them from the store, follows their changes, and derives
// from them what people and the scheduler ask: the status, why a unit is where it is, the snapshot that decisions are
// made from.
//
// A View is decoded records and nothing else; what is derived from one is pure. Records of a version that this muster
// does not know are left out and named in View.Bad, never guessed at. The package changes nothing in the store.
package fleet
