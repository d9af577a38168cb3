//go:build !lab

package ec2

// thorough has every test run in accounts of every temper.
const thorough = false
