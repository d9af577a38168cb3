package control

import (
	"context"
	"fmt"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

// maxGrace bounds how long a drain may wait until what fits nowhere else is stopped.
const maxGrace = 30 * 24 * time.Hour

// OrderHost cordons a host, drains it, or lets it take units again. Repeating it changes nothing, but that the time of a
// drain begins anew. A voter that is drained gives its units away and goes on voting.
func (a *Admin) OrderHost(ctx context.Context, id string, order api.HostOrder) (api.Outcome, error) {
	if err := checkOrder(order); err != nil {
		return api.Unchanged, err
	}
	outcome := api.Unchanged
	err := retry(func() (err error) {
		outcome, err = a.orderHost(ctx, id, order)
		return err
	})
	if err != nil {
		return api.Unchanged, fmt.Errorf("cannot order host %s: %w", id, err)
	}
	return outcome, nil
}

func checkOrder(order api.HostOrder) error {
	const hint = "muster and the agents must be of the same version"
	switch store.Order(order.Order) {
	case "", store.OrderCordon, store.OrderDrain:
	default:
		return badRequest(hint, "there is no order %q for hosts", order.Order)
	}
	switch within := order.Within; {
	case within == nil:
	case store.Order(order.Order) != store.OrderDrain:
		return badRequest(hint, "only a drain can have a deadline")
	case *within < 0 || *within > maxGrace:
		return badRequest("give at most "+maxGrace.String(), "a drain cannot take %v", *within)
	}
	return nil
}

func (a *Admin) orderHost(ctx context.Context, id string, order api.HostOrder) (api.Outcome, error) {
	entry, _, err := a.member(ctx, id)
	if err != nil {
		return api.Unchanged, err
	}
	key := store.OrderKey(id)
	item, err := a.Store.Get(ctx, key)
	if err != nil {
		return api.Unchanged, err
	}
	c := store.Commit{Guards: []store.Guard{unmodified(store.RosterKey(id), entry), unmodified(key, item)}}
	if order.Order == "" {
		if item.ModRevision == 0 {
			return api.Unchanged, nil
		}
		c.Ops = []store.Op{store.Delete(key)}
		_, err = a.Store.Commit(ctx, c)
		return api.Changed, err
	}
	want, err := a.orderRecord(item, order)
	if err != nil || want == nil {
		return api.Unchanged, err
	}
	c.Ops = []store.Op{store.Put(key, want)}
	_, err = a.Store.Commit(ctx, c)
	return api.Changed, err
}

// orderRecord is the record of an order in the place of another or of none, nil if it is the same.
func (a *Admin) orderRecord(was store.Item, order api.HostOrder) ([]byte, error) {
	now := a.Now().UTC()
	want := store.OrderRecord{Order: store.Order(order.Order), Since: now}
	if was.ModRevision != 0 {
		old, err := store.Unmarshal[store.OrderRecord](was.Value)
		if err != nil {
			return nil, err
		}
		if old.Order == want.Order {
			if old.Deadline == nil && order.Within == nil {
				return nil, nil
			}
			want.Since = old.Since
		}
	}
	if order.Within != nil {
		deadline := now.Add(*order.Within)
		want.Deadline = &deadline
	}
	return store.Marshal(want)
}
