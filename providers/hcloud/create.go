package hcloud

import (
	"context"
	"fmt"
	"maps"
	"unicode/utf8"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// Create makes a host with one call, or adopts it when that is refused since its name is taken, or for any other reason that
// lies in what has become of the project since the host was made.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	if err := req.Validate(); err != nil {
		return providers.Instance{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	if !utf8.Valid(req.UserData) {
		return providers.Instance{}, fmt.Errorf("the user-data is not UTF-8, which is all that the API takes: %w", providers.ErrInvalid)
	}
	if req.UserData, err = userDataLimit.Fit(req.UserData); err != nil {
		return providers.Instance{}, fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	server, err := p.make(ctx, req, *settings)
	if refused(err) && ctx.Err() == nil {
		p.known.forget() // a name may mean something else now
		server, err = p.adopt(ctx, req.Identity, err)
	}
	if err != nil {
		return providers.Instance{}, err
	}
	return instance(req.Identity, server), nil
}

// adopt finds the host that a create was refused for. Without one, the refusal stands.
func (p *Provider) adopt(ctx context.Context, id providers.Identity, refusal error) (*api.Server, error) {
	server, err := p.find(ctx, id)
	switch {
	case err != nil || server != nil:
		return server, err
	case hasCode(refusal, api.ErrorCodeUniquenessError):
		return nil, fmt.Errorf("the host's name is taken by a server that is not shown yet: %w", providers.ErrUnavailable)
	default:
		return nil, refusal
	}
}

func (p *Provider) make(ctx context.Context, req providers.CreateRequest, s Settings) (*api.Server, error) {
	o := p.owner(req.Cluster)
	options, err := p.options(ctx, o, s)
	if err != nil {
		return nil, err
	}
	group, err := p.placement(ctx, o, s)
	if err != nil {
		return nil, err
	}
	options.Name, options.Labels, options.UserData = o.serverName(req.Identity), o.serverLabels(req.Identity), string(req.UserData)
	options.PlacementGroup = group
	if location := locationOf(req.Host, s.Locations); location != "" {
		options.Location = &api.Location{Name: location}
	}
	made, response, err := p.api.Server.Create(ctx, options)
	err = classified(ctx, response, err)
	if err != nil && group != nil {
		p.spread.giveBack(o, group.ID, hasCode(err, codeGroupFull))
	}
	if hasCode(err, codeGroupFull) && s.PlacementGroup != groupSpread {
		err = fmt.Errorf("placement group `%s` is full, it takes %d hosts: %w", s.PlacementGroup, groupSize, providers.ErrQuota)
	}
	return made.Server, err
}

// options looks up what a host is made of, and makes the cluster's firewall.
func (p *Provider) options(ctx context.Context, o owner, s Settings) (options api.ServerCreateOpts, err error) {
	if options.ServerType, err = p.serverType(ctx, s.ServerType); err != nil {
		return options, err
	}
	if options.Image, err = p.image(ctx, s, options.ServerType); err != nil {
		return options, err
	}
	if s.Network != "" {
		network, err := p.network(ctx, s.Network)
		if err != nil {
			return options, err
		}
		options.Networks = []*api.Network{network}
	}
	for _, name := range s.SSHKeys {
		key, err := p.sshKey(ctx, name)
		if err != nil {
			return options, err
		}
		options.SSHKeys = append(options.SSHKeys, key)
	}
	options.PublicNet = &api.ServerCreatePublicNet{EnableIPv4: s.PublicIPv4, EnableIPv6: s.PublicIPv6}
	if s.public() {
		options.Firewalls, err = p.firewallsOf(ctx, o, s)
	}
	return options, err
}

// merged is labels and, over them, more.
func merged(labels, more map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, labels)
	maps.Copy(all, more)
	return all
}
