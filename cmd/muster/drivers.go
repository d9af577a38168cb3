package main

import (
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/libvirt"
	"github.com/musterhq/muster/providers/local"
)

// drivers is every kind of provider that this binary knows. A new driver is a line here.
func drivers() *providers.Registry {
	return providers.NewRegistry(
		libvirt.Driver(),
		local.Driver(),
	)
}
