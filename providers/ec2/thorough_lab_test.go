//go:build lab

package ec2

const thorough = true
