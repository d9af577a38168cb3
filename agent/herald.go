package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// herald writes what this host says of itself (store.HostRecord): its facts with every announcement, and which strict units
// it has given up, and what does not work, as soon as that changes.
type herald struct {
	store store.Store
	id    string
	facts roster.Facts
	hold  int64 // HostRecord.HoldMillis
	log   *slog.Logger
	news  signal

	writing chan struct{} // of one place, taken by who writes the record

	mu   sync.Mutex
	left map[string]int64 // guarded by mu
	ails map[string]error // guarded by mu: what does not work, by service
}

// gaveUp takes the strict units that this host was to give up, and of which no process is left.
func (h *herald) gaveUp(left map[string]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !maps.Equal(h.left, left) {
		h.left = left
		h.news.raise()
	}
}

// ailing takes what a service of this host suffers from, nil for nothing.
func (h *herald) ailing(service string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was := h.ails[service]; (was == nil) == (err == nil) && (err == nil || was.Error() == err.Error()) {
		return
	}
	if h.ails == nil {
		h.ails = map[string]error{}
	}
	if h.ails[service] = err; err == nil {
		delete(h.ails, service)
	}
	h.news.raise()
}

// troubles is what ails, sorted by service. h.mu is held.
func (h *herald) troubles() []string {
	var list []string
	for _, service := range slices.Sorted(maps.Keys(h.ails)) {
		list = append(list, service+": "+h.ails[service].Error())
	}
	return list
}

// run ends with ctx. What cannot be written is tried again.
func (h *herald) run(ctx context.Context) error {
	failed := func(err error) { h.log.Warn("cannot write what this host says of itself", "err", err) }
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.news:
		}
		err := pause.Until(ctx, longestPause, failed, func() error {
			_, err := h.write(ctx, nil)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// write writes the record, if the store has another one, with the record of the host's life in the same commit unless that is
// nil. It returns 0 if it wrote nothing.
func (h *herald) write(ctx context.Context, alive *store.Op) (revision int64, err error) {
	select {
	case h.writing <- struct{}{}:
		defer func() { <-h.writing }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	key := store.HostKey(h.id)
	said, err := h.store.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	c, record := store.Commit{}, h.record()
	if was, err := store.Unmarshal[store.HostRecord](said.Value); err == nil {
		record.Announced = was.Announced
	}
	if alive != nil {
		record.Announced++
		c.Ops = append(c.Ops, *alive)
	}
	data, err := store.Marshal(record)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(said.Value, data) {
		// One whose answer was lost may come late, and must not replace what was written since.
		c.Guards = append(c.Guards, store.Guard{Key: key, Kind: store.GuardModRevision, Revision: said.ModRevision})
		c.Ops = append(c.Ops, store.Put(key, data))
	}
	if len(c.Ops) == 0 {
		return 0, nil
	}
	if revision, err = h.store.Commit(ctx, c); err != nil {
		return 0, fmt.Errorf("cannot write what this host says of itself: %w", err)
	}
	return revision, nil
}

// record is what the host has to say now.
func (h *herald) record() store.HostRecord {
	h.mu.Lock()
	defer h.mu.Unlock()
	return store.HostRecord{
		Facts: h.facts, HoldMillis: h.hold, StopsCutOff: true, Left: maps.Clone(h.left), Troubles: h.troubles(),
	}
}
