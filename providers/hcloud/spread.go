package hcloud

import (
	"context"
	"fmt"
	"slices"
	"sync"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/musterhq/muster/providers"
)

// groupSize is how many servers a placement group takes (docs.hetzner.com/cloud/placement-groups/overview).
const groupSize = 10

// spread gives hosts their places in the cluster's placement groups. What it knows may be wrong, when somebody else makes or
// ends hosts: the API refuses a group that is full, and the next try takes another.
type spread struct {
	mu    sync.Mutex
	rooms map[owner][]*room // nil: not looked for
}

// room is a placement group, which is there or being made.
type room struct {
	name string
	free int

	made chan struct{} // closed when the rest is known
	id   int64
	err  error
}

// placement is the group of a host: none, one that its settings name, or one of the cluster's own with room.
func (p *Provider) placement(ctx context.Context, o owner, s Settings) (*api.PlacementGroup, error) {
	switch s.PlacementGroup {
	case "":
		return nil, nil
	case groupSpread:
		id, err := p.place(ctx, o)
		return &api.PlacementGroup{ID: id}, err
	}
	all, err := remember(ctx, &p.known, keyPlacements, p.placements)
	if err != nil {
		return nil, err
	}
	return choose("placement group", s.PlacementGroup, naming(all, func(g *api.PlacementGroup) (int64, string) { return g.ID, g.Name }))
}

const keyPlacements = "placement groups"

func (p *Provider) placements(ctx context.Context) ([]*api.PlacementGroup, error) {
	return pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.PlacementGroup, *api.Response, error) {
		return p.api.PlacementGroup.List(ctx, api.PlacementGroupListOpts{ListOpts: o, Sort: byID})
	}, "")
}

// place takes a place in one of the cluster's groups, and makes a group when all are full. Groups are made side by side,
// each by the first of its hosts, for whom the others wait.
func (p *Provider) place(ctx context.Context, o owner) (int64, error) {
	for range 2 { // another process may be faster once
		list, err := remember(ctx, &p.known, keyPlacements, p.placements)
		if err != nil {
			return 0, err
		}
		room, first := p.spread.take(o, list)
		if first {
			id, err := p.makePlacement(ctx, o, room.name)
			p.spread.made(room, id, err)
		}
		select {
		case <-room.made:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		switch {
		case room.err == nil:
			return room.id, nil
		case !hasCode(room.err, api.ErrorCodeUniquenessError) && (first || !calledOff(room.err)):
			p.forgetPlacements()
			return 0, room.err
		}
		p.forgetPlacements()
	}
	return 0, fmt.Errorf("the cluster's placement group is not shown yet: %w", providers.ErrUnavailable)
}

func (p *Provider) makePlacement(ctx context.Context, o owner, name string) (int64, error) {
	made, response, err := p.api.PlacementGroup.Create(ctx, api.PlacementGroupCreateOpts{
		Name: name, Labels: o.labels(), Type: api.PlacementGroupTypeSpread,
	})
	if err := classified(ctx, response, err); err != nil {
		return 0, err
	}
	return made.PlacementGroup.ID, nil
}

// forgetPlacements looks again what groups there are.
func (p *Provider) forgetPlacements() {
	p.known.forget(keyPlacements)
	p.spread.mu.Lock()
	defer p.spread.mu.Unlock()
	p.spread.rooms = nil
}

// take takes a place in the first group that has one. Without one it is in a group that the caller makes, as the first of its
// hosts. list are all groups of the project, for who has not looked yet.
func (s *spread) take(o owner, list []*api.PlacementGroup) (in *room, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms == nil {
		s.rooms = map[owner][]*room{}
	}
	if s.rooms[o] == nil {
		s.rooms[o] = roomsOf(o, list)
	}
	for _, each := range s.rooms[o] {
		if each.free > 0 {
			each.free--
			return each, false
		}
	}
	number := 1
	for slices.ContainsFunc(s.rooms[o], func(r *room) bool { return r.name == o.placement(number) }) {
		number++
	}
	in = &room{name: o.placement(number), free: groupSize - 1, made: make(chan struct{})}
	s.rooms[o] = append(s.rooms[o], in)
	return in, true
}

// roomsOf are the owner's placement groups, and others without room, whose names are not to be had.
func roomsOf(o owner, list []*api.PlacementGroup) []*room {
	there := make(chan struct{})
	close(there)
	rooms := []*room{}
	for _, each := range list {
		one := &room{name: each.Name, id: each.ID, made: there}
		if o.owns(each.Name, each.Labels) {
			one.free = max(groupSize-len(each.Servers), 0)
		}
		rooms = append(rooms, one)
	}
	return rooms
}

// made lets in whoever waits for a group.
func (s *spread) made(in *room, id int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.id, in.err = id, err
	close(in.made)
}

// giveBack gives a place back that was not used, or notes that there was none.
func (s *spread) giveBack(o owner, group int64, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, each := range s.rooms[o] {
		switch {
		case each.id != group:
		case full:
			each.free = 0
		default:
			each.free++
		}
	}
}
