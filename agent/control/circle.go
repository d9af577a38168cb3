package control

import (
	"context"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// checkCircle refuses a unit whose Replaces would go in a circle with what the cluster has, as fleet does. Two units that are
// submitted at the same moment may pass, and so may MachineOf that closes a circle: the scheduler then refuses both.
func (a *Admin) checkCircle(ctx context.Context, name string, record store.UnitRecord, content []byte) error {
	file, _, err := unitfile.Parse(name, content)
	if err != nil || !file.Replaces() {
		return nil // what cannot be parsed is refused elsewhere
	}
	circle, err := fleet.Circle(ctx, a.Store, name, record, content)
	if err != nil {
		return err
	}
	if circle != "" {
		return badRequest("remove one of these `Replaces`", "Replaces goes in a circle: %s", circle)
	}
	return nil
}

// checkCircleOf is checkCircle for an instance that takes the contents of its template.
func (a *Admin) checkCircleOf(ctx context.Context, name string, record store.UnitRecord) error {
	item, err := a.Store.Get(ctx, store.FileKey(record.File))
	if err != nil || item.ModRevision == 0 {
		return err
	}
	return a.checkCircle(ctx, name, record, item.Value)
}
