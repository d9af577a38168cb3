package ec2test

import (
	"encoding/xml"
	"net/netip"
	"strings"
	"time"
)

// The forms of answers about instances.
type (
	xmlRun struct {
		XMLName     xml.Name `xml:"RunInstancesResponse"`
		reservation xmlReservation
	}
	xmlDescribeInstances struct {
		XMLName      xml.Name         `xml:"DescribeInstancesResponse"`
		Reservations []xmlReservation `xml:"reservationSet>item"`
		Next         string           `xml:"nextToken,omitempty"`
	}
	xmlReservation struct {
		ID        string        `xml:"reservationId"`
		Owner     string        `xml:"ownerId"`
		Instances []xmlInstance `xml:"instancesSet>item"`
	}
	xmlInstance struct {
		ID         string         `xml:"instanceId"`
		Image      string         `xml:"imageId"`
		State      xmlInstState   `xml:"instanceState"`
		Key        string         `xml:"keyName,omitempty"`
		Type       string         `xml:"instanceType"`
		Launched   string         `xml:"launchTime"`
		Zone       string         `xml:"placement>availabilityZone"`
		Placement  string         `xml:"placement>groupName,omitempty"`
		Subnet     string         `xml:"subnetId,omitempty"`
		VPC        string         `xml:"vpcId,omitempty"`
		Private    string         `xml:"privateIpAddress,omitempty"`
		Public     string         `xml:"ipAddress,omitempty"`
		Lifecycle  string         `xml:"instanceLifecycle,omitempty"`
		Token      string         `xml:"clientToken"`
		Tags       []xmlTag       `xml:"tagSet>item"`
		Interfaces []xmlInterface `xml:"networkInterfaceSet>item"`
		HTTPTokens string         `xml:"metadataOptions>httpTokens"`
		HopLimit   int            `xml:"metadataOptions>httpPutResponseHopLimit"`
		Reason     *stateReason   `xml:"stateReason"`
	}
	xmlInstState struct {
		Code int    `xml:"code"`
		Name string `xml:"name"`
	}
	xmlInterface struct {
		ID       string `xml:"networkInterfaceId"`
		Subnet   string `xml:"subnetId"`
		Index    int    `xml:"attachment>deviceIndex"`
		Attached string `xml:"attachment>attachTime"`
		Status   string `xml:"attachment>status"`
	}
	xmlChanged struct {
		XMLName xml.Name
		Items   []xmlChange `xml:"instancesSet>item"`
	}
	xmlChange struct {
		ID     string       `xml:"instanceId"`
		Now    xmlInstState `xml:"currentState"`
		Before xmlInstState `xml:"previousState"`
	}
	xmlConsole struct {
		XMLName xml.Name `xml:"GetConsoleOutputResponse"`
		ID      string   `xml:"instanceId"`
		Output  string   `xml:"output"`
	}
	xmlDone struct {
		XMLName xml.Name
		Return  bool `xml:"return"`
	}
)

// MarshalXML writes the reservation's fields into the answer itself.
func (x xmlRun) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	return e.EncodeElement(x.reservation, xml.StartElement{Name: xml.Name{Local: "RunInstancesResponse"}})
}

// xmlState is a state with its number.
func xmlState(state string) xmlInstState {
	return xmlInstState{Name: state, Code: map[string]int{
		statePending: 0, stateRunning: 16, stateShuttingDown: 32, stateTerminated: 48, stateStopping: 64, stateStopped: 80,
	}[state]}
}

func (c *Cloud) reservation(i *instance, at time.Time) xmlReservation {
	state := i.stateAt(at)
	x := xmlInstance{
		ID: i.id, Image: i.image, State: xmlState(state), Key: i.key, Type: i.kind, Launched: stamp(i.started),
		Zone: i.subnet.Zone, Placement: i.placement, Subnet: i.subnet.ID, VPC: i.subnet.VPC, Token: i.token, Tags: xmlTags(i.tags),
		HTTPTokens: i.tokens, HopLimit: i.hops, Private: text(i.private),
	}
	if i.spot != nil {
		x.Lifecycle = "spot"
	}
	if i.reason != (stateReason{}) {
		x.Reason = &i.reason
	}
	if state != statePending || c.hasAddress(i.id) {
		x.Public = text(i.public)
	}
	for _, n := range c.interfaces {
		if n.instance == i.id {
			x.Interfaces = append(x.Interfaces, xmlInterface{ID: n.id, Subnet: n.subnet.ID, Attached: stamp(n.attached), Status: "attached"})
		}
	}
	return xmlReservation{ID: "r-" + strings.TrimPrefix(i.id, "i-"), Owner: Account, Instances: []xmlInstance{x}}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// typeInfo is what is known of an instance type.
type typeInfo struct {
	name          string
	architectures []string
	lacks         string // last letter of a zone that does not have it
}

var instanceTypes = []typeInfo{
	{name: "t3.small", architectures: []string{"x86_64"}},
	{name: "t3.micro", architectures: []string{"x86_64"}},
	{name: "t2.small", architectures: []string{"x86_64"}},
	{name: "m7g.large", architectures: []string{"arm64"}},
	{name: "c7a.large", architectures: []string{"x86_64"}, lacks: "c"},
}

func typeOf(name string) *typeInfo {
	for _, t := range instanceTypes {
		if t.name == name {
			return &t
		}
	}
	return nil
}

// kindOf tells what an ID names.
func kindOf(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	return map[string]string{
		"i": "instance", "vol": "volume", "eni": "network-interface", "eipalloc": "elastic-ip", "sg": "security-group",
		"pg": "placement-group", "sir": "spot-instances-request", "subnet": "subnet", "vpc": "vpc", "ami": "image",
	}[prefix]
}
