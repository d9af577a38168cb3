package ec2

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

func fields(problems []providers.Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, p.Field)
	}
	slices.Sort(all)
	return all
}

func TestValidateConfig(t *testing.T) {
	for _, tt := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(*Config) {}, nil},
		{func(c *Config) { c.AccessKeyID, c.SecretAccessKey = "AKID", secret.New("s") }, nil},
		{func(c *Config) { c.AccessKeyID = "AKID" }, []string{"secret_access_key"}},
		{func(c *Config) { c.AccessKeyID, c.SecretAccessKey, c.Profile = "AKID", secret.New("s"), "lab" }, []string{"profile"}},
		{func(c *Config) { c.Region, c.VPC = "EU West", "default" }, []string{"region", "vpc"}},
		{func(c *Config) { c.Endpoint, c.Endpoints.SSM = "ec2.test", "ftp://x" }, []string{"endpoint", "endpoints.ssm"}},
		{func(c *Config) { c.AssumeRole.ARN, c.AssumeRole.Duration = "role", time.Minute }, []string{"assume_role.arn", "assume_role.duration"}},
		{func(c *Config) { c.Allow.API, c.Allow.SSH = []string{"10.0.0.1/8"}, []string{"home"} }, []string{"allow.api[0]", "allow.ssh[0]"}},
		{func(c *Config) { c.Allow.Members, c.Allow.APIPort = []string{"2001:db8::/32"}, 0 }, []string{"allow.api_port"}},
	} {
		c := NewConfig()
		tt.change(c)
		if got := fields(c.Validate()); !slices.Equal(got, tt.want) {
			t.Errorf("problems with %v, want %v", got, tt.want)
		}
	}
}

func TestValidateSettings(t *testing.T) {
	for _, tt := range []struct {
		change func(*Settings)
		want   []string
	}{
		{func(*Settings) {}, nil},
		{func(s *Settings) { s.Image.ID = "" }, []string{"image"}},
		{func(s *Settings) { s.Image.Name = "debian-*" }, []string{"image"}},
		{func(s *Settings) { s.Image.ID, s.Image.Owner = "debian", "debian" }, []string{"image.id", "image.owner"}},
		{func(s *Settings) { s.Type, s.HopLimit = "big", 0 }, []string{"metadata_hop_limit", "type"}},
		{func(s *Settings) { s.SpotMaxPrice = "cheap" }, []string{"spot_max_price", "spot_max_price"}},
		{func(s *Settings) { s.Root.Type, s.Root.Size = "ssd", 1<<30+1 }, []string{"root.size", "root.type"}},
		{func(s *Settings) { s.Root.Type, s.Root.IOPS = "st1", 100 }, []string{"root.iops"}},
		{func(s *Settings) { s.Root.Type = "io2" }, []string{"root.iops"}},
		{func(s *Settings) { s.Root.Unencrypted, s.Root.KMSKey = true, "alias/x" }, []string{"root.kms_key"}},
		{func(s *Settings) { s.Data = []DataVolume{{Device: "/dev/sdf", Volume: Volume{Size: 1 << 30}}} }, nil},
		{
			func(s *Settings) { s.Data = []DataVolume{{}, {Device: "disk", Volume: Volume{Size: 1 << 30}}} },
			[]string{"data[0].device", "data[0].size", "data[1].device"},
		},
		{func(s *Settings) { s.Subnets, s.SubnetTags = []string{"a"}, map[string]string{"b": "c"} }, []string{"subnet_tags", "subnets[0]"}},
		{func(s *Settings) { s.SecurityGroups, s.Address = []string{"default"}, "none" }, []string{"address", "security_groups[0]"}},
		{func(s *Settings) { s.Address, s.Reach = addressPrivate, addressPublic }, []string{"reach"}},
		{func(s *Settings) { s.Placement, s.PlacementGroup = placementSpread, "mine" }, []string{"placement_group"}},
		{func(s *Settings) { s.Placement = "near" }, []string{"placement"}},
		{
			func(s *Settings) {
				s.Tags = map[string]string{"muster.host": "x", "AWS:x": "y", "team": "billing", "": "x"}
			},
			[]string{"tags.", "tags.AWS:x", "tags.muster.host"},
		},
	} {
		s := tiny(tt.change)
		if got := fields(s.Validate()); !slices.Equal(got, tt.want) {
			t.Errorf("problems with %v, want %v: %+v", got, tt.want, s)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c := NewConfig()
	c.SecretAccessKey, c.SessionToken = secret.New("canary-key"), secret.New("canary-token")
	if text := fmt.Sprintf("%v %+v %#v", c, *c, c); strings.Contains(text, "canary") {
		t.Errorf("shown: %s", text)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"20GiB": 20 << 30, "1TiB": 1 << 40, "8 GiB": 8 << 30} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %s, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "20", "20GB", "0GiB", "-1GiB", "99999999999999999999TiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %s", text, s)
		}
	}
}
