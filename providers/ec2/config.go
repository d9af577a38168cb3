package ec2

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers"
)

// Config configures one provider: an account in a region, and a VPC there. What is left out is found as the AWS SDK finds
// it: in AWS_* variables, ~/.aws/config and ~/.aws/credentials, SSO, a web identity, a credential process, and the
// metadata services of containers and instances.
type Config struct {
	Region          string        `yaml:"region" jsonschema:"description=Region\\, by default AWS_REGION's or the profile's,example=eu-central-1"`
	Profile         string        `yaml:"profile" jsonschema:"description=Profile of ~/.aws/config,default=AWS_PROFILE's"`
	AccessKeyID     string        `yaml:"access_key_id" jsonschema:"description=Static credentials; better left to the SDK's own ways"`
	SecretAccessKey secret.Secret `yaml:"secret_access_key" jsonschema:"description=Goes with access_key_id"`
	SessionToken    secret.Secret `yaml:"session_token" jsonschema:"description=Goes with access_key_id when the credentials are temporary"`
	AssumeRole      AssumeRole    `yaml:"assume_role" jsonschema:"description=Role to work as\\, taken with the credentials found"`
	Endpoint        string        `yaml:"endpoint" jsonschema:"description=URL of another EC2 endpoint: a VPC endpoint\\, or a service that speaks EC2's API"`
	Endpoints       Endpoints     `yaml:"endpoints" jsonschema:"description=Other endpoints of the services that EC2 needs"`
	VPC             string        `yaml:"vpc" jsonschema:"description=ID of the VPC,default=the default VPC,example=vpc-0123456789abcdef0"`
	Allow           Allow         `yaml:"allow" jsonschema:"description=Whom the cluster's security group lets in beside its members"`
}

// AssumeRole is a role of AWS STS.
type AssumeRole struct {
	ARN         string        `yaml:"arn" jsonschema:"example=arn:aws:iam::123456789012:role/muster"`
	ExternalID  string        `yaml:"external_id" jsonschema:"description=What the role's trust policy may ask for"`
	SessionName string        `yaml:"session_name" jsonschema:"description=Name in the audit log,default=muster"`
	Duration    time.Duration `yaml:"duration" jsonschema:"type=string,description=How long a session lasts before it is renewed,default=1h"`
}

// Endpoints are URLs of other services.
type Endpoints struct {
	SSM string `yaml:"ssm" jsonschema:"description=Systems Manager\\, for image.parameter"`
	STS string `yaml:"sts" jsonschema:"description=Security Token Service\\, for assume_role"`
}

// Allow is whom the cluster's security group lets in. Networks are IPv4 or IPv6 prefixes.
type Allow struct {
	API     []string `yaml:"api" jsonschema:"description=Networks that reach the API port: those of operators,example=203.0.113.7/32"`
	SSH     []string `yaml:"ssh" jsonschema:"description=Networks that reach SSH (port 22); by default none"`
	Members []string `yaml:"members" jsonschema:"description=Networks whose hosts are members: those of other providers\\, and of this one's public addresses. They reach the API and etcd's ports\\, which ask for a certificate"`
	APIPort int      `yaml:"api_port" jsonschema:"description=The API port,minimum=1,maximum=65535,default=7400"`
}

// The ports of muster that are not configured, see Allow.
const (
	defaultAPIPort = 7400
	etcdClientPort = 2379
	etcdPeerPort   = 2380
	sshPort        = 22
)

const (
	defaultSessionName = "muster"
	defaultSession     = time.Hour
)

// NewConfig returns the defaults.
func NewConfig() *Config {
	return &Config{
		AssumeRole: AssumeRole{SessionName: defaultSessionName, Duration: defaultSession},
		Allow:      Allow{APIPort: defaultAPIPort},
	}
}

var (
	regionForm = regexp.MustCompile(`^[a-z0-9-]+$`)
	vpcForm    = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
	roleForm   = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::\d{12}:role/.+$`)
)

// problems collects what is wrong with a configuration or with settings.
type problems []providers.Problem

func (p *problems) add(field, hint, format string, args ...any) {
	*p = append(*p, providers.Problem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// form complains about a value that is given and does not match.
func (p *problems) form(field, value string, form *regexp.Regexp, example string) {
	if value != "" && !form.MatchString(value) {
		p.add(field, "write it as "+example, "%q does not look like one", value)
	}
}

// Validate reports what cannot be.
func (c *Config) Validate() []providers.Problem {
	var p problems
	p.form("region", c.Region, regionForm, "eu-central-1")
	p.form("vpc", c.VPC, vpcForm, "vpc-0123456789abcdef0")
	p.form("assume_role.arn", c.AssumeRole.ARN, roleForm, "arn:aws:iam::123456789012:role/NAME")
	if (c.AccessKeyID == "") != c.SecretAccessKey.IsZero() {
		p.add("secret_access_key", "give both or none", "`access_key_id` and `secret_access_key` belong together")
	}
	if c.AccessKeyID != "" && c.Profile != "" {
		p.add("profile", "keep one", "`profile` and `access_key_id` exclude each other")
	}
	if d := c.AssumeRole.Duration; d < 15*time.Minute || d > 12*time.Hour {
		p.add("assume_role.duration", "", "%s is not between 15m and 12h", d)
	}
	for _, at := range []struct{ field, url string }{
		{"endpoint", c.Endpoint}, {"endpoints.ssm", c.Endpoints.SSM}, {"endpoints.sts", c.Endpoints.STS},
	} {
		u, err := url.Parse(at.url)
		if at.url != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			p.add(at.field, "write it as https://HOST", "%q is not the URL of a service", at.url)
		}
	}
	c.Allow.validate(&p)
	return p
}

func (a Allow) validate(p *problems) {
	for _, each := range []struct {
		field    string
		networks []string
	}{{"allow.api", a.API}, {"allow.ssh", a.SSH}, {"allow.members", a.Members}} {
		for i, text := range each.networks {
			network, err := netip.ParsePrefix(text)
			switch {
			case err != nil:
				p.add(fmt.Sprintf("%s[%d]", each.field, i), "write it as 203.0.113.7/32", "%q is not a network", text)
			case network != network.Masked():
				p.add(fmt.Sprintf("%s[%d]", each.field, i), "write "+network.Masked().String(), "%s has bits set behind its mask", text)
			}
		}
	}
	if a.APIPort < 1 || a.APIPort > 65535 {
		p.add("allow.api_port", "", "%d is not a port", a.APIPort)
	}
}

// invalid makes an error of the first problem.
func invalid(found []providers.Problem) error {
	if len(found) == 0 {
		return nil
	}
	hint := ""
	if found[0].Hint != "" {
		hint = ", " + strings.TrimSuffix(found[0].Hint, ".")
	}
	return fmt.Errorf("`%s`: %s%s: %w", found[0].Field, found[0].Message, hint, providers.ErrInvalid)
}
