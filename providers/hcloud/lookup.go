package hcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	api "github.com/hetznercloud/hcloud-go/v2/hcloud"
	"golang.org/x/sync/singleflight"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/providers"
)

// memo remembers for a while what was looked up, and looks up once for all who ask at a time.
type memo struct {
	now    func() time.Time
	flight singleflight.Group
	mu     sync.Mutex
	known  map[string]memory
}

type memory struct {
	value   any
	expires time.Time
}

// lookupLife is how long a name keeps its meaning.
const lookupLife = 5 * time.Minute

func remember[T any](ctx context.Context, m *memo, key string, find func(context.Context) (T, error)) (T, error) {
	for {
		if value, ok := m.get(key); ok {
			return value.(T), nil
		}
		mine := false
		found, err, _ := m.flight.Do(key, func() (any, error) {
			mine = true
			if value, ok := m.get(key); ok {
				return value, nil // somebody has found it since
			}
			value, err := find(ctx)
			if err == nil {
				m.put(key, value)
			}
			return value, err
		})
		switch cause := context.Cause(ctx); {
		case cause != nil:
			return *new(T), cause
		case err != nil && !mine && calledOff(err):
			continue // whoever asked for all of us was called off
		case err != nil:
			return *new(T), err
		}
		return found.(T), nil
	}
}

// calledOff tells whether a call ended since nobody waits for it any more.
func calledOff(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (m *memo) get(key string) (value any, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.known[key]
	return known.value, ok && m.now().Before(known.expires)
}

func (m *memo) put(key string, value any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]memory{}
	}
	m.known[key] = memory{value, m.now().Add(lookupLife)}
}

// forget makes the next lookups ask again, of some keys or of all.
func (m *memo) forget(keys ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(keys) == 0 {
		m.known = nil
	}
	for _, key := range keys {
		delete(m.known, key)
	}
}

// perPage is the most that the API gives at once.
const perPage = 50

// pages reads a list page by page, in the order of IDs, so that what is made meanwhile comes last. A list that got shorter
// meanwhile may have lost something between two pages.
func pages[T any](
	ctx context.Context, page func(context.Context, api.ListOpts) ([]*T, *api.Response, error), selector string,
) ([]*T, error) {
	var all []*T
	total := 0
	for number := 1; number != 0; {
		some, response, err := page(ctx, api.ListOpts{Page: number, PerPage: perPage, LabelSelector: selector})
		if err := classified(ctx, response, err); err != nil {
			return nil, err
		}
		all, number = append(all, some...), 0
		if meta := response.Meta.Pagination; meta != nil {
			if meta.TotalEntries < total {
				return nil, fmt.Errorf("the list changed while it was read: %w", providers.ErrUnavailable)
			}
			total, number = meta.TotalEntries, meta.NextPage
		}
	}
	return all, nil
}

var byID = []string{"id:asc"}

// named is something that an operator names.
type named[T any] struct {
	what T
	id   int64
	name string
}

// choose finds what a name or an ID means among all that there is, or says what was probably meant.
func choose[T any](kind, name string, among []named[T]) (T, error) {
	names := make([]string, len(among))
	for i, each := range among {
		if each.name == name || strconv.FormatInt(each.id, 10) == name {
			return each.what, nil
		}
		names[i] = each.name
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
	hint := cmp.Or(finding.DidYouMean(name, names), "there is "+strings.Join(names[:min(len(names), 8)], ", "))
	if len(names) == 0 {
		hint = "there is none"
	}
	return *new(T), fmt.Errorf("%s `%s` not found in the project; %s: %w", kind, name, hint, providers.ErrNotFound)
}

func (p *Provider) serverType(ctx context.Context, name string) (*api.ServerType, error) {
	all, err := remember(ctx, &p.known, "server types", func(ctx context.Context) ([]named[*api.ServerType], error) {
		list, err := pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.ServerType, *api.Response, error) {
			return p.api.ServerType.List(ctx, api.ServerTypeListOpts{ListOpts: o, Sort: byID})
		}, "")
		return naming(list, func(t *api.ServerType) (int64, string) { return t.ID, t.Name }), err
	})
	if err != nil {
		return nil, err
	}
	return choose("server type", name, all)
}

// image is what a host of a server type boots from.
func (p *Provider) image(ctx context.Context, s Settings, of *api.ServerType) (*api.Image, error) {
	options := api.ImageListOpts{
		Sort: byID, Status: []api.ImageStatus{api.ImageStatusAvailable}, Architecture: []api.Architecture{of.Architecture},
		Type: []api.ImageType{api.ImageTypeSystem, api.ImageTypeSnapshot, api.ImageTypeApp},
	}
	if s.Snapshot != "" {
		options.Type = []api.ImageType{api.ImageTypeSnapshot}
	}
	key := fmt.Sprintf("images %s %s", of.Architecture, s.Snapshot)
	all, err := remember(ctx, &p.known, key, func(ctx context.Context) ([]named[*api.Image], error) {
		list, err := pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.Image, *api.Response, error) {
			options.ListOpts = o
			return p.api.Image.List(ctx, options)
		}, s.Snapshot)
		return naming(list, func(i *api.Image) (int64, string) { return i.ID, i.Name }), err
	})
	switch {
	case err != nil:
		return nil, err
	case s.Snapshot == "":
		return choose(fmt.Sprintf("image for %s", of.Architecture), s.Image, all)
	case len(all) == 0:
		return nil, fmt.Errorf("no snapshot for %s has the labels `%s`; see `hcloud image list --type snapshot --output columns=id,labels`: %w",
			of.Architecture, s.Snapshot, providers.ErrNotFound)
	}
	return slices.MaxFunc(all, func(a, b named[*api.Image]) int { return a.what.Created.Compare(b.what.Created) }).what, nil
}

func (p *Provider) network(ctx context.Context, name string) (*api.Network, error) {
	all, err := remember(ctx, &p.known, "networks", func(ctx context.Context) ([]named[*api.Network], error) {
		list, err := pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.Network, *api.Response, error) {
			return p.api.Network.List(ctx, api.NetworkListOpts{ListOpts: o, Sort: byID})
		}, "")
		return naming(list, func(n *api.Network) (int64, string) { return n.ID, n.Name }), err
	})
	if err != nil {
		return nil, err
	}
	return choose("network", name, all)
}

func (p *Provider) sshKey(ctx context.Context, name string) (*api.SSHKey, error) {
	all, err := remember(ctx, &p.known, "keys", func(ctx context.Context) ([]named[*api.SSHKey], error) {
		list, err := pages(ctx, func(ctx context.Context, o api.ListOpts) ([]*api.SSHKey, *api.Response, error) {
			return p.api.SSHKey.List(ctx, api.SSHKeyListOpts{ListOpts: o, Sort: byID})
		}, "")
		return naming(list, func(k *api.SSHKey) (int64, string) { return k.ID, k.Name }), err
	})
	if err != nil {
		return nil, err
	}
	return choose("SSH key", name, all)
}

func naming[T any](list []T, name func(T) (int64, string)) []named[T] {
	all := make([]named[T], len(list))
	for i, each := range list {
		all[i].what = each
		all[i].id, all[i].name = name(each)
	}
	return all
}
