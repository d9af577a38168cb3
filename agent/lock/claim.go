package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/musterhq/muster/cluster/store"
)

// Claim is a host's part: it asks for the lock of a group, waits for it, and gives it back. It writes the host's own record
// and nothing else. Every method may be repeated after an error; one goroutine at a time uses it.
type Claim struct {
	Store store.Store
	Host  string // host ID
	Boot  string // that the host is in

	// last is what this Claim wrote last, at the revision that it has. It is forgotten after every error.
	last *written
}

// written is a host's record as it stands in the store; Revision 0 is none.
type written struct {
	record   store.RebootRecord
	revision int64
}

// ErrHeldBefore says that the host holds the lock since an earlier boot. It must say that it is healthy first (Release).
var ErrHeldBefore = errors.New("the lock is held since an earlier boot")

// Ask has the host wait for the lock and returns the ticket of its wait. A host that waits or holds already, in this boot
// and that group, keeps its ticket.
func (c *Claim) Ask(ctx context.Context, group, reason string) (ticket int64, err error) {
	if !ValidGroup(group) {
		return 0, fmt.Errorf("cannot ask for the reboot lock: no group can be called %q", group)
	}
	was, err := c.own(ctx)
	record := was.record
	switch {
	case err != nil:
		return 0, fmt.Errorf("cannot ask for the reboot lock: %w", err)
	case record.Wants && (record.Boot != c.Boot || !record.Healthy):
		return 0, fmt.Errorf("cannot ask for the reboot lock: %w", ErrHeldBefore)
	case record.Wants && record.Group == group:
		return record.Ticket, nil
	}
	record = store.RebootRecord{
		Group: group, Boot: c.Boot, Ticket: record.Ticket + 1, Wants: true, Healthy: true, Reason: reason,
	}
	if err := c.write(ctx, record, was.revision); err != nil {
		return 0, fmt.Errorf("cannot ask for the reboot lock: %w", err)
	}
	return record.Ticket, nil
}

// Holds reports whether the host holds the lock now, with a ticket of this boot.
func (c *Claim) Holds(ctx context.Context, ticket int64) (bool, error) {
	grant, err := c.grant(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot read whether this host holds the reboot lock: %w", err)
	}
	return grant.Boot == c.Boot && grant.Ticket == ticket, nil
}

// Await returns when the host holds the lock, or with an error when ctx ends or the store does not tell.
func (c *Claim) Await(ctx context.Context, ticket int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		item, err := c.Store.Get(ctx, store.GrantKey(c.Host))
		if err != nil {
			return fmt.Errorf("cannot wait for the reboot lock: %w", err)
		}
		if c.grants(item, ticket) {
			return nil
		}
		for change := range c.Store.Watch(ctx, store.GrantKey(c.Host), item.ModRevision) {
			for _, e := range change.Events {
				if !e.Deleted && c.grants(e.Item, ticket) {
					return nil
				}
			}
			if change.Err != nil && !errors.Is(change.Err, store.ErrCompacted) {
				return fmt.Errorf("cannot wait for the reboot lock: %w", change.Err)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (c *Claim) grants(item store.Item, ticket int64) bool {
	grant, err := store.Unmarshal[store.GrantRecord](item.Value)
	return err == nil && grant.Boot == c.Boot && grant.Ticket == ticket
}

// Release says that the host is healthy and does not need the lock. It is how a hold ends after a reboot, and how a host
// that does not reboot after all gives it back.
func (c *Claim) Release(ctx context.Context, reason string) error {
	was, err := c.own(ctx)
	record := was.record
	if err == nil && (record.Wants || record.Ticket > 0 && (record.Boot != c.Boot || !record.Healthy)) {
		record.Wants, record.Healthy, record.Boot, record.Reason = false, true, c.Boot, reason
		err = c.write(ctx, record, was.revision)
	}
	if err != nil {
		return fmt.Errorf("cannot give the reboot lock back: %w", err)
	}
	return nil
}

// Unwell says that the host is not healthy: it keeps what it holds, and waits for nothing.
func (c *Claim) Unwell(ctx context.Context, reason string) error {
	was, err := c.own(ctx)
	record := was.record
	if err == nil && record.Ticket > 0 && (record.Healthy || record.Boot != c.Boot || record.Reason != reason) {
		record.Healthy, record.Boot, record.Reason = false, c.Boot, reason
		err = c.write(ctx, record, was.revision)
	}
	if err != nil {
		return fmt.Errorf("cannot tell that this host is not well: %w", err)
	}
	return nil
}

// own is the host's record. If somebody removed it, it goes on with the ticket that the host still holds with.
func (c *Claim) own(ctx context.Context) (written, error) {
	if c.last != nil {
		return *c.last, nil
	}
	item, err := c.Store.Get(ctx, store.RebootKey(c.Host))
	if err != nil {
		return written{}, err
	}
	if item.ModRevision == 0 {
		grant, err := c.grant(ctx)
		return written{record: store.RebootRecord{Group: grant.Group, Ticket: grant.Ticket, Boot: grant.Boot}}, err
	}
	record, err := store.Unmarshal[store.RebootRecord](item.Value)
	return written{record: record, revision: item.ModRevision}, err
}

func (c *Claim) grant(ctx context.Context) (g store.GrantRecord, err error) {
	item, err := c.Store.Get(ctx, store.GrantKey(c.Host))
	if err == nil && item.ModRevision != 0 {
		g, err = store.Unmarshal[store.GrantRecord](item.Value)
	}
	return g, err
}

// write replaces the host's record. A write whose answer was lost may come late, and must not replace what was written
// since.
func (c *Claim) write(ctx context.Context, r store.RebootRecord, was int64) error {
	c.last = nil
	data, err := store.Marshal(r)
	if err != nil {
		return err
	}
	key := store.RebootKey(c.Host)
	revision, err := c.Store.Commit(ctx, store.Commit{
		Guards: []store.Guard{{Key: key, Kind: store.GuardModRevision, Revision: was}},
		Ops:    []store.Op{store.Put(key, data)},
	})
	if err == nil {
		c.last = &written{record: r, revision: revision}
	}
	return err
}
