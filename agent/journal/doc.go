// Package journal knows the forms in which units' logs are read and shown: lines as a unit prints them, entries as
// journalctl writes them in JSON, and the formats that `muster logs` has in common with journalctl. It is pure.
//
// It guarantees bounded memory whatever a unit writes: a line or entry that is too long is cut up or left out, and said to
// be. It does not know where logs are kept.
package journal
