package fake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/providers"
)

// serverName is the deterministic name by which a half-tagged server is known to be ours.
func serverName(id providers.Identity) string {
	return fmt.Sprintf("%s%s/%d", namePrefix(id.Cluster), id.Host, id.Generation)
}

func namePrefix(cluster string) string { return "muster/" + cluster + "/" }

// Create makes a server. With client tokens the cloud itself sees to it that there is one; without them the driver
// looks before and after, and of several it keeps the oldest.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (providers.Instance, error) {
	want, err := p.wanted(req)
	var server Server
	switch {
	case err != nil:
	case p.tokens:
		want.Token = req.ID()
		server, err = p.runOnce(ctx, want)
	default:
		server, err = p.lookAround(ctx, want)
	}
	if err == nil {
		err = p.complete(ctx, server, req.Identity)
	}
	if err != nil {
		return providers.Instance{}, err
	}
	return p.instance(server, req.Identity), nil
}

// wanted is the server that a request asks for.
func (p *Provider) wanted(req providers.CreateRequest) (Server, error) {
	if err := req.Validate(); err != nil {
		return Server{}, err
	}
	settings, err := settingsOf(req.Settings)
	if err != nil {
		return Server{}, err
	}
	server := Server{Name: serverName(req.Identity), UserData: req.UserData, Image: settings.Image, Size: settings.Size}
	if !p.cloud.faults.TwoStepTags {
		server.Tags = req.Tags()
	}
	return server, nil
}

func settingsOf(settings any) (*Settings, error) {
	switch s := settings.(type) {
	case nil:
		return NewSettings(), nil
	case *Settings:
		return s, nil
	default:
		return nil, fmt.Errorf("settings are a %T: %w", settings, providers.ErrInvalid)
	}
}

// runOnce makes a server in a cloud that knows a repeated request by its token.
func (p *Provider) runOnce(ctx context.Context, want Server) (Server, error) {
	made, err := p.cloud.run(ctx, want)
	if err == nil {
		err = p.step("made")
	}
	return made, err
}

// lookAround makes a server in a cloud that would make a second one: it adopts what there is, and after making one it
// looks again, because somebody else may have made one meanwhile, or before and the list did not show it yet. All come
// to the same choice: the server that was made first is kept, and whoever sees any sees that one.
func (p *Provider) lookAround(ctx context.Context, want Server) (Server, error) {
	found, err := p.named(ctx, want.Name)
	if err != nil {
		return Server{}, err
	}
	if len(found) > 0 {
		return p.keepOldest(ctx, found)
	}
	made, err := p.cloud.run(ctx, want)
	if errors.Is(err, providers.ErrUnavailable) {
		// Something may have been made. Whoever repeats the call must see it, else it could adopt another and leave this.
		_ = providers.Pause(ctx, p.cloud.faults.LateListing)
	}
	if err == nil {
		err = p.step("made")
	}
	if err == nil {
		found, err = p.lookAfter(ctx, made)
	}
	if err != nil {
		return Server{}, err
	}
	if found[0].ID != made.ID {
		found = append(found, made) // ours may still be hidden
	}
	return p.keepOldest(ctx, found)
}

// lookAfter waits until a server of made's name is listed.
func (p *Provider) lookAfter(ctx context.Context, made Server) ([]Server, error) {
	for {
		overdue := p.cloud.now().Sub(made.Created) >= p.cloud.faults.LateListing
		found, err := p.named(ctx, made.Name)
		if err != nil || len(found) > 0 {
			return found, err
		}
		if overdue {
			return nil, fmt.Errorf("server %s was ended by somebody else: %w", made.ID, providers.ErrConflict)
		}
		if err := providers.Pause(ctx, listPause); err != nil {
			return nil, err
		}
	}
}

// listPause is how long the driver waits between two looks at the list.
const listPause = 5 * time.Millisecond

// named lists the servers of one name.
func (p *Provider) named(ctx context.Context, name string) ([]Server, error) {
	list, err := p.cloud.servers(ctx)
	return slices.DeleteFunc(list, func(s Server) bool { return s.Name != name }), err
}

// keepOldest ends all servers but the first.
func (p *Provider) keepOldest(ctx context.Context, found []Server) (Server, error) {
	for _, extra := range found[1:] {
		if err := p.terminate(ctx, extra.ID); err != nil {
			return Server{}, err
		}
	}
	return found[0], nil
}

// complete writes the tags that a server lacks.
func (p *Provider) complete(ctx context.Context, server Server, id providers.Identity) error {
	if tagged, ok := providers.IdentityFromTags(server.Tags); ok && tagged == id {
		return nil
	}
	if err := p.step("tag"); err != nil {
		return err
	}
	return p.cloud.tag(ctx, server.ID, id.Tags())
}

func (p *Provider) step(name string) error {
	if p.interrupt == nil {
		return nil
	}
	return p.interrupt(name)
}

// List returns the cluster's servers.
func (p *Provider) List(ctx context.Context, cluster string) ([]providers.Instance, error) {
	servers, err := p.cloud.servers(ctx)
	if err != nil {
		return nil, err
	}
	var list []providers.Instance
	for _, server := range servers {
		if id, ok := providers.IdentityFromTags(server.Tags); ok && id.Cluster == cluster {
			list = append(list, p.instance(server, id))
		}
	}
	slices.SortStableFunc(list, func(a, b providers.Instance) int { return a.Compare(b.Identity) })
	return list, nil
}

// instance is a server as providers.Provider shows it.
func (p *Provider) instance(server Server, id providers.Identity) providers.Instance {
	instance := providers.Instance{Identity: id, ID: server.ID, State: providers.StateRunning, Created: server.Created}
	switch {
	case server.Power == powerOff:
		instance.State = providers.StateStopped
	case server.Power == powerBroken:
		instance.State = providers.StateFailed
	case p.cloud.now().Sub(server.Created) < p.cloud.faults.BootDelay:
		instance.State = providers.StatePending
		return instance
	}
	instance.Addresses = []netip.Addr{server.Address}
	return instance
}

// Destroy ends a server.
func (p *Provider) Destroy(ctx context.Context, instance providers.Instance) error {
	return p.terminate(ctx, instance.ID)
}

// terminate ends a server unless it is gone.
func (p *Provider) terminate(ctx context.Context, id string) error {
	if err := p.cloud.terminate(ctx, id); !errors.Is(err, providers.ErrNotFound) {
		return err
	}
	return nil
}

// Start powers a server on.
func (p *Provider) Start(ctx context.Context, instance providers.Instance) error {
	return p.cloud.start(ctx, instance.ID)
}

// Stop powers a server off.
func (p *Provider) Stop(ctx context.Context, instance providers.Instance) error {
	return p.cloud.stop(ctx, instance.ID, instance.Tags())
}

// Cleanup ends half-tagged servers of the cluster, which it knows by their names. It waits until the list cannot hide
// one any more.
func (p *Provider) Cleanup(ctx context.Context, cluster string) error {
	err := providers.Pause(ctx, p.cloud.faults.LateListing)
	var servers []Server
	if err == nil {
		servers, err = p.cloud.servers(ctx)
	}
	for _, server := range servers {
		if _, tagged := providers.IdentityFromTags(server.Tags); tagged || !strings.HasPrefix(server.Name, namePrefix(cluster)) {
			continue
		}
		err = errors.Join(err, p.terminate(ctx, server.ID))
	}
	return err
}

// Check asks for the images of the hosts to come.
func (p *Provider) Check(ctx context.Context, settings []any) error {
	for _, each := range settings {
		s, err := settingsOf(each)
		if err == nil {
			err = p.cloud.image(ctx, s.Image)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
