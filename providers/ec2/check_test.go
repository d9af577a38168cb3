package ec2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		settings *Settings
		config   func(*Config)
		options  ec2test.Options
		want     error
		says     string
	}{
		"fine":            {settings: tiny()},
		"fine, elastic":   {settings: tiny(elastic)},
		"fine, spot":      {settings: tiny(spot)},
		"fine, parameter": {settings: tiny(func(s *Settings) { s.Image.ID, s.Image.Parameter = "", ec2test.Parameter })},
		"fine, by name":   {settings: tiny(func(s *Settings) { s.Image.ID, s.Image.Name = "", "tiny-linux-*" })},
		"fine, other VPC": {
			settings: tiny(func(s *Settings) { s.SubnetTags = map[string]string{"tier": "hosts"} }),
			config:   func(c *Config) { c.VPC = ec2test.OtherVPC },
		},
		"fine, by a role": {settings: tiny(), config: func(c *Config) { c.AssumeRole.ARN = "arn:aws:iam::" + ec2test.Account + ":role/muster" }},
		"no such image": {
			settings: tiny(func(s *Settings) { s.Image.ID, s.Image.Name = "", "tiny-linux-1.3" }), want: providers.ErrNotFound,
			says: "image tiny-linux-1.3 not found in region eu-test-1; nearest names: tiny-linux-1.2, tiny-linux-1.1",
		},
		"no such image ID": {
			settings: tiny(func(s *Settings) { s.Image.ID = "ami-00000000000000009" }), want: providers.ErrNotFound,
			says: "image ami-00000000000000009 not found in region eu-test-1; nearest names: tiny-linux-1.2 (ami-00000000000000001)",
		},
		"no such parameter": {
			settings: tiny(func(s *Settings) { s.Image.ID, s.Image.Parameter = "", "/nowhere" }), want: providers.ErrNotFound,
			says: "parameter /nowhere not found in region eu-test-1",
		},
		"no such type": {settings: tiny(func(s *Settings) { s.Type = "x9.tiny" }), want: providers.ErrNotFound, says: "has no instance type x9.tiny"},
		"type not in the zone": {
			settings: tiny(func(s *Settings) { s.Type, s.Subnets = "c7a.large", []string{"subnet-00000000000000003"} }),
			want:     providers.ErrNotFound, says: "is not in eu-test-1c, but in eu-test-1a, eu-test-1b",
		},
		"another architecture": {settings: tiny(func(s *Settings) { s.Type = "m7g.large" }), want: providers.ErrInvalid, says: "is for x86_64"},
		"root too small":       {settings: tiny(func(s *Settings) { s.Root.Size = 2 << 30 }), want: providers.ErrInvalid, says: "needs 8GiB"},
		"no such key":          {settings: tiny(func(s *Settings) { s.Key = "nobody" }), want: providers.ErrNotFound, says: "import the key pair"},
		"no such subnet": {
			settings: tiny(func(s *Settings) { s.Subnets = []string{"subnet-0000000000000abcd"} }), want: providers.ErrNotFound,
		},
		"subnets of two VPCs": {
			settings: tiny(func(s *Settings) { s.Subnets = []string{"subnet-00000000000000001", "subnet-00000000000000011"} }),
			want:     providers.ErrInvalid, says: "are in different VPCs",
		},
		"subnets of another VPC": {
			settings: tiny(func(s *Settings) { s.Subnets = []string{"subnet-00000000000000001"} }),
			config:   func(c *Config) { c.VPC = ec2test.OtherVPC }, want: providers.ErrInvalid, says: "and `vpc` is " + ec2test.OtherVPC,
		},
		"members cannot meet": {
			settings: tiny(), config: func(c *Config) { c.Allow.Members = nil }, want: providers.ErrInvalid, says: "set `allow.members`",
		},
		"nobody comes in": {settings: tiny(), config: func(c *Config) { c.Allow.API = nil }, want: providers.ErrInvalid, says: "set `allow.api`"},
		"too few addresses": {
			settings: tiny(elastic), options: ec2test.Options{AddressQuota: 1}, want: providers.ErrQuota, says: "the account may have 1 elastic addresses, others use 1",
		},
		"no such role": {
			settings: tiny(), config: func(c *Config) { c.AssumeRole.ARN = "arn:aws:iam::999999999999:role/muster" }, want: providers.ErrAuth,
			says: "cannot get AWS credentials",
		},
		"no credentials": {
			settings: tiny(), config: func(c *Config) { c.AccessKeyID = "" }, want: providers.ErrAuth, says: "set `profile`, or AWS_ACCESS_KEY_ID",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t, tt.options)
			a.PlantAddress(nil)
			before := len(a.Resources())
			p := a.open(t, func(c *Config) {
				if tt.config != nil {
					tt.config(c)
				}
				if c.AccessKeyID == "" {
					c.SecretAccessKey = NewConfig().SecretAccessKey
				}
			})
			err := p.Check(t.Context(), []any{tt.settings})
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
			if after := len(a.Resources()); after != before {
				t.Errorf("a check made %d resources", after-before)
			}
		})
	}
}

// TestCheckCountsAddresses compares hosts to come with the room in their subnets, in which some of them are already.
func TestCheckCountsAddresses(t *testing.T) {
	a := newAccount(t, ec2test.Options{SubnetRoom: 4})
	s, two := tiny(), tiny(func(s *Settings) { s.Subnets = []string{"subnet-00000000000000001", "subnet-00000000000000002"} })
	for _, tt := range []struct {
		hosts []any
		want  error
	}{
		{slices.Repeat([]any{s}, 12), nil},
		{slices.Repeat([]any{s}, 13), providers.ErrQuota},
		{append(slices.Repeat([]any{two}, 8), s, s), nil},
		{append(slices.Repeat([]any{two}, 9), s, s), providers.ErrQuota},
	} {
		err := a.open(t).Check(t.Context(), tt.hosts)
		if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), "free addresses") {
			t.Errorf("%d hosts: %v", len(tt.hosts), err)
		}
	}
	for n := range 12 {
		mustCreate(t, patient(a.open(t)), request(fmt.Sprintf("web-%d", n+1), s))
	}
	if err := a.open(t).Check(t.Context(), slices.Repeat([]any{s}, 12)); err != nil {
		t.Errorf("with the hosts there: %v", err)
	}
	if _, err := patient(a.open(t)).Create(t.Context(), request("web-13", s)); !errors.Is(err, providers.ErrQuota) {
		t.Errorf("in full subnets: %v", err)
	}
}

// TestCheckMissesRights takes each right away that a check can know of.
func TestCheckMissesRights(t *testing.T) {
	placed := tiny(elastic)
	placed.Placement = placementSpread
	parameter := tiny(spot, func(s *Settings) { s.Image.ID, s.Image.Parameter = "", ec2test.Parameter })
	unknown := []string{ // of what exists alone, only logged, or for other settings
		"ec2:AssociateAddress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CancelSpotInstanceRequests", "ec2:DeleteNetworkInterface",
		"ec2:DeletePlacementGroup", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume", "ec2:DescribeSpotPriceHistory",
		"ec2:DisassociateAddress", "ec2:GetConsoleOutput", "ec2:ReleaseAddress", "ec2:RevokeSecurityGroupIngress",
		"ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "ec2:DescribeVpcs",
	}
	for _, right := range lacking(allowed(t), unknown) {
		a := newAccount(t, ec2test.Options{})
		poor, err := ec2test.New(ec2test.Options{Policy: bytes.ReplaceAll(policyJSON, []byte(`"`+right+`"`), []byte(`"ec2:DescribeNothing"`))})
		if err != nil {
			t.Fatal(err)
		}
		a.serve(t, poor)
		err = a.open(t).Check(t.Context(), []any{placed, parameter})
		if !errors.Is(err, providers.ErrAuth) || !strings.Contains(err.Error(), right) || !strings.Contains(err.Error(), "policy.json") {
			t.Errorf("without %s: %v", right, err)
		}
	}
}
