package main

import (
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2"
	"github.com/musterhq/muster/providers/hcloud"
	"github.com/musterhq/muster/providers/libvirt"
	"github.com/musterhq/muster/providers/local"
	"github.com/musterhq/muster/providers/openstack"
	"github.com/musterhq/muster/providers/vsphere"
)

// drivers is every kind of provider that this binary knows. A new driver is a line here.
func drivers() *providers.Registry {
	return providers.NewRegistry(
		ec2.Driver(),
		hcloud.Driver(),
		libvirt.Driver(),
		local.Driver(),
		openstack.Driver(),
		vsphere.Driver(),
	)
}
