// Package ec2 is the driver whose hosts are instances of Amazon EC2, or of a service that speaks its API.
//
// # What is made
//
// A host is one instance with its volumes and its network interface, which are tagged in the call that makes them and end
// with it. An elastic address is one more, if the settings ask for it. A security group per VPC and a placement group
// belong to the cluster: their names follow from the cluster and the provider, Cleanup removes them. Everything carries
// muster's tags and `muster.provider`; what does not is never touched. Two providers of one account and region do not see
// each other's hosts.
//
// # Once and not twice
//
// RunInstances carries a client token that follows from provider and identity, and the exact request is on disk before it
// is sent, so that a repeated create is the same call: with one token per zone, EC2 would make a second instance if the
// subnet differed. A token whose instance has ended is spent, and the next number is taken. EC2's lists hide new things
// for a while: what Create was answered is remembered, and what was asked for and not answered is waited for. An instance
// that is to have an elastic address is a host when it has it; before, List does not show it, and the next Create
// completes it or Cleanup removes it.
//
// # Calls
//
// Creates, lists and waits that happen at the same time share their describes: 200 hosts cost as many of them as one. A
// host costs one call to make and one to end; with an elastic address four and three. Check finds out before anything is
// made whether it can be: image, type, zones, addresses, quotas, and rights, as far as EC2 tells of what does not exist yet.
//
// Nothing is called that policy.json does not allow, an IAM policy for the driver's user or role. Some settings need more,
// which names what is not muster's: `instance_profile` needs iam:PassRole for its role; a `kms_key` other than the account's
// own for EBS needs kms:CreateGrant, DescribeKey, GenerateDataKeyWithoutPlaintext and ReEncrypt* for it; and an account's
// first spot instance needs iam:CreateServiceLinkedRole for spot.amazonaws.com.
//
// # Addresses
//
// Members speak to each other at the address that List has first. The security group lets members speak to each other,
// which EC2 judges by private addresses alone: hosts that are reached at public ones need `allow.members`. A public
// address is another one after a stop; an elastic or private one stays.
//
// The package does not know what runs on the hosts, and it repeats nothing: see providers.Retry.
package ec2
