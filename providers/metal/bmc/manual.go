package bmc

import "context"

// Manual asks a person to power a machine on.
type Manual struct {
	Machine string
	Tell    func(words string) // tells the operator
}

// PowerOn tells the operator what to do, and does not wait until it is done.
func (m Manual) PowerOn(context.Context) error {
	m.Tell("power on machine " + m.Machine + ", and have it boot from the network")
	return nil
}
