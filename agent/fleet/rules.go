package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Rules knows the placement rules of units. It reads each unit file once, and keeps of it the sections that concern
// placement for as long as some unit or schedule has the file. It is not safe for concurrent use.
type Rules struct {
	files map[string]contents // by hash
	units map[ruleKey]unitfile.Requirements
}

// contents is what is kept of a file.
type contents struct {
	placement unitfile.File // sections X-...
	runs      string        // a hash of all others; "" if the file is missing
}

type ruleKey struct{ unit, file string }

// NewRules makes an empty Rules.
func NewRules() *Rules {
	return &Rules{files: map[string]contents{}, units: map[ruleKey]unitfile.Requirements{}}
}

// manyFiles is how many missing files are better read together.
const manyFiles = 16

// Of returns the rules of every unit of v that is wanted on a host. A unit whose file is missing or cannot be read has no
// rules: its host will say what is wrong. Of a template whose replicas have rules of their own, it returns those of each.
func (r *Rules) Of(ctx context.Context, from Reader, v View) (map[string]unitfile.Requirements, error) {
	if err := r.read(ctx, from, v); err != nil {
		return nil, err
	}
	rules := make(map[string]unitfile.Requirements, len(v.Units))
	known := make(map[ruleKey]unitfile.Requirements, len(v.Units))
	for name, u := range v.Units {
		if u.Record.Desired == store.DesiredInactive {
			continue
		}
		for _, of := range r.ruled(name, u.Record) {
			if _, own := v.Units[of]; own && of != name {
				continue
			}
			key := ruleKey{unit: of, file: u.Record.File}
			req, ok := r.units[key]
			if !ok {
				req, _ = r.files[u.Record.File].placement.Requirements(of) // the API refused files with findings
			}
			rules[of], known[key] = req, req
		}
	}
	r.units = known
	return rules, nil
}

// ruled names what a unit's rules are for: itself, or each of a template's replicas if they differ.
func (r *Rules) ruled(name string, u store.UnitRecord) []string {
	if !u.Replicated || !r.files[u.File].placement.HasOwnRules() {
		return []string{name}
	}
	names := make([]string, u.Replicas)
	for i := range names {
		names[i] = instances.Name(name, i+1)
	}
	return names
}

// SameRun says whether two files, by their hashes, differ at most in comments and in sections that are about placement: what
// runs need not be restarted when one replaces the other.
func (r *Rules) SameRun(a, b string) bool {
	return a == b || r.files[a].runs != "" && r.files[a].runs == r.files[b].runs
}

// read fetches the files that are not known yet and forgets those that nobody has.
func (r *Rules) read(ctx context.Context, from Reader, v View) error {
	files := make(map[string]contents, len(r.files))
	missing := map[string]string{} // hash → a unit that has it
	need := func(hash, name string) {
		if _, seen := files[hash]; seen {
			return
		}
		file, ok := r.files[hash]
		if !ok {
			missing[hash] = name
		}
		files[hash] = file
	}
	for name, u := range v.Units {
		if u.Record.Desired == store.DesiredInactive {
			continue
		}
		need(u.Record.File, name)
		if roll := u.Record.Rollout; roll.Active() {
			need(roll.From, name)
			need(roll.To, name)
		}
	}
	for _, host := range v.Schedule {
		for _, u := range host.Record.Units {
			need(u.File, u.Name)
		}
	}
	r.files = files
	err := r.fetch(ctx, from, missing)
	if err != nil {
		for hash := range missing {
			delete(r.files, hash)
		}
		return fmt.Errorf("cannot read unit files: %w", err)
	}
	return nil
}

func (r *Rules) fetch(ctx context.Context, from Reader, missing map[string]string) error {
	if len(missing) > manyFiles {
		all, err := from.Range(ctx, store.PrefixFiles)
		if err != nil {
			return err
		}
		for _, item := range all.Items {
			r.keep(item, missing)
		}
		return nil
	}
	for _, hash := range slices.Sorted(maps.Keys(missing)) {
		item, err := from.Get(ctx, store.FileKey(hash))
		if err != nil {
			return err
		}
		r.keep(item, missing)
	}
	return nil
}

// keep takes what is needed of a file that is missing.
func (r *Rules) keep(item store.Item, missing map[string]string) {
	hash, _ := store.KeyName(store.PrefixFiles, item.Key)
	name, wanted := missing[hash]
	if !wanted || item.ModRevision == 0 {
		return
	}
	parsed, _, err := unitfile.Parse(name, item.Value)
	if err != nil {
		return
	}
	var kept unitfile.File
	for _, o := range parsed.Options {
		if strings.HasPrefix(o.Section, "X-") {
			kept.Options = append(kept.Options, o)
		}
	}
	r.files[hash] = contents{placement: kept, runs: RunsOf(parsed)}
}

// RunsOf is a hash of what a file says beside placement and updates: files of which it is the same run alike, and are asked
// alike whether they are well.
func RunsOf(f unitfile.File) string {
	var runs unitfile.File
	for _, o := range f.Options {
		if !strings.HasPrefix(o.Section, "X-") || o.Name == "Engine" || strings.HasPrefix(o.Name, "Health") {
			runs.Options = append(runs.Options, o)
		}
	}
	return store.FileSum(runs.Bytes())
}
