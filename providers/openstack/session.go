package openstack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/musterhq/muster/providers"
)

// The versions of the APIs that are spoken.
const (
	computeVersion = "2.67" // volume types in block devices (Nova, Stein); server tags in the create call are 2.52
	metalVersion   = "1.58" // allocations are 1.52, config drives built by the service 1.56 (Ironic, Train)
)

// session is a login: clients of the services. Clients renew their token.
type session struct {
	region    string
	project   string
	roles     []string
	compute   *gophercloud.ServiceClient
	network   *gophercloud.ServiceClient
	image     *gophercloud.ServiceClient
	volume    *gophercloud.ServiceClient // nil: the cloud has none
	baremetal *gophercloud.ServiceClient // nil: not configured
}

// session logs in once. A login that failed is tried again by the next call.
func (p *Provider) session(ctx context.Context) (*session, error) {
	unlock, err := p.shared.Lock(ctx, "session")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if p.login == nil {
		s, err := p.connect(ctx)
		if err != nil {
			return nil, err
		}
		p.login = s
	}
	return p.login, nil
}

func (p *Provider) connect(ctx context.Context) (*session, error) {
	given, err := p.credentials(ctx)
	if err != nil {
		return nil, err
	}
	client, err := openstack.NewClient(given.auth.IdentityEndpoint)
	if err != nil {
		return nil, fmt.Errorf("%q is no address of Keystone: %w", given.auth.IdentityEndpoint, providers.ErrInvalid)
	}
	client.HTTPClient = http.Client{Transport: newTurns(transport(given.tls, p.config.Timeout))}
	client.UserAgent.Prepend("muster")
	if err := openstack.Authenticate(ctx, client, given.auth); err != nil {
		return nil, fmt.Errorf("cannot log in at %s: %w", given.auth.IdentityEndpoint, loginRefused(classified(ctx, err)))
	}
	return p.services(ctx, client, given.endpoint)
}

// loginRefused says that a login for which Keystone finds nothing is none: a token that it does not know is a 404.
func loginRefused(err error) error {
	var refusal *apiError
	if errors.As(err, &refusal) && refusal.status == http.StatusNotFound {
		refusal.class = providers.ErrAuth
	}
	return err
}

// services looks the endpoints up in the catalogue that came with the token.
func (p *Provider) services(
	ctx context.Context, client *gophercloud.ProviderClient, at gophercloud.EndpointOpts,
) (*session, error) {
	s := &session{region: at.Region}
	if err := s.readToken(client); err != nil {
		return nil, err
	}
	for _, each := range []struct {
		name     string
		open     func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
		client   **gophercloud.ServiceClient
		optional bool
	}{
		{"compute", openstack.NewComputeV2, &s.compute, false},
		{"network", openstack.NewNetworkV2, &s.network, false},
		{"image", openstack.NewImageV2, &s.image, false},
		{"block-storage", openstack.NewBlockStorageV3, &s.volume, true},
		{"baremetal", openstack.NewBareMetalV1, &s.baremetal, false},
	} {
		if each.name == "baremetal" && !p.config.Baremetal {
			continue
		}
		service, err := each.open(client, at)
		var none *gophercloud.ErrEndpointNotFound
		switch {
		case err == nil:
			*each.client = service
		case errors.As(err, &none) && each.optional:
		case errors.As(err, &none):
			return nil, fmt.Errorf("the catalogue has no %s service%s, see `openstack catalog list`: %w",
				each.name, inRegion(at.Region), providers.ErrNotFound)
		default:
			return nil, fmt.Errorf("cannot find the %s service: %w", each.name, classified(ctx, err))
		}
	}
	s.compute.Microversion = computeVersion
	if s.baremetal != nil {
		s.baremetal.Microversion = metalVersion
	}
	return s, nil
}

// readToken reads whose the token is. Hosts are a project's, and a login may be for none.
func (s *session) readToken(client *gophercloud.ProviderClient) error {
	var token interface {
		ExtractProject() (*tokens.Project, error)
		ExtractRoles() ([]tokens.Role, error)
	}
	switch result := client.GetAuthResult().(type) {
	case tokens.CreateResult:
		token = result
	case tokens.GetResult: // of a token that was given
		token = result
	default:
		return nil
	}
	project, err := token.ExtractProject()
	if err != nil || project == nil || project.ID == "" {
		return fmt.Errorf("the login is for no project: set `project_name` in clouds.yaml, or OS_PROJECT_NAME: %w",
			providers.ErrAuth)
	}
	s.project = project.ID
	roles, err := token.ExtractRoles()
	if err != nil {
		return fmt.Errorf("cannot read the roles of the login: %w: %w", err, providers.ErrInvalid)
	}
	for _, role := range roles {
		s.roles = append(s.roles, role.Name)
	}
	return nil
}

// transport is how requests travel. Repeating one is the caller's business, and a request has no limit of its own but for
// the beginning of its answer: an image takes as long to upload as it takes.
func transport(config *tls.Config, timeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: timeout,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConns:          4 * maxRequests,
		MaxIdleConnsPerHost:   maxRequests,
		ForceAttemptHTTP2:     true,
	}
}

// maxRequests is how many requests are under way at a time. Small clouds answer more of them with errors, or not in time.
const maxRequests = 32

// turns is a transport on which requests wait for their turn, which counts for no time-out.
type turns struct {
	*http.Transport
	slots chan struct{}
}

func newTurns(t *http.Transport) *turns { return &turns{t, make(chan struct{}, maxRequests)} }

// RoundTrip implements http.RoundTripper.
func (t *turns) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
		return t.Transport.RoundTrip(r)
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

// isReader tells whether the account may look and not touch, as far as its roles' names say.
func (s *session) isReader() bool {
	return len(s.roles) > 0 && !slices.ContainsFunc(s.roles, func(role string) bool { return role != "reader" })
}
