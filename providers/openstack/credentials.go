package openstack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"

	"github.com/musterhq/muster/providers"
)

// credentials is what it takes to log in. It holds secrets and is never printed or kept.
type credentials struct {
	auth     gophercloud.AuthOptions
	endpoint gophercloud.EndpointOpts
	tls      *tls.Config
}

// environmentCloud is the name under which the OS_* variables stand as a cloud of their own.
const environmentCloud = "environment"

// credentials reads clouds.yaml, or the OS_* variables when no cloud is named. Both say the same things in the same
// words (https://docs.openstack.org/python-openstackclient/latest/cli/man/openstack.html), so both are read as one.
func (p *Provider) credentials(ctx context.Context) (credentials, error) {
	var options []clouds.ParseOption
	name := cmp.Or(p.config.Cloud, os.Getenv("OS_CLOUD"))
	switch {
	case name != "":
		options = append(options, clouds.WithCloudName(name))
	case os.Getenv("OS_AUTH_URL") == "":
		return credentials{}, fmt.Errorf("no credentials: set `cloud` to the name of a cloud in clouds.yaml, or OS_CLOUD, or OS_AUTH_URL and its like: %w",
			providers.ErrAuth)
	default:
		text, err := environment()
		if err != nil {
			return credentials{}, err
		}
		options = append(options, clouds.WithCloudName(environmentCloud), clouds.WithCloudsYAML(bytes.NewReader(text)))
	}
	if p.config.File != "" {
		options = append(options, clouds.WithLocations(p.file(p.config.File)))
	}
	if p.config.Region != "" {
		options = append(options, clouds.WithRegion(p.config.Region))
	}
	if p.config.Interface != "" {
		options = append(options, clouds.WithEndpointType(p.config.Interface))
	}
	if p.config.CACert != "" {
		options = append(options, clouds.WithCACertPath(p.file(p.config.CACert)))
	}
	auth, endpoint, tlsConfig, err := clouds.Parse(options...)
	if err != nil {
		return credentials{}, fmt.Errorf("cannot read the credentials of cloud %s: %w: %w",
			cmp.Or(name, "in the environment"), err, providers.ErrAuth)
	}
	// A token without a scope is used as it is; with everything else one can log in again when the token has expired.
	auth.AllowReauth = auth.TokenID == "" || auth.Scope != nil
	if tlsConfig != nil && tlsConfig.InsecureSkipVerify {
		p.log.WarnContext(ctx, "the cloud's certificates are not verified, as clouds.yaml or OS_INSECURE asks for", "provider",
			p.name)
	}
	return credentials{auth: auth, endpoint: endpoint, tls: tlsConfig}, nil
}

// environment writes the OS_* variables as clouds.yaml. JSON is YAML.
func environment() ([]byte, error) {
	cloud := clouds.Cloud{
		AuthInfo: &clouds.AuthInfo{
			AuthURL:                     os.Getenv("OS_AUTH_URL"),
			Token:                       os.Getenv("OS_TOKEN"),
			Username:                    os.Getenv("OS_USERNAME"),
			UserID:                      cmp.Or(os.Getenv("OS_USER_ID"), os.Getenv("OS_USERID")),
			Password:                    os.Getenv("OS_PASSWORD"),
			ApplicationCredentialID:     os.Getenv("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName:   os.Getenv("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialSecret: os.Getenv("OS_APPLICATION_CREDENTIAL_SECRET"),
			SystemScope:                 os.Getenv("OS_SYSTEM_SCOPE"),
			ProjectName:                 cmp.Or(os.Getenv("OS_PROJECT_NAME"), os.Getenv("OS_TENANT_NAME")),
			ProjectID:                   cmp.Or(os.Getenv("OS_PROJECT_ID"), os.Getenv("OS_TENANT_ID")),
			UserDomainName:              os.Getenv("OS_USER_DOMAIN_NAME"),
			UserDomainID:                os.Getenv("OS_USER_DOMAIN_ID"),
			ProjectDomainName:           os.Getenv("OS_PROJECT_DOMAIN_NAME"),
			ProjectDomainID:             os.Getenv("OS_PROJECT_DOMAIN_ID"),
			DomainName:                  os.Getenv("OS_DOMAIN_NAME"),
			DomainID:                    os.Getenv("OS_DOMAIN_ID"),
		},
		RegionName:     os.Getenv("OS_REGION_NAME"),
		Interface:      cmp.Or(os.Getenv("OS_INTERFACE"), os.Getenv("OS_ENDPOINT_TYPE")),
		CACertFile:     os.Getenv("OS_CACERT"),
		ClientCertFile: os.Getenv("OS_CERT"),
		ClientKeyFile:  os.Getenv("OS_KEY"),
	}
	if insecure, err := strconv.ParseBool(os.Getenv("OS_INSECURE")); err == nil && insecure {
		verify := false
		cloud.Verify = &verify
	}
	text, err := json.Marshal(clouds.Clouds{Clouds: map[string]clouds.Cloud{environmentCloud: cloud}})
	if err != nil {
		return nil, fmt.Errorf("cannot read the OS_* variables: %w", err)
	}
	return text, nil
}
