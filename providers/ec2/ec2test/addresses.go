package ec2test

import (
	"encoding/xml"
	"slices"
	"strings"
)

var addressActions = map[string]action{
	"DescribeAddresses": {do: describeAddresses, params: []string{"AllocationId.#", "Filter.#.Name", "Filter.#.Value.#"}},
	"AllocateAddress": {writes: true, do: allocateAddress, params: []string{
		"Domain", "TagSpecification.#.ResourceType", "TagSpecification.#.Tag.#.Key", "TagSpecification.#.Tag.#.Value",
	}},
	"AssociateAddress":    {writes: true, do: associateAddress, params: []string{"AllocationId!", "InstanceId!", "AllowReassociation:bool"}},
	"DisassociateAddress": {writes: true, do: disassociateAddress, params: []string{"AssociationId!"}},
	"ReleaseAddress":      {writes: true, do: releaseAddress, params: []string{"AllocationId!"}},
}

func describeAddresses(r *request) (any, error) {
	filters, err := r.filters("tag:", "instance-id", "allocation-id")
	if err != nil {
		return nil, err
	}
	ids := r.list("AllocationId")
	answer := xmlAddresses{}
	for _, a := range r.addresses {
		if !r.lists(&a.thing) || len(ids) > 0 && !slices.Contains(ids, a.id) || !matches(filters, a.tags, func(name string) []string {
			return map[string][]string{"instance-id": {a.instance}, "allocation-id": {a.id}}[name]
		}) {
			continue
		}
		answer.Items = append(answer.Items, xmlAddress{
			ID: a.id, Public: a.public.String(), Instance: a.instance, Association: a.association, Domain: "vpc", Tags: xmlTags(a.tags),
		})
	}
	return answer, nil
}

func allocateAddress(r *request) (any, error) {
	specs, err := r.tagSpecs("elastic-ip")
	if err == nil {
		err = r.allowMaking(map[string]map[string]string{"elastic-ip": specs["elastic-ip"]})
	}
	if err == nil {
		err = r.dryRun()
	}
	if err != nil {
		return nil, err
	}
	if r.options.AddressQuota > 0 && len(r.addresses) >= r.options.AddressQuota {
		return nil, refuse("AddressLimitExceeded", "The maximum number of addresses has been reached.")
	}
	a := r.newAddress(specs["elastic-ip"])
	r.Cloud.addresses = append(r.addresses, a)
	return xmlAllocated{Public: a.public.String(), Domain: "vpc", ID: a.id}, nil
}

// theAddress finds the address that a call changes, and asks whether that is allowed.
func (r *request) theAddress(code string, is func(*address) bool) (*address, error) {
	at := slices.IndexFunc(r.addresses, is)
	if at < 0 || !r.knows(&r.addresses[at].thing) {
		return nil, refuse(code, "The address does not exist")
	}
	a := r.addresses[at]
	return a, r.allow(resource{kind: "elastic-ip", id: a.id, tags: a.tags})
}

func associateAddress(r *request) (any, error) {
	a, err := r.theAddress("InvalidAllocationID.NotFound", func(a *address) bool { return a.id == r.str("AllocationId") })
	if err != nil {
		return nil, err
	}
	i := r.instance(r.str("InstanceId"))
	if i == nil || !r.knows(&i.thing) {
		return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", r.str("InstanceId"))
	}
	if err := r.allow(resource{kind: "instance", id: i.id, tags: i.tags}); err != nil {
		return nil, err
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	if state := i.stateAt(r.now()); state != stateRunning && state != stateStopped {
		return nil, refuse("InvalidInstanceID", "The pending instance '%s' is not in a valid state for this operation.", i.id)
	}
	if a.instance != "" && a.instance != i.id && !r.flag("AllowReassociation") {
		return nil, refuse("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", a.id, a.association)
	}
	if a.instance != i.id {
		a.instance, a.association = i.id, r.newID("eipassoc")
	}
	i.public = a.public
	return xmlAssociated{Return: true, ID: a.association}, nil
}

func disassociateAddress(r *request) (any, error) {
	a, err := r.theAddress("InvalidAssociationID.NotFound", func(a *address) bool { return a.association == r.str("AssociationId") })
	if err == nil {
		err = r.dryRun()
	}
	if err != nil {
		return nil, err
	}
	if i := r.instance(a.instance); i != nil && i.launch.public && i.stateAt(r.now()) == stateRunning {
		i.public = r.newPublic()
	}
	a.instance, a.association = "", ""
	return xmlDone{XMLName: xml.Name{Local: "DisassociateAddressResponse"}, Return: true}, nil
}

func releaseAddress(r *request) (any, error) {
	a, err := r.theAddress("InvalidAllocationID.NotFound", func(a *address) bool { return a.id == r.str("AllocationId") })
	if err == nil {
		err = r.dryRun()
	}
	if err != nil {
		return nil, err
	}
	if a.association != "" {
		return nil, refuse("InvalidIPAddress.InUse", "Address %s is in use.", a.public)
	}
	r.Cloud.addresses = slices.DeleteFunc(r.addresses, func(other *address) bool { return other == a })
	return xmlDone{XMLName: xml.Name{Local: "ReleaseAddressResponse"}, Return: true}, nil
}

var storageActions = map[string]action{
	"DescribeVolumes": {do: describeVolumes, params: []string{"VolumeId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken"}},
	"DeleteVolume":    {writes: true, do: deleteVolume, params: []string{"VolumeId!"}},
	"DescribeNetworkInterfaces": {do: describeInterfaces, params: []string{
		"NetworkInterfaceId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"DeleteNetworkInterface": {writes: true, do: deleteInterface, params: []string{"NetworkInterfaceId!"}},
}

func describeVolumes(r *request) (any, error) {
	filters, err := r.filters("tag:", "status", "volume-id", "attachment.instance-id")
	if err != nil {
		return nil, err
	}
	var found []xmlVolume
	for _, v := range r.volumes {
		if !r.lists(&v.thing) || !matches(filters, v.tags, func(name string) []string {
			return map[string][]string{"status": {v.state()}, "volume-id": {v.id}, "attachment.instance-id": {v.instance}}[name]
		}) {
			continue
		}
		x := xmlVolume{ID: v.id, GiB: v.gib, Type: v.kind, State: v.state(), Encrypted: v.encrypted, Tags: xmlTags(v.tags)}
		if v.instance != "" {
			x.Attachments = []xmlAttachment{{Instance: v.instance, Device: v.device, Status: "attached"}}
		}
		found = append(found, x)
	}
	part, next, err := page(r, found, 5, 500)
	return xmlVolumes{Items: part, Next: next}, err
}

func deleteVolume(r *request) (any, error) {
	at := slices.IndexFunc(r.volumes, func(v *volume) bool { return v.id == r.str("VolumeId") })
	if at < 0 {
		return nil, refuse("InvalidVolume.NotFound", "The volume '%s' does not exist.", r.str("VolumeId"))
	}
	v := r.volumes[at]
	if err := r.allow(resource{kind: "volume", id: v.id, tags: v.tags}); err != nil {
		return nil, err
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	if v.instance != "" {
		return nil, refuse("VolumeInUse", "Volume %s is currently attached to %s", v.id, v.instance)
	}
	r.Cloud.volumes = slices.Delete(r.volumes, at, at+1)
	return xmlDone{XMLName: xml.Name{Local: "DeleteVolumeResponse"}, Return: true}, nil
}

func describeInterfaces(r *request) (any, error) {
	filters, err := r.filters("tag:", "status", "network-interface-id", "attachment.instance-id")
	if err != nil {
		return nil, err
	}
	var found []xmlNet
	for _, n := range r.interfaces {
		if !r.lists(&n.thing) || !matches(filters, n.tags, func(name string) []string {
			return map[string][]string{
				"status": {n.state()}, "network-interface-id": {n.id}, "attachment.instance-id": {n.instance},
			}[name]
		}) {
			continue
		}
		x := xmlNet{ID: n.id, State: n.state(), Tags: xmlTags(n.tags)}
		if n.instance != "" {
			x.Attachment = &xmlAttachment{Instance: n.instance, Status: "attached"}
		}
		found = append(found, x)
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlNets{Items: part, Next: next}, err
}

func deleteInterface(r *request) (any, error) {
	at := slices.IndexFunc(r.interfaces, func(n *netInterface) bool { return n.id == r.str("NetworkInterfaceId") })
	if at < 0 {
		return nil, refuse("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", r.str("NetworkInterfaceId"))
	}
	n := r.interfaces[at]
	if err := r.allow(resource{kind: "network-interface", id: n.id, tags: n.tags}); err != nil {
		return nil, err
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	if n.instance != "" {
		return nil, refuse("InvalidParameterValue", "Network interface '%s' is currently in use.", n.id)
	}
	r.Cloud.interfaces = slices.Delete(r.interfaces, at, at+1)
	return xmlDone{XMLName: xml.Name{Local: "DeleteNetworkInterfaceResponse"}, Return: true}, nil
}

// Detach takes what is attached to an instance away from it, so that it outlives the instance.
func (c *Cloud) Detach(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.volumes {
		if v.instance == instance && !strings.HasSuffix(v.device, "a") {
			v.instance = ""
		}
	}
}

// The forms of answers about addresses, volumes and interfaces.
type (
	xmlAddresses struct {
		XMLName xml.Name     `xml:"DescribeAddressesResponse"`
		Items   []xmlAddress `xml:"addressesSet>item"`
	}
	xmlAddress struct {
		ID          string   `xml:"allocationId"`
		Public      string   `xml:"publicIp"`
		Domain      string   `xml:"domain"`
		Instance    string   `xml:"instanceId,omitempty"`
		Association string   `xml:"associationId,omitempty"`
		Tags        []xmlTag `xml:"tagSet>item"`
	}
	xmlAllocated struct {
		XMLName xml.Name `xml:"AllocateAddressResponse"`
		Public  string   `xml:"publicIp"`
		Domain  string   `xml:"domain"`
		ID      string   `xml:"allocationId"`
	}
	xmlAssociated struct {
		XMLName xml.Name `xml:"AssociateAddressResponse"`
		Return  bool     `xml:"return"`
		ID      string   `xml:"associationId"`
	}
	xmlVolumes struct {
		XMLName xml.Name    `xml:"DescribeVolumesResponse"`
		Items   []xmlVolume `xml:"volumeSet>item"`
		Next    string      `xml:"nextToken,omitempty"`
	}
	xmlVolume struct {
		ID          string          `xml:"volumeId"`
		GiB         int             `xml:"size"`
		Type        string          `xml:"volumeType"`
		State       string          `xml:"status"`
		Encrypted   bool            `xml:"encrypted"`
		Attachments []xmlAttachment `xml:"attachmentSet>item"`
		Tags        []xmlTag        `xml:"tagSet>item"`
	}
	xmlAttachment struct {
		Instance string `xml:"instanceId"`
		Device   string `xml:"device,omitempty"`
		Status   string `xml:"status"`
	}
	xmlNets struct {
		XMLName xml.Name `xml:"DescribeNetworkInterfacesResponse"`
		Items   []xmlNet `xml:"networkInterfaceSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}
	xmlNet struct {
		ID         string         `xml:"networkInterfaceId"`
		State      string         `xml:"status"`
		Attachment *xmlAttachment `xml:"attachment"`
		Tags       []xmlTag       `xml:"tagSet>item"`
	}
)
