package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/state"
)

// ErrNobodyAnswers says that none of a cluster's hosts that may vote does.
var ErrNobodyAnswers = errors.New("no host answers that may vote")

// BeginAnew has the next Up form the cluster once more, with the identity and the keys that it has, because nothing is left of
// it: by the word of every provider there is no instance of it. Hosts become their next generation, so that instances which
// come back after all are known for what they are, and ended by an Up. agree is asked first. A cluster that is being formed is
// left to Up.
func BeginAnew(ctx context.Context, deps Deps, opts Options, agree func() error) (err error) {
	deps, opts = deps.withDefaults(), opts.withDefaults()
	dir, err := state.Open(deps.StateDir, deps.Spec.Cluster, deps.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	r := newRun(deps, opts, dir)
	if !r.view().Formed {
		return nil
	}
	seen, err := r.observe(ctx, places(deps.Spec))
	if err != nil {
		return err
	}
	if left := leftOver(r.view(), seen); len(left) > 0 {
		return fmt.Errorf("cannot begin anew: %w, but these hosts are still there: %s; start them (`muster hosts start`) and wait "+
			"until they answer, or end them at their provider", ErrNobodyAnswers, strings.Join(left, ", "))
	}
	if err := agree(); err != nil {
		return err
	}
	return r.record(state.Entry{Kind: state.KindLost})
}

// leftOver are the hosts of which a provider has an instance, or may have one that it does not list yet.
func leftOver(v state.View, seen sight) []string {
	hosts := map[string]bool{}
	for provider, instances := range seen {
		for _, i := range instances {
			hosts[fmt.Sprintf("%s at %s", i.Host, provider)] = true
		}
	}
	for _, m := range v.Sorted() {
		hosts[fmt.Sprintf("%s at %s", m.Name, m.Provider)] = true
	}
	return slices.Sorted(maps.Keys(hosts))
}
