package openstack

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/musterhq/muster/providers"
)

// Create makes a host or adopts it. For a host in a virtual machine it makes five calls, one for every further network
// and one for a floating IP; images, flavors, networks and groups are looked up once in a while.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	if err := req.Validate(); err != nil {
		return providers.Instance{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return providers.Instance{}, err
	}
	unlock, err := p.hosts.Lock(ctx, req.ID())
	if err != nil {
		return providers.Instance{}, err
	}
	defer unlock()
	s, err := p.session(ctx)
	if err != nil {
		return providers.Instance{}, err
	}
	if settings.direct() {
		return p.createNode(ctx, s, req, *settings)
	}
	if req.UserData, err = p.UserDataLimit().Fit(req.UserData); err != nil {
		return providers.Instance{}, fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	made, err := p.createServer(ctx, s, req, *settings)
	if errors.Is(err, providers.ErrNotFound) || errors.Is(err, providers.ErrInvalid) {
		p.found.forget() // a name may mean something else now
	}
	return made, err
}

// createServer claims the host, makes what it needs and asks for its server.
func (p *Provider) createServer(
	ctx context.Context, s *session, req providers.CreateRequest, settings Settings,
) (providers.Instance, error) {
	what, err := p.lookUp(ctx, s, settings)
	if err != nil {
		return providers.Instance{}, err
	}
	o := p.owner(req.Cluster)
	groups := func(ctx context.Context) ([]string, error) { return p.groupsOf(ctx, s, o, settings) }
	claimed, err := p.claimHost(ctx, s, claimant{
		owner: o, id: req.Identity, network: what.networks[0], groups: groups,
		find: func(ctx context.Context) (*providers.Instance, error) { return p.findServer(ctx, s, o, req.Identity) },
	})
	if err != nil {
		return providers.Instance{}, err
	}
	if claimed.found != nil {
		return *claimed.found, nil
	}
	held := []ports.Port{claimed.port}
	made, asked, err := p.build(ctx, s, req, settings, what, &held)
	if err == nil {
		return made, nil
	}
	// What is known not to have been carried out leaves nothing. Of the rest nothing is known, and the claim stays.
	if !asked || refused(err) {
		for _, port := range slices.Backward(held) {
			if undo := s.releasePort(ctx, port, 0); undo != nil {
				p.log.WarnContext(ctx, "cannot remove the port of a host that was not made", "provider", p.name, "port", port.ID, "error", undo)
				p.claims.setLost(req.ID(), !asked)
				break
			}
		}
	}
	return providers.Instance{}, err
}

// ingredients are the IDs of what a host is made of.
type ingredients struct {
	image    string
	flavor   string
	networks []string
	external string // "": no floating IP
}

func (p *Provider) lookUp(ctx context.Context, s *session, settings Settings) (what ingredients, err error) {
	image, err := p.findImage(ctx, s, settings.Image)
	if err != nil {
		return what, err
	}
	if image.inactive {
		return what, fmt.Errorf("image %s is not active, so nothing can boot from it: %w",
			settings.Image, providers.ErrInvalid)
	}
	flavor, err := p.findFlavor(ctx, s, settings.Flavor)
	if err != nil {
		return what, err
	}
	what.image, what.flavor = image.id, flavor.id
	if what.networks, err = p.findNetworks(ctx, s, settings.Networks); err != nil {
		return what, err
	}
	if settings.FloatingIP != "" {
		external, err := p.findExternal(ctx, s, settings.FloatingIP)
		if err != nil {
			return what, err
		}
		what.external = external.id
	}
	return what, nil
}

// build makes a host's other ports and its floating IP, and asks for its server. asked tells whether that was sent.
func (p *Provider) build(
	ctx context.Context, s *session, req providers.CreateRequest, settings Settings, what ingredients, held *[]ports.Port,
) (made providers.Instance, asked bool, err error) {
	o := p.owner(req.Cluster)
	groups, err := p.groupsOf(ctx, s, o, settings)
	if err != nil {
		return made, false, err
	}
	hint, err := p.serverGroupOf(ctx, s, o, settings.ServerGroup)
	if err != nil {
		return made, false, err
	}
	for _, network := range what.networks[1:] {
		port, err := p.makePort(ctx, s, o, req.Identity, network, groups)
		if err != nil {
			return made, false, err
		}
		*held = append(*held, port)
	}
	if what.external != "" {
		if err := s.makeFloatingIP(ctx, o, what.external, (*held)[0].ID); err != nil {
			return made, false, err
		}
	}
	options := serverOptions(o, req, settings, what, *held)
	var hints servers.SchedulerHintOptsBuilder
	if hint != "" {
		hints = servers.SchedulerHintOpts{Group: hint}
	}
	keyed := keypairs.CreateOptsExt{CreateOptsBuilder: options, KeyName: settings.KeyPair}
	answer, err := servers.Create(ctx, s.compute, keyed, hints).Extract()
	if err != nil {
		return made, true, p.explainRefusal(classified(ctx, err))
	}
	return providers.Instance{
		Identity: req.Identity, ID: answer.ID, State: providers.StatePending, Created: p.now(),
	}, true, nil
}

// explainRefusal says what to do about refusals of Nova whose words do not.
func (p *Provider) explainRefusal(err error) error {
	if hasStatus(err, http.StatusNotAcceptable) {
		return fmt.Errorf("%w: Nova must speak version %s of its API, which came with Stein: %w",
			err, computeVersion, providers.ErrInvalid)
	}
	return err
}

// serverOptions are the body of the call that makes a server.
func serverOptions(
	o owner, req providers.CreateRequest, settings Settings, what ingredients, held []ports.Port,
) servers.CreateOpts {
	drive := settings.ConfigDrive || settings.metal()
	networks := make([]servers.Network, len(held))
	for i, port := range held {
		networks[i] = servers.Network{Port: port.ID}
	}
	options := servers.CreateOpts{
		Name:             req.Host,
		ImageRef:         what.image,
		FlavorRef:        what.flavor,
		Networks:         networks,
		Metadata:         serverMetadata(o, req.Identity, settings.Metadata),
		Tags:             []string{clusterTag(req.Cluster), identityTag(req.Identity)},
		ConfigDrive:      &drive,
		AvailabilityZone: zoneOf(req.Host, settings.AvailabilityZones),
		// The SDK passes on what looks like base64, and encodes the rest: user-data that looks so would be lost.
		UserData: []byte(base64.StdEncoding.EncodeToString(req.UserData)),
	}
	if volume := settings.BootVolume; volume != nil {
		options.ImageRef = ""
		options.BlockDevice = []servers.BlockDevice{{
			SourceType: servers.SourceImage, DestinationType: servers.DestinationVolume, UUID: what.image,
			VolumeSize: volume.Size, VolumeType: volume.Type, DeleteOnTermination: !volume.Keep,
		}}
	}
	return options
}
