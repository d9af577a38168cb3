package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// Rules knows the placement rules of units. It reads each unit file once, and keeps of it the sections that concern
// placement for as long as some unit has the file. It is not safe for concurrent use.
type Rules struct {
	files map[string]unitfile.File // by hash
	units map[ruleKey]unitfile.Requirements
}

type ruleKey struct{ unit, file string }

// NewRules makes an empty Rules.
func NewRules() *Rules {
	return &Rules{files: map[string]unitfile.File{}, units: map[ruleKey]unitfile.Requirements{}}
}

// manyFiles is how many missing files are better read together.
const manyFiles = 16

// Of returns the rules of every unit of v that is wanted on a host. A unit whose file is missing or cannot be read has no
// rules: its host will say what is wrong.
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
		key := ruleKey{unit: name, file: u.Record.File}
		req, ok := r.units[key]
		if !ok {
			req, _ = r.files[u.Record.File].Requirements(name) // the API refused files with findings
		}
		rules[name], known[key] = req, req
	}
	r.units = known
	return rules, nil
}

// read fetches the files that are not known yet and forgets those that nobody has.
func (r *Rules) read(ctx context.Context, from Reader, v View) error {
	files := make(map[string]unitfile.File, len(r.files))
	missing := map[string]string{} // hash → a unit that has it
	for name, u := range v.Units {
		hash := u.Record.File
		if u.Record.Desired == store.DesiredInactive {
			continue
		}
		if _, seen := files[hash]; seen {
			continue
		}
		file, ok := r.files[hash]
		if !ok {
			missing[hash] = name
		}
		files[hash] = file
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
	for hash := range missing {
		item, err := from.Get(ctx, store.FileKey(hash))
		if err != nil {
			return err
		}
		r.keep(item, missing)
	}
	return nil
}

// keep takes the sections X-... of a file that is missing.
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
	r.files[hash] = kept
}
