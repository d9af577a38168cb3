package openstack

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/musterhq/muster/providers"
)

// named is something that an operator names: an image, a flavor, a network, a group.
type named struct {
	id, name string
	external bool // networks: has floating IPs
	own      bool // networks: of this project
	minDisk  int  // images, GiB
	minRAM   int  // images, MiB
	disk     int  // flavors, GiB
	ram      int  // flavors, MiB
	cpus     int  // flavors
	inactive bool // images: not to be booted from
}

// lookups remembers what names mean. Names and IDs change rarely, and a create needs several.
type lookups struct {
	mu    sync.Mutex
	known map[string]lookup
}

type lookup struct {
	what    named
	expires time.Time
}

// lookupLife is how long a name keeps its meaning.
const lookupLife = 5 * time.Minute

func (l *lookups) get(key string, now time.Time) (named, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.known[key]
	return found.what, ok && now.Before(found.expires)
}

func (l *lookups) put(key string, what named, expires time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]lookup{}
	}
	l.known[key] = lookup{what, expires}
}

// forget makes the next lookups ask again, since something that was looked up is not there.
func (l *lookups) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = nil
}

// resolve finds what a name or an ID means, once at a time and not again for a while. list gives those of that name when
// the API can tell, and all when all is set.
func (p *Provider) resolve(
	ctx context.Context, s *session, kind, name string, list func(ctx context.Context, all bool) ([]named, error),
) (named, error) {
	key := kind + " " + name
	unlock, err := p.shared.Lock(ctx, key)
	if err != nil {
		return named{}, err
	}
	defer unlock()
	if known, ok := p.found.get(key, p.now()); ok {
		return known, nil
	}
	found, err := list(ctx, false)
	if err != nil {
		return named{}, err
	}
	what, err := choose(kind, name, s.region, found)
	if err == nil {
		p.found.put(key, what, p.now().Add(lookupLife))
		return what, nil
	}
	if len(match(name, found)) > 0 {
		return named{}, err
	}
	if found, err = list(ctx, true); err != nil {
		return named{}, err
	}
	_, err = choose(kind, name, s.region, found)
	return named{}, err
}

// match finds the one with the ID, or all with the name.
func match(name string, among []named) []named {
	if i := slices.IndexFunc(among, func(n named) bool { return n.id == name }); i >= 0 {
		return among[i : i+1]
	}
	var found []named
	for _, each := range among {
		if each.name == name {
			found = append(found, each)
		}
	}
	return found
}

// choose finds what a name means among all that there is, or says why it cannot.
func choose(kind, name, region string, among []named) (named, error) {
	found := match(name, among)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		hint := "there is none"
		if near := nearest(name, among, 3); len(near) > 0 {
			hint = "nearest names: " + strings.Join(near, ", ")
		}
		return named{}, fmt.Errorf("%s %s not found%s; %s: %w", kind, name, inRegion(region), hint, providers.ErrNotFound)
	default:
		ids := make([]string, len(found))
		for i, each := range found {
			ids[i] = each.id
		}
		slices.Sort(ids)
		return named{}, fmt.Errorf("%s %s is the name of %d, give the ID of one: %s: %w", kind, name, len(ids), strings.Join(ids, ", "), providers.ErrInvalid)
	}
}

// inRegion says where, which a cloud of one region need not be told.
func inRegion(region string) string {
	if region == "" {
		return ""
	}
	return " in region " + region
}

// nearest orders names by how many pairs of neighbouring letters they have in common with what was asked for (Dice's
// coefficient), and then by the alphabet.
func nearest(name string, among []named, count int) []string {
	type candidate struct {
		name  string
		score float64
	}
	var all []candidate
	for _, each := range among {
		if each.name != "" && !slices.ContainsFunc(all, func(c candidate) bool { return c.name == each.name }) {
			all = append(all, candidate{each.name, likeness(name, each.name)})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range all[:min(count, len(all))] {
		names = append(names, c.name)
	}
	return names
}

func likeness(a, b string) float64 {
	pairs := func(s string) map[string]int {
		s = strings.ToLower(s)
		found := map[string]int{}
		for i := range len(s) - 1 {
			found[s[i:i+2]]++
		}
		return found
	}
	left, right := pairs(a), pairs(b)
	common := 0
	for pair, n := range left {
		common += min(n, right[pair])
	}
	return 2 * float64(common) / float64(max(len(a)+len(b)-2, 1))
}

// uuidForm is what IDs of images and networks look like.
var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (p *Provider) findImage(ctx context.Context, s *session, name string) (named, error) {
	return p.resolve(ctx, s, "image", name, func(ctx context.Context, all bool) ([]named, error) {
		options := images.ListOpts{Limit: pageSize}
		switch {
		case all:
		case uuidForm.MatchString(name):
			options.ID, options.Visibility = "in:"+name, "all" // community images have to be asked for
		default:
			options.Name = name
		}
		pages, err := images.List(s.image, options).AllPages(ctx)
		if err != nil {
			return nil, classified(ctx, err)
		}
		list, err := images.ExtractImages(pages)
		found := make([]named, len(list))
		for i, each := range list {
			found[i] = named{
				id: each.ID, name: each.Name, minDisk: each.MinDiskGigabytes, minRAM: each.MinRAMMegabytes,
				inactive: each.Status != images.ImageStatusActive,
			}
		}
		return found, classified(ctx, err)
	})
}

func (p *Provider) findFlavor(ctx context.Context, s *session, name string) (named, error) {
	return p.resolve(ctx, s, "flavor", name, func(ctx context.Context, _ bool) ([]named, error) {
		pages, err := flavors.ListDetail(s.compute, flavors.ListOpts{}).AllPages(ctx)
		if err != nil {
			return nil, classified(ctx, err)
		}
		list, err := flavors.ExtractFlavors(pages)
		found := make([]named, len(list))
		for i, each := range list {
			found[i] = named{id: each.ID, name: each.Name, disk: each.Disk, ram: each.RAM, cpus: each.VCPUs}
		}
		return found, classified(ctx, err)
	})
}

func (p *Provider) findNetwork(ctx context.Context, s *session, name string) (named, error) {
	return p.resolve(ctx, s, "network", name, func(ctx context.Context, all bool) ([]named, error) {
		options := networks.ListOpts{Limit: pageSize}
		switch {
		case all:
		case uuidForm.MatchString(name):
			options.ID = name
		default:
			options.Name = name
		}
		return s.networks(ctx, options)
	})
}

func (s *session) networks(ctx context.Context, options networks.ListOpts) ([]named, error) {
	pages, err := networks.List(s.network, options).AllPages(ctx)
	if err != nil {
		return nil, classified(ctx, err)
	}
	var list []struct {
		networks.Network
		external.NetworkExternalExt
	}
	err = networks.ExtractNetworksInto(pages, &list)
	found := make([]named, len(list))
	for i, each := range list {
		found[i] = named{id: each.ID, name: each.Name, external: each.External, own: each.ProjectID == s.project}
	}
	return found, classified(ctx, err)
}

// onlyNetwork is where hosts go whose settings name no network: the only one of the project.
func (p *Provider) onlyNetwork(ctx context.Context, s *session) (named, error) {
	return p.resolve(ctx, s, "network", "", func(ctx context.Context, _ bool) ([]named, error) {
		list, err := s.networks(ctx, networks.ListOpts{Limit: pageSize})
		if err != nil {
			return nil, err
		}
		own := slices.DeleteFunc(slices.Clone(list), func(n named) bool { return n.external || !n.own })
		if len(own) == 1 {
			own[0].name = "" // what was asked for
			return own, nil
		}
		return nil, fmt.Errorf("set `networks`: the project has %d networks of its own and not one; there are %s: %w",
			len(own), strings.Join(nearest("", list, 10), ", "), providers.ErrInvalid)
	})
}

// findNetworks are the networks of a host.
func (p *Provider) findNetworks(ctx context.Context, s *session, names []string) ([]string, error) {
	if len(names) == 0 {
		only, err := p.onlyNetwork(ctx, s)
		return []string{only.id}, err
	}
	ids := make([]string, len(names))
	for i, name := range names {
		network, err := p.findNetwork(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids[:i], network.id) {
			return nil, fmt.Errorf("network %s is given twice: %w", name, providers.ErrInvalid)
		}
		ids[i] = network.id
	}
	return ids, nil
}

// findExternal is the network of which a floating IP is taken.
func (p *Provider) findExternal(ctx context.Context, s *session, name string) (named, error) {
	network, err := p.findNetwork(ctx, s, name)
	if err == nil && !network.external {
		err = fmt.Errorf("network %s is not external, so it has no floating IPs: %w", name, providers.ErrInvalid)
	}
	return network, err
}
