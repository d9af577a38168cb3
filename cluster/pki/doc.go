// Package pki is the cluster's public key infrastructure: a root that the operator alone holds, an issuer below it that
// operator and voters hold, and short-lived leaves that say who a peer is.
//
// The signer decides every field of a certificate; of a request only the public key is used. All keys are ECDSA P-256,
// all connections TLS 1.3, and all verification is against the root alone, so an issuer can be replaced without telling
// anybody. A leaf's role stands in its one URI (RFC 5280 section 4.2.1.6):
//
//	muster://<cluster uuid>/host/<host id>    CN <host id>     every host; cluster/voter knows it by that
//	muster://<cluster uuid>/voter/<host id>   CN root          a voter's privileged client, etcd's root user
//	muster://<cluster uuid>/peer/<host id>    CN muster-peer   a voter among etcd's peers, and nowhere else
//	muster://<cluster uuid>/operator          CN operator      the CLI
//
// The DNS names join.muster.internal and voter.muster.internal are in the leaves of those who may serve as such; clients
// verify them, so that one host cannot pose as a voter. The package knows nothing of tokens, rosters as a whole, or what
// a role may do.
package pki
