// Package state is the operator's directory of one cluster: the cluster's identity, its certificate authority, the join
// tokens that the operator admits hosts with, and a journal of what was about to be done.
//
// It guarantees that one process at a time writes (an advisory lock that the system gives back when the process dies),
// that nobody else can read (0700 and 0600, refused otherwise), that every file is replaced atomically, and that what
// Journal.Append returned from is on disk. It does not know which hosts exist: only the providers' tags tell that. Losing
// the directory loses the right to admit and to command, never a host.
//
// The directory of cluster demo:
//
//	demo/cluster.json                 who the cluster is
//	demo/ca.crt ca.key                root of its PKI; the key is nowhere else
//	demo/issuer.crt issuer.key        authority below the root, which voters have copies of
//	demo/operator.crt operator.key    the CLI's own credentials, short-lived
//	demo/journal.jsonl                write-ahead journal, see Entry
//	demo/tokens.json                  join tokens, hashed
//	demo/roster.json                  members as last seen; where the CLI begins to look for the cluster
//	demo/musterd/                     musterds that unfinished hosts were told to fetch, see package deliver
//	demo/lock                         held by the one that writes; contains its process ID
package state
