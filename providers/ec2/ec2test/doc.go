// Package ec2test is a stand-in for Amazon EC2: an HTTP handler that answers the EC2 Query API, version 2016-11-15, as far
// as muster uses it, written from Amazon's API Reference and Developer Guide. It also answers GetParameter of Systems
// Manager and AssumeRole of the Security Token Service.
//
// It is stateful: instances with their volumes, interfaces and spot requests, elastic addresses, security groups,
// placement groups, tags. It is strict: an action, a parameter or a filter that it does not know is an error, as are a
// missing parameter, a value of the wrong form, a tag rule broken, and a signature of another region. Client tokens are
// EC2's: regional or zonal, tied to the exact request, spent when the instance has ended. Lists may be behind, calls may
// fail, answers may be lost, quotas may be reached, and an IAM policy may be in force. Every call is recorded.
//
// Signatures are looked at and not verified. Nothing boots: Cloud.OnRun may start something for an instance.
package ec2test
