package fleetapi

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

const (
	manyContents = 512     // kept in memory
	muchContent  = 4 << 20 // bytes of unit files that they are made of, together
	fetches      = 8       // at once
)

// content is what fleet's API says of a unit file.
type content struct {
	options []UnitOption
	hash    string
	global  bool
}

// contents knows unit files by their SHA-256. What has such a name never changes.
type contents struct {
	from fleet.Reader

	mu    sync.Mutex
	known map[string]content // guarded by mu
	size  int                // of their files; guarded by mu
}

// get reads a unit's file. One that is gone or cannot be read has no content: the units that have it are listed all the
// same.
func (c *contents) get(ctx context.Context, unit, sum string) (content, error) {
	c.mu.Lock()
	known, ok := c.known[sum]
	c.mu.Unlock()
	if ok || sum == "" {
		return known, nil
	}
	item, err := c.from.Get(ctx, store.FileKey(sum))
	if err != nil || item.ModRevision == 0 || store.FileSum(item.Value) != sum {
		return content{}, err
	}
	f, _, err := unitfile.Parse(unit, item.Value)
	if err != nil {
		return content{}, nil
	}
	rules, _ := f.Requirements(unit)
	known = content{options: optionsOf(f), hash: f.Hash(), global: rules.Global}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= manyContents || c.size+len(item.Value) > muchContent {
		c.known, c.size = map[string]content{}, 0
	}
	c.known[sum] = known
	c.size += len(item.Value)
	return known, nil
}

// each hands the content of every item's file to set, some files at a time.
func each[T any](ctx context.Context, c *contents, items []T, file func(T) (unit, sum string), set func(int, content)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetches)
	for i, item := range items {
		g.Go(func() error {
			unit, sum := file(item)
			known, err := c.get(ctx, unit, sum)
			if err == nil {
				set(i, known)
			}
			return err
		})
	}
	return g.Wait()
}
