package vsphere

import (
	"github.com/vmware/govmomi/vim25/types"
)

// hardwareChanges are what a clone has otherwise than its source: the size of its first disk, and the networks of its
// interfaces, of which it gets as many as there are networks.
func hardwareChanges(from source, at place, s *Settings) []types.BaseVirtualDeviceConfigSpec {
	var changes []types.BaseVirtualDeviceConfigSpec
	if disks := from.disks(); s.Disk > 0 && len(disks) > 0 && capacity(disks[0]) < s.Disk {
		grown := *disks[0]
		grown.CapacityInBytes, grown.CapacityInKB = int64(s.Disk), int64(s.Disk>>10)
		changes = append(changes, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: &grown})
	}
	cards := from.interfaces()
	for i, n := range at.networks {
		if i < len(cards) {
			changes = append(changes, replugged(cards[i], n))
			continue
		}
		changes = append(changes, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: newInterface(-int32(100+i), n),
		})
	}
	return changes
}

// replugged puts an interface of the source on another network. Its copy gets a MAC address of its own.
func replugged(card types.BaseVirtualEthernetCard, n network) types.BaseVirtualDeviceConfigSpec {
	device := copyInterface(card)
	ethernet := device.GetVirtualEthernetCard()
	ethernet.Backing = n.backing
	ethernet.MacAddress, ethernet.AddressType = "", string(types.VirtualEthernetCardMacTypeGenerated)
	ethernet.Connectable = connected()
	return &types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: device.(types.BaseVirtualDevice),
	}
}

// copyInterface copies the device itself, which other creates use at the same time.
func copyInterface(card types.BaseVirtualEthernetCard) types.BaseVirtualEthernetCard {
	switch d := card.(type) {
	case *types.VirtualVmxnet3:
		c := *d
		return &c
	case *types.VirtualE1000e:
		c := *d
		return &c
	case *types.VirtualE1000:
		c := *d
		return &c
	case *types.VirtualVmxnet2:
		c := *d
		return &c
	case *types.VirtualPCNet32:
		c := *d
		return &c
	case *types.VirtualSriovEthernetCard:
		c := *d
		return &c
	default:
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: *card.GetVirtualEthernetCard()}}
	}
}

// newInterface is a vmxnet3 interface.
func newInterface(key int32, n network) types.BaseVirtualDevice {
	card := &types.VirtualVmxnet3{}
	card.Key, card.Backing, card.Connectable = key, n.backing, connected()
	card.AddressType = string(types.VirtualEthernetCardMacTypeGenerated)
	return card
}

func connected() *types.VirtualDeviceConnectInfo {
	return &types.VirtualDeviceConnectInfo{StartConnected: true, Connected: true, AllowGuestControl: true}
}
