package ec2test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

var catalogActions = map[string]action{
	"DescribeImages": {do: describeImages, params: []string{
		"ImageId.#", "Owner.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"DescribeInstanceTypes": {do: describeTypes, params: []string{
		"InstanceType.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"DescribeInstanceTypeOfferings": {do: describeOfferings, params: []string{
		"LocationType", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"DescribeAccountAttributes": {do: describeAttributes, params: []string{"AttributeName.#"}},
	"DescribeSpotPriceHistory": {do: describePrices, params: []string{
		"InstanceType.#", "ProductDescription.#", "StartTime:time", "EndTime:time", "MaxResults:int", "NextToken",
	}},
	"DescribeSpotInstanceRequests": {do: describeSpots, params: []string{
		"SpotInstanceRequestId.#", "Filter.#.Name", "Filter.#.Value.#", "MaxResults:int", "NextToken",
	}},
	"CancelSpotInstanceRequests": {writes: true, do: cancelSpots, params: []string{"SpotInstanceRequestId.#!"}},
}

func describeImages(r *request) (any, error) {
	filters, err := r.filters("tag:", "name", "state", "architecture", "image-id")
	if err != nil {
		return nil, err
	}
	ids, owners := r.list("ImageId"), r.list("Owner")
	for _, id := range ids {
		if !slices.ContainsFunc(r.images, func(i image) bool { return i.id == id }) {
			return nil, refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
		}
	}
	var found []xmlImage
	for _, i := range r.images {
		owned := len(owners) == 0 || slices.Contains(owners, i.owner) || slices.Contains(owners, "self") && i.owner == Account
		if !owned || len(ids) > 0 && !slices.Contains(ids, i.id) || !matches(filters, nil, func(name string) []string {
			return map[string][]string{"name": {i.name}, "state": {"available"}, "architecture": {i.architecture}, "image-id": {i.id}}[name]
		}) {
			continue
		}
		found = append(found, xmlImage{
			ID: i.id, Name: i.name, Owner: i.owner, State: "available", Created: stamp(i.created), Architecture: i.architecture,
			RootType: "ebs", Root: rootDevice, Devices: []xmlDevice{{Device: rootDevice, GiB: i.gib}},
		})
	}
	part, next, err := page(r, found, 1, 1000)
	return xmlImages{Items: part, Next: next}, err
}

func describeTypes(r *request) (any, error) {
	answer := xmlTypes{}
	for _, name := range r.list("InstanceType") {
		t := typeOf(name)
		if t == nil {
			return nil, refuse("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
		answer.Items = append(answer.Items, xmlType{Name: t.name, Architectures: t.architectures})
	}
	return answer, nil
}

func describeOfferings(r *request) (any, error) {
	filters, err := r.filters("instance-type", "location")
	if err != nil {
		return nil, err
	}
	var found []xmlOffering
	for _, t := range instanceTypes {
		for _, zone := range []string{"a", "b", "c"} {
			location := r.options.Region + zone
			if t.lacks != zone && matches(filters, nil, func(name string) []string {
				return map[string][]string{"instance-type": {t.name}, "location": {location}}[name]
			}) {
				found = append(found, xmlOffering{Type: t.name, LocationType: "availability-zone", Location: location})
			}
		}
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlOfferings{Items: part, Next: next}, err
}

func describeAttributes(r *request) (any, error) {
	limit := r.options.AddressQuota
	if limit == 0 {
		limit = 5
	}
	return xmlAttributes{Items: []xmlAttribute{{Name: "vpc-max-elastic-ips", Values: []string{fmt.Sprint(limit)}}}}, nil
}

func describePrices(r *request) (any, error) {
	answer := xmlPrices{}
	for _, name := range r.list("InstanceType") {
		for _, zone := range []string{"a", "b", "c"} {
			answer.Items = append(answer.Items, xmlPrice{
				Type: name, Product: "Linux/UNIX", Price: "0.006200", At: stamp(r.now()), Zone: r.options.Region + zone,
			})
		}
	}
	return answer, nil
}

func describeSpots(r *request) (any, error) {
	filters, err := r.filters("tag:", "state", "instance-id")
	if err != nil {
		return nil, err
	}
	var found []xmlSpot
	for _, s := range r.spots {
		if r.lists(&s.thing) && matches(filters, s.tags, func(name string) []string {
			return map[string][]string{"state": {s.state}, "instance-id": {s.instance}}[name]
		}) {
			found = append(found, xmlSpot{ID: s.id, State: s.state, Instance: s.instance, Tags: xmlTags(s.tags)})
		}
	}
	part, next, err := page(r, found, 5, 1000)
	return xmlSpots{Items: part, Next: next}, err
}

func cancelSpots(r *request) (any, error) {
	var found []*spotRequest
	for _, id := range r.list("SpotInstanceRequestId") {
		at := slices.IndexFunc(r.spots, func(s *spotRequest) bool { return s.id == id })
		if at < 0 {
			return nil, refuse("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '%s' does not exist", id)
		}
		if err := r.allow(resource{kind: "spot-instances-request", id: id, tags: r.spots[at].tags}); err != nil {
			return nil, err
		}
		found = append(found, r.spots[at])
	}
	answer := xmlCancelled{}
	for _, s := range found {
		s.state = "cancelled"
		answer.Items = append(answer.Items, xmlSpot{ID: s.id, State: s.state})
	}
	return answer, r.dryRun()
}

// serveSSM answers GetParameter, which is JSON.
func (c *Cloud) serveSSM(w http.ResponseWriter, req *http.Request, target string, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := Call{Number: len(c.calls) + 1, Action: "ssm:" + target[strings.IndexByte(target, '.')+1:]}
	answer, err := c.parameter(req, target, body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if p := (*problem)(nil); errors.As(err, &p) {
		call.Code = p.code
		w.WriteHeader(p.status)
		answer = map[string]string{"__type": p.code, "message": p.message}
	}
	c.calls = append(c.calls, call)
	_ = json.NewEncoder(w).Encode(answer)
}

func (c *Cloud) parameter(req *http.Request, target string, body []byte) (any, error) {
	if err := c.signed(req, "ssm"); err != nil {
		return nil, err
	}
	var in struct{ Name string }
	if err := json.Unmarshal(body, &in); err != nil || target != "AmazonSSM.GetParameter" {
		return nil, refuse("SerializationException", "%s is not understood", target)
	}
	r := &request{Cloud: c, action: "GetParameter"}
	if err := r.allow(resource{service: "ssm", kind: "parameter", id: strings.TrimPrefix(in.Name, "/")}); err != nil {
		return nil, err
	}
	value, ok := c.parameters[in.Name]
	if !ok {
		return nil, refuse("ParameterNotFound", "")
	}
	return map[string]any{"Parameter": map[string]any{"Name": in.Name, "Type": "String", "Value": value, "Version": 1}}, nil
}

// serveSTS answers AssumeRole: the role's credentials have the same access key.
func (c *Cloud) serveSTS(w http.ResponseWriter, req *http.Request, values url.Values) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := Call{Number: len(c.calls) + 1, Action: "sts:AssumeRole"}
	err := c.signed(req, "sts")
	if err == nil && !strings.HasPrefix(values.Get("RoleArn"), "arn:aws:iam::"+Account+":role/") {
		err = &problem{code: "AccessDenied", message: "not authorized to perform sts:AssumeRole", status: http.StatusForbidden}
	}
	w.Header().Set("Content-Type", "text/xml")
	if p := (*problem)(nil); errors.As(err, &p) {
		call.Code = p.code
		w.WriteHeader(p.status)
		_, _ = fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", p.code, p.message)
	} else {
		_, _ = io.WriteString(w, "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>"+c.options.AccessKey+
			"</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>"+values.Get("RoleSessionName")+"</SessionToken><Expiration>"+
			c.now().Add(time.Hour).UTC().Format(time.RFC3339)+"</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>")
	}
	c.calls = append(c.calls, call)
}

// The forms of answers about what an account may use.
type (
	xmlImages struct {
		XMLName xml.Name   `xml:"DescribeImagesResponse"`
		Items   []xmlImage `xml:"imagesSet>item"`
		Next    string     `xml:"nextToken,omitempty"`
	}
	xmlImage struct {
		ID           string      `xml:"imageId"`
		Name         string      `xml:"name"`
		Owner        string      `xml:"imageOwnerId"`
		State        string      `xml:"imageState"`
		Created      string      `xml:"creationDate"`
		Architecture string      `xml:"architecture"`
		RootType     string      `xml:"rootDeviceType"`
		Root         string      `xml:"rootDeviceName"`
		Devices      []xmlDevice `xml:"blockDeviceMapping>item"`
	}
	xmlDevice struct {
		Device string `xml:"deviceName"`
		GiB    int    `xml:"ebs>volumeSize"`
	}
	xmlTypes struct {
		XMLName xml.Name  `xml:"DescribeInstanceTypesResponse"`
		Items   []xmlType `xml:"instanceTypeSet>item"`
	}
	xmlType struct {
		Name          string   `xml:"instanceType"`
		Architectures []string `xml:"processorInfo>supportedArchitectures>item"`
	}
	xmlOfferings struct {
		XMLName xml.Name      `xml:"DescribeInstanceTypeOfferingsResponse"`
		Items   []xmlOffering `xml:"instanceTypeOfferingSet>item"`
		Next    string        `xml:"nextToken,omitempty"`
	}
	xmlOffering struct {
		Type         string `xml:"instanceType"`
		LocationType string `xml:"locationType"`
		Location     string `xml:"location"`
	}
	xmlAttributes struct {
		XMLName xml.Name       `xml:"DescribeAccountAttributesResponse"`
		Items   []xmlAttribute `xml:"accountAttributeSet>item"`
	}
	xmlAttribute struct {
		Name   string   `xml:"attributeName"`
		Values []string `xml:"attributeValueSet>item>attributeValue"`
	}
	xmlPrices struct {
		XMLName xml.Name   `xml:"DescribeSpotPriceHistoryResponse"`
		Items   []xmlPrice `xml:"spotPriceHistorySet>item"`
	}
	xmlPrice struct {
		Type    string `xml:"instanceType"`
		Product string `xml:"productDescription"`
		Price   string `xml:"spotPrice"`
		At      string `xml:"timestamp"`
		Zone    string `xml:"availabilityZone"`
	}
	xmlSpots struct {
		XMLName xml.Name  `xml:"DescribeSpotInstanceRequestsResponse"`
		Items   []xmlSpot `xml:"spotInstanceRequestSet>item"`
		Next    string    `xml:"nextToken,omitempty"`
	}
	xmlSpot struct {
		ID       string   `xml:"spotInstanceRequestId"`
		State    string   `xml:"state"`
		Instance string   `xml:"instanceId,omitempty"`
		Tags     []xmlTag `xml:"tagSet>item"`
	}
	xmlCancelled struct {
		XMLName xml.Name  `xml:"CancelSpotInstanceRequestsResponse"`
		Items   []xmlSpot `xml:"spotInstanceRequestSet>item"`
	}
)
