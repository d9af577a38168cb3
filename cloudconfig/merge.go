package cloudconfig

import (
	"fmt"
	"slices"
)

// Merge lays an operator's document over a generated one:
//
//   - hostname: the generated one stands; over may only repeat it.
//   - users: one of over replaces the one of the same name; the others follow.
//   - ssh_authorized_keys: those of base, then those of over, each once.
//   - write_files: one of over replaces the one of the same path; the others follow. None may be in ReservedDir.
//   - bootcmd: base, then over.
//   - runcmd: over, then base: musterd starts on a host that is as the operator wants it.
//
// Neither document is changed.
func Merge(base, over Document) (Document, error) {
	merged := Document{
		Hostname:          base.Hostname,
		Users:             mergeBy(base.Users, over.Users, func(u User) string { return u.Name }),
		SSHAuthorizedKeys: mergeBy(base.SSHAuthorizedKeys, over.SSHAuthorizedKeys, func(k string) string { return k }),
		WriteFiles:        mergeBy(base.WriteFiles, over.WriteFiles, func(f File) string { return f.Path }),
		BootCmd:           slices.Concat(base.BootCmd, over.BootCmd),
		RunCmd:            slices.Concat(over.RunCmd, base.RunCmd),
	}
	if merged.Hostname == "" {
		merged.Hostname = over.Hostname
	} else if over.Hostname != "" && over.Hostname != base.Hostname {
		return Document{}, fmt.Errorf("cannot set the hostname `%s`: the cluster calls this host `%s`", over.Hostname, base.Hostname)
	}
	for _, f := range over.WriteFiles {
		if Reserved(f.Path) {
			return Document{}, fmt.Errorf("cannot write `%s`: `%s` is muster's own", f.Path, ReservedDir)
		}
	}
	return merged, nil
}

// mergeBy replaces items of base by those of over with the same key, and appends the others. It returns a new slice.
func mergeBy[T any](base, over []T, key func(T) string) []T {
	merged := slices.Clone(base)
	at := map[string]int{}
	for i, item := range merged {
		at[key(item)] = i
	}
	for _, item := range over {
		if i, ok := at[key(item)]; ok {
			merged[i] = item
			continue
		}
		at[key(item)] = len(merged)
		merged = append(merged, item)
	}
	return merged
}
