package ec2test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

var instanceActions = map[string]action{
	"RunInstances": {writes: true, do: runInstances, params: []string{
		"ImageId!", "InstanceType", "MinCount:int!", "MaxCount:int!", "ClientToken", "KeyName", "UserData", "SubnetId",
		"SecurityGroupId.#", "InstanceInitiatedShutdownBehavior", "IamInstanceProfile.Name", "IamInstanceProfile.Arn",
		"Placement.GroupName", "Placement.AvailabilityZone",
		"MetadataOptions.HttpTokens", "MetadataOptions.HttpEndpoint", "MetadataOptions.HttpPutResponseHopLimit:int",
		"NetworkInterface.#.DeviceIndex:int", "NetworkInterface.#.SubnetId", "NetworkInterface.#.SecurityGroupId.#",
		"NetworkInterface.#.AssociatePublicIpAddress:bool", "NetworkInterface.#.DeleteOnTermination:bool",
		"BlockDeviceMapping.#.DeviceName", "BlockDeviceMapping.#.Ebs.VolumeSize:int", "BlockDeviceMapping.#.Ebs.VolumeType",
		"BlockDeviceMapping.#.Ebs.Iops:int", "BlockDeviceMapping.#.Ebs.Throughput:int", "BlockDeviceMapping.#.Ebs.Encrypted:bool",
		"BlockDeviceMapping.#.Ebs.KmsKeyId", "BlockDeviceMapping.#.Ebs.DeleteOnTermination:bool",
		"InstanceMarketOptions.MarketType", "InstanceMarketOptions.SpotOptions.SpotInstanceType",
		"InstanceMarketOptions.SpotOptions.MaxPrice", "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior",
		"TagSpecification.#.ResourceType", "TagSpecification.#.Tag.#.Key", "TagSpecification.#.Tag.#.Value",
	}},
	"DescribeInstances": {do: describeInstances, params: []string{
		"InstanceId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"TerminateInstances": {writes: true, do: terminateInstances, params: []string{"InstanceId.#!"}},
	"StartInstances":     {writes: true, do: startInstances, params: []string{"InstanceId.#!"}},
	"StopInstances":      {writes: true, do: stopInstances, params: []string{"InstanceId.#!"}}, // no Force: the guest is asked
	"GetConsoleOutput":   {about: true, do: getConsoleOutput, params: []string{"InstanceId!", "Latest:bool"}},
	"CreateTags":         {writes: true, do: createTags, params: []string{"ResourceId.#!", "Tag.#.Key!", "Tag.#.Value"}},
}

// used is what a client token was used for.
type used struct {
	request  string // its parameters
	instance string // empty when the request failed
}

// token is the scope of a client token: that of the zone when the request names one, else the region's (Developer Guide,
// "RunInstances idempotency").
func (r *request) token(l launch) string { return r.str("ClientToken") + " in " + l.subnet.Zone }

// fingerprint is everything that a request says beside its token.
func (r *request) fingerprint() string {
	values := maps.Clone(r.values)
	values.Del("ClientToken")
	return values.Encode()
}

func runInstances(r *request) (any, error) {
	l, err := r.readLaunch()
	if err != nil {
		return nil, err
	}
	if err := r.allowRun(l); err != nil {
		return nil, err
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	made, err := r.repeated(l)
	if err != nil {
		return nil, err
	}
	if r.repeats = made != nil; made == nil {
		if err := r.admit(l); err != nil {
			return nil, err
		}
		made = r.run(l)
		if l.token != "" {
			r.tokens[r.token(l)] = used{request: r.fingerprint(), instance: made.id}
		}
		if r.options.OnRun != nil {
			r.started(made)
		}
	}
	return xmlRun{reservation: r.reservation(made, r.now())}, nil
}

// started lets the test start something for the instance.
func (r *request) started(made *instance) {
	private, public := r.options.OnRun(Launched{
		Instance: made.id, Tags: made.copyTags(), UserData: made.userData, Zone: made.subnet.Zone,
	})
	if private.IsValid() {
		made.private = private
	}
	if public.IsValid() {
		made.public = public
	}
}

// repeated finds the instance that was made for the token.
func (r *request) repeated(l launch) (*instance, error) {
	if l.token == "" {
		return nil, nil
	}
	before, ok := r.tokens[r.token(l)]
	switch {
	case !ok:
		return nil, nil
	case before.request != r.fingerprint():
		return nil, refuse("IdempotentParameterMismatch",
			"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
	case before.instance == "":
		return nil, nil
	}
	made := r.instance(before.instance)
	if state := made.stateAt(r.now()); state == stateTerminated || state == stateShuttingDown {
		if !r.options.EndedAnswers {
			return nil, refuse("IdempotentInstanceTerminated",
				"The client token you have provided is associated with a terminated instance. Please use a different client token.")
		}
	}
	return made, nil
}

// admit refuses what there is no room for. The token of a request that failed so is tied to it.
func (r *request) admit(l launch) error {
	alive := 0
	for _, i := range r.instances {
		if state := i.stateAt(r.now()); state != stateTerminated && state != stateShuttingDown {
			alive++
		}
	}
	var err error
	switch {
	case slices.Contains(r.options.FullZones, l.subnet.Zone):
		err = &problem{
			code: "InsufficientInstanceCapacity", message: "We currently do not have sufficient " + l.kind + " capacity in " + l.subnet.Zone,
			status: 500,
		}
	case r.roomIn(l.subnet.ID) <= 0:
		err = refuse("InsufficientFreeAddressesInSubnet", "Not enough free addresses in subnet %s to satisfy the requested number of instances", l.subnet.ID)
	case r.options.InstanceQuota > 0 && alive >= r.options.InstanceQuota:
		err = refuse("VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit allows")
	default:
		return nil
	}
	if l.token != "" {
		r.tokens[r.token(l)] = used{request: r.fingerprint()}
	}
	return err
}

// readLaunch reads and checks the parameters.
func (r *request) readLaunch() (launch, error) {
	l := launch{
		image: r.str("ImageId"), kind: r.str("InstanceType"), key: r.str("KeyName"), token: r.str("ClientToken"),
		profile: r.str("IamInstanceProfile.Name"), placement: r.str("Placement.GroupName"),
		tokens: r.str("MetadataOptions.HttpTokens"), hops: r.number("MetadataOptions.HttpPutResponseHopLimit", 1),
		spot: r.str("InstanceMarketOptions.MarketType") == "spot",
	}
	if l.kind == "" {
		l.kind = "m1.small"
	}
	kinds := []string{"instance", "volume", "network-interface"}
	if l.spot {
		kinds = append(kinds, "spot-instances-request")
	}
	var err error
	if l.specs, err = r.tagSpecs(kinds...); err != nil {
		return l, err
	}
	if l.userData, err = base64.StdEncoding.DecodeString(r.str("UserData")); err != nil {
		return l, refuse("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	}
	for _, check := range []func(*launch) error{r.checkLaunch, r.readNetwork, r.checkPlacement, r.readDisks} {
		if err := check(&l); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (r *request) checkLaunch(l *launch) error {
	found := slices.IndexFunc(r.images, func(i image) bool { return i.id == l.image })
	switch {
	case r.str("MinCount") != "1" || r.str("MaxCount") != "1":
		return refuse("InvalidParameterValue", "this cloud makes one instance at a time")
	case !strings.HasPrefix(l.image, "ami-"):
		return refuse("InvalidAMIID.Malformed", "Invalid id: \"%s\"", l.image)
	case found < 0:
		return refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", l.image)
	case typeOf(l.kind) == nil:
		return refuse("InvalidParameterValue", "Invalid value '%s' for InstanceType.", l.kind)
	case !slices.Contains(typeOf(l.kind).architectures, r.images[found].architecture):
		return refuse("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the AMI",
			strings.Join(typeOf(l.kind).architectures, ","))
	case len(l.token) > 64:
		return refuse("InvalidParameterValue", "The client token has more than 64 characters")
	case len(l.userData) > 16<<10:
		return refuse("InvalidParameterValue", "User data is limited to 16384 bytes")
	case l.key != "" && !slices.Contains(r.keys, l.key):
		return refuse("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", l.key)
	case l.hops < 1 || l.hops > 64:
		return refuse("InvalidParameterValue", "The hop limit is not between 1 and 64")
	case r.has("MetadataOptions.HttpTokens") && l.tokens != "required" && l.tokens != "optional":
		return refuse("InvalidParameterValue", "HttpTokens is neither required nor optional")
	case l.placement != "" && r.placement(l.placement) == nil:
		return refuse("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", l.placement)
	case l.spot && r.str("InstanceMarketOptions.SpotOptions.SpotInstanceType") == "persistent":
		return refuse("InvalidParameterValue", "this cloud has no persistent spot requests")
	}
	return nil
}

// readNetwork reads where the instance's interface is.
func (r *request) readNetwork(l *launch) error {
	interfaces, id := r.items("NetworkInterface"), r.str("SubnetId")
	l.groups = r.list("SecurityGroupId")
	if len(interfaces) > 1 {
		return refuse("InvalidParameterValue", "this cloud knows one interface")
	}
	for _, n := range interfaces {
		if id != "" || len(l.groups) > 0 {
			return refuse("InvalidParameterCombination",
				"Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request")
		}
		if n.str("DeviceIndex") != "0" {
			return refuse("InvalidParameterValue", "The first interface has device index 0")
		}
		id, l.groups, l.public = n.str("SubnetId"), n.list("SecurityGroupId"), n.flag("AssociatePublicIpAddress")
	}
	at := slices.IndexFunc(r.subnets, func(s Subnet) bool { return s.ID == id || id == "" && s.Default })
	if at < 0 {
		return refuse("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	l.subnet = r.subnets[at]
	for _, id := range l.groups {
		g := r.group(id)
		if g == nil || !r.knows(&g.thing) {
			return refuse("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if g.vpc != l.subnet.VPC {
			return refuse("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, l.subnet.ID)
		}
	}
	return nil
}

// checkPlacement refuses what a placement group cannot be: a cluster group in two zones.
func (r *request) checkPlacement(l *launch) error {
	if l.placement == "" || r.placement(l.placement).strategy != "cluster" {
		return nil
	}
	for _, i := range r.instances {
		if i.placement == l.placement && i.subnet.Zone != l.subnet.Zone && i.stateAt(r.now()) != stateTerminated {
			return refuse("InvalidParameterValue", "The cluster placement group '%s' is in %s", l.placement, i.subnet.Zone)
		}
	}
	return nil
}

// readDisks reads the volumes; the image's root is there in any case.
func (r *request) readDisks(l *launch) error {
	at := slices.IndexFunc(r.images, func(i image) bool { return i.id == l.image })
	root := volume{device: rootDevice, gib: r.images[at].gib, kind: "gp2", deleteOnEnd: true}
	var more []volume
	seen := map[string]bool{}
	for _, m := range r.items("BlockDeviceMapping") {
		v := volume{
			device: m.str("DeviceName"), gib: m.number("Ebs.VolumeSize", 0), kind: m.str("Ebs.VolumeType"),
			encrypted: m.flag("Ebs.Encrypted"), deleteOnEnd: m.flag("Ebs.DeleteOnTermination"),
		}
		switch {
		case v.device == "" || seen[v.device]:
			return refuse("InvalidBlockDeviceMapping", "The device '%s' is missing or given twice", v.device)
		case v.kind == "gp3" && m.has("Ebs.Iops") && m.number("Ebs.Iops", 0) < 3000:
			return refuse("InvalidParameterValue", "Volume iops of %s is too low", m.str("Ebs.Iops"))
		case v.device == rootDevice && v.gib == 0:
			v.gib = root.gib
		case v.device == rootDevice && v.gib < root.gib:
			return refuse("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot, expect size >= %dGB", v.gib, root.gib)
		case v.gib == 0:
			return refuse("MissingParameter", "The request must contain the parameter size or snapshotId")
		}
		seen[v.device] = true
		if v.device == rootDevice {
			root = v
		} else {
			more = append(more, v)
		}
	}
	l.disks = append([]volume{root}, more...)
	return nil
}

// rootDevice is where all images of the cloud have their root.
const rootDevice = "/dev/xvda"

func describeInstances(r *request) (any, error) {
	filters, err := r.filters("tag:", "client-token", "instance-state-name", "instance-id", "vpc-id", "subnet-id")
	if err != nil {
		return nil, err
	}
	ids := r.list("InstanceId")
	if len(ids) > 0 && r.has("MaxResults") {
		return nil, refuse("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	at := r.now().Add(-r.options.Lag)
	var found []xmlReservation
	for _, i := range r.instances {
		if !r.lists(&i.thing) || len(ids) > 0 && !slices.Contains(ids, i.id) {
			continue
		}
		if matches(filters, i.tags, func(name string) []string {
			return map[string][]string{
				"client-token": {i.token}, "instance-state-name": {i.stateAt(at)}, "instance-id": {i.id}, "vpc-id": {i.subnet.VPC}, "subnet-id": {i.subnet.ID},
			}[name]
		}) {
			found = append(found, r.reservation(i, at))
		}
	}
	if len(found) < len(ids) {
		return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", strings.Join(ids, ", "))
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlDescribeInstances{Reservations: part, Next: next}, err
}

// changeInstances finds the instances of a call that changes them, and asks whether that is allowed.
func (r *request) changeInstances() ([]*instance, error) {
	var all []*instance
	for _, id := range r.list("InstanceId") {
		i := r.instance(id)
		if i == nil || !r.knows(&i.thing) {
			return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		if err := r.allow(resource{kind: "instance", id: id, tags: i.tags}); err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, r.dryRun()
}

func terminateInstances(r *request) (any, error) {
	found, err := r.changeInstances()
	if err != nil {
		return nil, err
	}
	answer := xmlChanged{XMLName: xml.Name{Local: "TerminateInstancesResponse"}}
	for _, i := range found {
		before := i.stateAt(r.now())
		r.end(i, asked)
		answer.Items = append(answer.Items, xmlChange{i.id, xmlState(i.stateAt(r.now())), xmlState(before)})
	}
	return answer, nil
}

func startInstances(r *request) (any, error) {
	found, err := r.changeInstances()
	if err != nil {
		return nil, err
	}
	answer := xmlChanged{XMLName: xml.Name{Local: "StartInstancesResponse"}}
	now := r.now()
	for _, i := range found {
		before := i.stateAt(now)
		switch before {
		case stateStopped:
			i.becomes(now, statePending)
			i.events = append(i.events, event{at: now.Add(r.options.BootTime), state: stateRunning})
			i.started, i.reason = now, stateReason{}
			if i.launch.public && !r.hasAddress(i.id) {
				i.public = r.newPublic()
			}
		case statePending, stateRunning:
		default:
			return nil, refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.id)
		}
		answer.Items = append(answer.Items, xmlChange{i.id, xmlState(i.stateAt(now)), xmlState(before)})
	}
	return answer, nil
}

// stopInstances stops instances in as long as ending them takes.
func stopInstances(r *request) (any, error) {
	found, err := r.changeInstances()
	if err != nil {
		return nil, err
	}
	answer := xmlChanged{XMLName: xml.Name{Local: "StopInstancesResponse"}}
	now := r.now()
	for _, i := range found {
		before := i.stateAt(now)
		switch {
		case i.spot != nil:
			return nil, refuse("UnsupportedOperation", "The Spot Instance '%s' is of a one-time request; only those of persistent requests can be stopped.", i.id)
		case before == stateRunning:
			r.stop(i)
		case before != stateStopping && before != stateStopped:
			return nil, refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be stopped.", i.id)
		}
		answer.Items = append(answer.Items, xmlChange{i.id, xmlState(i.stateAt(now)), xmlState(before)})
	}
	return answer, nil
}

// getConsoleOutput says one line for every second since the instance was made.
func getConsoleOutput(r *request) (any, error) {
	i := r.instance(r.str("InstanceId"))
	if i == nil {
		return nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", r.str("InstanceId"))
	}
	if err := r.allow(resource{kind: "instance", id: i.id, tags: i.tags}); err != nil {
		return nil, err
	}
	if r.flag("Latest") && strings.HasPrefix(i.kind, "t2.") {
		return nil, refuse("UnsupportedOperation", "This operation is not supported for instances that are not built on Nitro")
	}
	text := ""
	for n := range int(r.now().Sub(i.made)/time.Second) + 1 {
		text += fmt.Sprintf("%s: line %d\r\n", i.tags["Name"], n)
	}
	text = text[max(0, len(text)-64<<10):]
	return xmlConsole{ID: i.id, Output: base64.StdEncoding.EncodeToString([]byte(text))}, nil
}

func createTags(r *request) (any, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	for _, id := range r.list("ResourceId") {
		t := r.thing(id)
		if t == nil || !r.knows(t) {
			return nil, refuse("InvalidInstanceID.NotFound", "The ID '%s' is not valid", id)
		}
		if err := r.allow(resource{kind: kindOf(id), id: id, tags: t.tags, asked: tags}); err != nil {
			return nil, err
		}
	}
	if err := r.dryRun(); err != nil {
		return nil, err
	}
	for _, id := range r.list("ResourceId") {
		maps.Copy(r.thing(id).tags, tags)
	}
	return xmlDone{XMLName: xml.Name{Local: "CreateTagsResponse"}, Return: true}, nil
}
