package control

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// Access keeps who may use the store in line with the roster (cluster/voter).
type Access interface {
	// EnsureHost gives a host access, if it has none.
	EnsureHost(ctx context.Context, id string) error
	// RemoveHost takes it away. A host without is removed already.
	RemoveHost(ctx context.Context, id string) error
}

// Admin changes the cluster for operators and hosts. It is api.Admin and join.Admitter.
type Admin struct {
	Store   store.Store
	Access  Access
	Members Members
	Backups *Backups
	Lock    *lock.Keeper
	Issuer  *pki.Authority
	Root    *x509.Certificate
	Log     *slog.Logger
	Now     func() time.Time
}

// attempts is how often a change that met another one is decided anew.
const attempts = 5

// retry runs a change until it meets no other.
func retry(change func() error) error {
	for i := 1; ; i++ {
		err := change()
		if !errors.Is(err, store.ErrConflict) || i == attempts {
			return err
		}
	}
}

func badRequest(hint, format string, args ...any) error {
	return api.Errorf(http.StatusBadRequest, hint, format, args...)
}

func notFound(hint, format string, args ...any) error {
	return api.Errorf(http.StatusNotFound, hint, format, args...)
}

// unmodified is the guard that a key is as it was when item was read.
func unmodified(key string, item store.Item) store.Guard {
	return store.Guard{Key: key, Kind: store.GuardModRevision, Revision: item.ModRevision}
}

// PutUnit submits contents, a desired state, or both. An instance without contents of its own takes those that its
// template has now.
func (a *Admin) PutUnit(ctx context.Context, u api.Unit) (api.Outcome, error) {
	if err := checkUnit(u); err != nil {
		return api.Unchanged, err
	}
	outcome := api.Unchanged
	err := retry(func() (err error) {
		outcome, err = a.putUnit(ctx, u)
		return err
	})
	if err != nil {
		return api.Unchanged, fmt.Errorf("cannot change unit %s: %w", u.Name, err)
	}
	return outcome, nil
}

// checkUnit refuses what can be refused without looking.
func checkUnit(u api.Unit) error {
	if err := unitfile.CheckName(u.Name); err != nil {
		return badRequest("see `muster units --help`", "%v", err)
	}
	switch store.Desired(u.Desired) {
	case "", store.DesiredInactive:
	case store.DesiredLoaded, store.DesiredLaunched:
	default:
		return badRequest("use inactive, loaded or launched", "there is no desired state %q", u.Desired)
	}
	if u.Content == "" {
		return nil
	}
	if _, _, err := quadlet.Parse(u.Name, []byte(u.Content)); err != nil {
		return badRequest("correct the unit file", "%v", err)
	}
	return nil
}

func (a *Admin) putUnit(ctx context.Context, u api.Unit) (api.Outcome, error) {
	key := store.UnitKey(u.Name)
	item, err := a.Store.Get(ctx, key)
	if err != nil {
		return api.Unchanged, err
	}
	was, err := decodeUnit(item)
	if err != nil {
		return api.Unchanged, err
	}
	want := was
	want.Desired = cmp.Or(store.Desired(u.Desired), was.Desired, store.DesiredInactive)
	c := store.Commit{Guards: []store.Guard{unmodified(key, item)}}
	switch {
	case u.Content != "":
		if want = withFile(want, u); want.File != was.File {
			if err := a.checkCircle(ctx, u.Name, want, []byte(u.Content)); err != nil {
				return api.Unchanged, err
			}
			if want, err = a.withRollout(ctx, u.Name, u.Content, was, want); err != nil {
				return api.Unchanged, err
			}
		}
		// The file is written even if it is known: a sweep of unreferenced files that runs now then fails on its guard.
		c.Ops = append(c.Ops, store.Put(store.FileKey(want.File), []byte(u.Content)))
	case item.ModRevision == 0:
		var template store.Guard
		var of store.UnitRecord
		if of, template, err = a.template(ctx, u.Name); err != nil {
			return api.Unchanged, err
		}
		want.File, want.Global, want.Partition = of.File, of.Global, of.Partition
		if err := a.checkCircleOf(ctx, u.Name, want); err != nil {
			return api.Unchanged, err
		}
		c.Guards = append(c.Guards, template)
	}
	if err := checkTemplate(u.Name, want); err != nil {
		return api.Unchanged, err
	}
	if want == was {
		return api.Unchanged, nil
	}
	if err := a.writeUnit(ctx, c, key, want); err != nil {
		return api.Unchanged, err
	}
	if item.ModRevision == 0 {
		return api.Created, nil
	}
	return api.Changed, nil
}

// withFile is the record with contents, which have been checked, and what they say that the record says too.
func withFile(record store.UnitRecord, u api.Unit) store.UnitRecord {
	record.File, record.Replicated, record.Replicas, record.Global = store.FileSum([]byte(u.Content)), false, 0, false
	record.Partition = store.PartitionKeep
	if file, _, err := unitfile.Parse(u.Name, []byte(u.Content)); err == nil {
		m := file.Muster(u.Name)
		record.Replicated, record.Replicas, record.Partition = m.Replicated, m.Replicas, partitionOf(m)
		rules, _ := file.Requirements(u.Name)
		record.Global = rules.Global
	}
	return record
}

func partitionOf(m unitfile.Muster) store.Partition {
	switch {
	case m.Strict:
		return store.PartitionStrict
	case m.StopCutOff:
		return store.PartitionStop
	}
	return store.PartitionKeep
}

// checkTemplate refuses to put a template on hosts that says of no replicas.
func checkTemplate(name string, want store.UnitRecord) error {
	if !unitfile.IsTemplate(name) || want.Replicated || want.Desired == store.DesiredInactive {
		return nil
	}
	return badRequest("start its instances: "+unitfile.Instance(name, "1")+", or write Replicas= below [X-Muster]",
		"%s is a template and cannot be %s", name, want.Desired)
}

func (a *Admin) writeUnit(ctx context.Context, c store.Commit, key string, record store.UnitRecord) error {
	data, err := store.Marshal(record)
	if err != nil {
		return err
	}
	c.Ops = append(c.Ops, store.Put(key, data))
	_, err = a.Store.Commit(ctx, c)
	return err
}

func decodeUnit(item store.Item) (store.UnitRecord, error) {
	if item.ModRevision == 0 {
		return store.UnitRecord{}, nil
	}
	return store.Unmarshal[store.UnitRecord](item.Value)
}

// template returns the template that an instance is made from, and a guard that it still is.
func (a *Admin) template(ctx context.Context, name string) (record store.UnitRecord, still store.Guard, err error) {
	template, ok := unitfile.Template(name)
	if !ok {
		return record, still, notFound("submit its file first: `muster units submit FILE`", "there is no unit %s", name)
	}
	key := store.UnitKey(template)
	item, err := a.Store.Get(ctx, key)
	if err != nil {
		return record, still, err
	}
	if item.ModRevision == 0 {
		return record, still, notFound("submit one of the two: `muster units submit FILE`",
			"there is no unit %s and no template %s", name, template)
	}
	record, err = decodeUnit(item)
	return record, unmodified(key, item), err
}

// DeleteUnit removes a unit; the host that has it stops and forgets it.
func (a *Admin) DeleteUnit(ctx context.Context, name string) error {
	if err := unitfile.CheckName(name); err != nil {
		return badRequest("see `muster units --help`", "%v", err)
	}
	key := store.UnitKey(name)
	err := retry(func() error {
		item, err := a.Store.Get(ctx, key)
		if err != nil {
			return err
		}
		if item.ModRevision == 0 {
			return notFound("see `muster units`", "there is no unit %s", name)
		}
		_, err = a.Store.Commit(ctx, store.Commit{
			Guards: []store.Guard{unmodified(key, item)}, Ops: []store.Op{store.Delete(key)},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot remove unit %s: %w", name, err)
	}
	return nil
}
