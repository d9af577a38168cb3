package ec2

import (
	"encoding/base64"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// launch is everything that a request for an instance says beside user-data and client token, with every name resolved:
// the same launch is the same request, whatever images and subnets there are since. It is kept on disk as JSON.
type launch struct {
	Image           string            `json:"image"`
	Type            string            `json:"type"`
	Spot            bool              `json:"spot,omitempty"`
	SpotMaxPrice    string            `json:"spot_max_price,omitempty"`
	Key             string            `json:"key,omitempty"`
	InstanceProfile string            `json:"instance_profile,omitempty"`
	HopLimit        int               `json:"hop_limit"`
	Disks           []disk            `json:"disks"`
	Subnets         []subnet          `json:"subnets"` // the first is asked for; the others are for when it has no room
	Groups          []string          `json:"groups"`
	Public          bool              `json:"public"`
	Placement       string            `json:"placement,omitempty"`
	Tags            map[string]string `json:"tags"`            // of everything that is made
	Marks           map[string]string `json:"marks,omitempty"` // more tags of the instance
}

// subnet is a subnet in its zone.
type subnet struct {
	ID   string `json:"id"`
	Zone string `json:"zone"`
	VPC  string `json:"vpc"`
	free int    // addresses when it was looked at
}

// disk is a volume under a name.
type disk struct {
	Device    string `json:"device"`
	GiB       int32  `json:"gib,omitempty"` // 0: as large as the image's
	Type      string `json:"type"`
	IOPS      int32  `json:"iops,omitempty"`
	MiBps     int32  `json:"mib_per_second,omitempty"`
	Encrypted bool   `json:"encrypted"`
	KMSKey    string `json:"kms_key,omitempty"`
}

// disks are the volumes that settings ask for.
func disks(s *Settings, rootDevice string) []disk {
	list := []disk{diskOf(rootDevice, s.Root)}
	for _, v := range s.Data {
		list = append(list, diskOf(v.Device, v.Volume))
	}
	return list
}

func diskOf(device string, v Volume) disk {
	kind := v.Type
	if kind == "" {
		kind = defaultVolumeType
	}
	return disk{
		Device: device, GiB: int32(v.Size.gib()), Type: kind, IOPS: int32(v.IOPS), MiBps: int32(v.Throughput),
		Encrypted: !v.Unencrypted, KMSKey: v.KMSKey,
	}
}

// spread orders subnets for a host: the first is the host's, and the others follow in turn. Hosts whose names end in
// numbers that follow each other are in zones that do. Of several subnets of a zone, hosts take turns.
func spread(subnets []subnet, host string) []subnet {
	byZone := map[string][]subnet{}
	var zones []string
	for _, s := range subnets {
		if byZone[s.Zone] == nil {
			zones = append(zones, s.Zone)
		}
		byZone[s.Zone] = append(byZone[s.Zone], s)
	}
	slices.Sort(zones)
	n := uint64(len(zones))
	if n == 0 {
		return nil
	}
	seat := seatOf(host)
	ordered := make([]subnet, 0, len(zones))
	for i := range n {
		in := byZone[zones[(seat+i)%n]]
		slices.SortFunc(in, func(a, b subnet) int { return strings.Compare(a.ID, b.ID) })
		ordered = append(ordered, in[seat/n%uint64(len(in))])
	}
	return ordered
}

// seatOf is a number that follows from a host's name and grows by one with the number at its end.
func seatOf(host string) uint64 {
	prefix := strings.TrimRight(host, "0123456789")
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(prefix))
	// A number that does not fit is a name like any other.
	number, err := strconv.ParseUint(host[len(prefix):], 10, 32)
	if err != nil && prefix != host {
		_, _ = sum.Write([]byte(host[len(prefix):]))
	}
	return uint64(sum.Sum32()) + number
}

// input is the request for the launch.
func (l launch) input(userData []byte, token string) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String(l.Image), InstanceType: types.InstanceType(l.Type),
		ClientToken:                       aws.String(token),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired,
			HttpPutResponseHopLimit: aws.Int32(int32(l.HopLimit)),
		},
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), SubnetId: aws.String(l.Subnets[0].ID), Groups: l.Groups,
			AssociatePublicIpAddress: aws.Bool(l.Public), DeleteOnTermination: aws.Bool(true),
		}},
		TagSpecifications: append(tagged(merged(l.Tags, l.Marks), types.ResourceTypeInstance),
			tagged(l.Tags, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface)...),
	}
	if len(userData) > 0 {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString(userData))
	}
	for _, d := range l.Disks {
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, d.mapping())
	}
	if l.Key != "" {
		in.KeyName = aws.String(l.Key)
	}
	if l.InstanceProfile != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String(l.InstanceProfile)}
	}
	if l.Placement != "" {
		in.Placement = &types.Placement{GroupName: aws.String(l.Placement)}
	}
	if l.Spot {
		l.bid(in)
	}
	return in
}

func (d disk) mapping() types.BlockDeviceMapping {
	ebs := &types.EbsBlockDevice{
		DeleteOnTermination: aws.Bool(true), VolumeType: types.VolumeType(d.Type),
	}
	if d.Encrypted { // of an encrypted snapshot EC2 refuses to be told "no"
		ebs.Encrypted = aws.Bool(true)
	}
	for _, number := range []struct {
		field **int32
		value int32
	}{{&ebs.VolumeSize, d.GiB}, {&ebs.Iops, d.IOPS}, {&ebs.Throughput, d.MiBps}} {
		if number.value != 0 {
			*number.field = aws.Int32(number.value)
		}
	}
	if d.KMSKey != "" {
		ebs.KmsKeyId = aws.String(d.KMSKey)
	}
	return types.BlockDeviceMapping{DeviceName: aws.String(d.Device), Ebs: ebs}
}

// bid asks for a spot instance. Its request ends with it; EC2 tags it too.
func (l launch) bid(in *ec2.RunInstancesInput) {
	spot := &types.SpotMarketOptions{
		SpotInstanceType: types.SpotInstanceTypeOneTime, InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorTerminate,
	}
	if l.SpotMaxPrice != "" {
		spot.MaxPrice = aws.String(l.SpotMaxPrice)
	}
	in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: types.MarketTypeSpot, SpotOptions: spot}
	in.TagSpecifications = append(in.TagSpecifications, tagged(l.Tags, types.ResourceTypeSpotInstancesRequest)...)
	in.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorTerminate // a one-time instance cannot be stopped
}

// marks are what an instance's tags say of how it was asked for.
func marks(s *Settings) map[string]string {
	tags := map[string]string{}
	if s.Address == addressElastic {
		tags[tagPhase] = phaseMaking
	}
	if !s.reachPublic() {
		tags[tagReach] = addressPrivate
	}
	return tags
}
