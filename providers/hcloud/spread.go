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
	turn  chan struct{} // holds a value while somebody looks for groups or makes one
	mu    sync.Mutex
	rooms map[owner][]room // nil: not looked for
}

// room is a placement group.
type room struct {
	id   int64
	name string
	free int
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
	all, err := remember(ctx, &p.known, "placement groups", func(ctx context.Context) ([]named[*api.PlacementGroup], error) {
		list, err := p.placements(ctx)
		return naming(list, func(g *api.PlacementGroup) (int64, string) { return g.ID, g.Name }), err
	})
	if err != nil {
		return nil, err
	}
	return choose("placement group", s.PlacementGroup, all)
}

func (p *Provider) placements(ctx context.Context) ([]*api.PlacementGroup, error) {
	return pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.PlacementGroup, *api.Response, error) {
		return p.api.PlacementGroup.List(ctx, api.PlacementGroupListOpts{ListOpts: o, Sort: byID})
	}, "")
}

// place takes a place in one of the cluster's groups, and makes a group when all are full.
func (p *Provider) place(ctx context.Context, o owner) (int64, error) {
	select {
	case p.spread.turn <- struct{}{}:
		defer func() { <-p.spread.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for range 2 { // another process may be faster once
		if !p.spread.has(o) {
			list, err := p.placements(ctx)
			if err != nil {
				return 0, err
			}
			p.spread.set(o, roomsOf(o, list))
		}
		if id, ok := p.spread.take(o); ok {
			return id, nil
		}
		made, err := p.makePlacement(ctx, o)
		if err == nil {
			p.spread.add(o, room{made.ID, made.Name, groupSize - 1})
			return made.ID, nil
		}
		p.spread.forget()
		if !hasCode(err, api.ErrorCodeUniquenessError) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("the cluster's placement group is not shown yet: %w", providers.ErrUnavailable)
}

// roomsOf are the owner's placement groups. Others that have such a name have no room.
func roomsOf(o owner, list []*api.PlacementGroup) []room {
	rooms := []room{}
	for _, each := range list {
		free := 0
		if o.owns(each.Name, each.Labels) {
			free = max(groupSize-len(each.Servers), 0)
		}
		rooms = append(rooms, room{each.ID, each.Name, free})
	}
	return rooms
}

// makePlacement makes the cluster's next placement group.
func (p *Provider) makePlacement(ctx context.Context, o owner) (*api.PlacementGroup, error) {
	number := 1
	for p.spread.named(o, o.placement(number)) {
		number++
	}
	made, response, err := p.api.PlacementGroup.Create(ctx, api.PlacementGroupCreateOpts{
		Name: o.placement(number), Labels: o.labels(), Type: api.PlacementGroupTypeSpread,
	})
	return made.PlacementGroup, classified(ctx, response, err)
}

func (s *spread) has(o owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[o] != nil
}

func (s *spread) set(o owner, rooms []room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms == nil {
		s.rooms = map[owner][]room{}
	}
	s.rooms[o] = rooms
}

func (s *spread) add(o owner, made room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[o] != nil { // nobody forgot meanwhile
		s.rooms[o] = append(s.rooms[o], made)
	}
}

// take takes a place in the first group that has one.
func (s *spread) take(o owner) (id int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rooms[o] {
		if each := &s.rooms[o][i]; each.free > 0 {
			each.free--
			return each.id, true
		}
	}
	return 0, false
}

// giveBack gives a place back that was not used, or notes that there was none.
func (s *spread) giveBack(group int64, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rooms := range s.rooms {
		if i := slices.IndexFunc(rooms, func(r room) bool { return r.id == group }); i >= 0 {
			rooms[i].free++
			if full {
				rooms[i].free = 0
			}
		}
	}
}

func (s *spread) named(o owner, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.rooms[o], func(r room) bool { return r.name == name })
}

// forget looks again what groups there are.
func (s *spread) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = nil
}
