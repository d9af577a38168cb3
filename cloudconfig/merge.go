package cloudconfig

import (
	"cmp"
	"fmt"
	"slices"
)

// Merge lays an operator's document over a generated one:
//
//   - hostname: the generated one stands; over may only repeat it.
//   - manage_etc_hosts: that of over, if it says.
//   - users: one of over replaces the one of the same name; the others follow.
//   - ssh_authorized_keys: those of base, then those of over, each once.
//   - write_files: one of over replaces the one of the same path; the others follow. None may be in ReservedDir.
//   - coreos.units: one of over replaces the one of the same name; the others follow.
//   - coreos.update, etcd, etcd2, fleet, locksmith, flannel: option by option, those of over win.
//   - bootcmd: base, then over.
//   - runcmd: over, then base: musterd starts on a host that is as the operator wants it.
//
// Neither document is changed.
func Merge(base, over Document) (Document, error) {
	if base.Hostname != "" && over.Hostname != "" && over.Hostname != base.Hostname {
		return Document{}, fmt.Errorf("cannot set the hostname `%s`: the cluster calls this host `%s`", over.Hostname, base.Hostname)
	}
	for _, f := range over.WriteFiles {
		if Reserved(f.Path) {
			return Document{}, fmt.Errorf("cannot write `%s`: `%s` is muster's own", f.Path, ReservedDir)
		}
	}
	merged := Combine(base, over)
	merged.RunCmd = slices.Concat(over.RunCmd, base.RunCmd)
	return merged, nil
}

// Combine is Merge for documents of one origin, such as the parts of one user-data: nothing is refused, the hostname of
// over wins, and its runcmd follows.
func Combine(base, over Document) Document {
	return Document{
		Hostname:          cmp.Or(over.Hostname, base.Hostname),
		ManageEtcHosts:    cmp.Or(over.ManageEtcHosts, base.ManageEtcHosts),
		Users:             mergeBy(base.Users, over.Users, func(u User) string { return u.Name }),
		SSHAuthorizedKeys: mergeBy(base.SSHAuthorizedKeys, over.SSHAuthorizedKeys, func(k string) string { return k }),
		WriteFiles:        mergeBy(base.WriteFiles, over.WriteFiles, func(f File) string { return f.Path }),
		CoreOS:            mergeCoreOS(base.CoreOS, over.CoreOS),
		BootCmd:           slices.Concat(base.BootCmd, over.BootCmd),
		RunCmd:            slices.Concat(base.RunCmd, over.RunCmd),
		Uses:              slices.Concat(base.Uses, over.Uses),
	}
}

func mergeCoreOS(base, over CoreOS) CoreOS {
	return CoreOS{
		Update: Update{
			RebootStrategy: cmp.Or(over.Update.RebootStrategy, base.Update.RebootStrategy),
			Group:          cmp.Or(over.Update.Group, base.Update.Group),
			Server:         cmp.Or(over.Update.Server, base.Update.Server),
		},
		Etcd:      mergeOptions(base.Etcd, over.Etcd),
		Etcd2:     mergeOptions(base.Etcd2, over.Etcd2),
		Fleet:     mergeOptions(base.Fleet, over.Fleet),
		Locksmith: mergeOptions(base.Locksmith, over.Locksmith),
		Flannel:   mergeOptions(base.Flannel, over.Flannel),
		Units:     mergeBy(base.Units, over.Units, func(u Unit) string { return u.Name }),
	}
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
