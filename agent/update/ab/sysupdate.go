package ab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// transfer is what systemd-sysupdate moves: the two of a release are moved in calls of their own, since the one makes the
// other bootable.
type transfer string

const (
	rootTransfer   transfer = "root"
	kernelTransfer transfer = "kernel"
)

// definition is the transfer's (sysupdate.d(5)). Sources were verified; what a partition is called says that it is whole,
// because systemd-sysupdate names it when all is written.
func (e *Engine) definition(t transfer, booted, source string) string {
	const partition = `Type=partition
Path=%s
MatchPattern=` + prefix + `@v
MatchPartitionType=root
PartitionFlags=0
ReadOnly=1
`
	const file = `Type=regular-file
Path=%s
MatchPattern=` + prefix + "@v+@l-@d" + kernelSuffix + " " + prefix + "@v+@l" + kernelSuffix + " " + prefix + "@v" + kernelSuffix + `
Mode=0444
TriesLeft=%d
TriesDone=0
`
	target, suffix := fmt.Sprintf(partition, e.disk), rootSuffix
	if t == kernelTransfer {
		target, suffix = fmt.Sprintf(file, kernelsDir, tries), kernelSuffix
	}
	return fmt.Sprintf(`[Transfer]
ProtectVersion=%s
Verify=no

[Source]
Type=regular-file
Path=%s
MatchPattern=%s@v%s

[Target]
%sInstancesMax=2
`, booted, source, prefix, suffix, target)
}

// sysupdate writes the definition of one transfer and calls systemd-sysupdate with it.
func (e *Engine) sysupdate(ctx context.Context, t transfer, booted, source string, args ...string) ([]byte, error) {
	dir := workDir + "/" + string(t)
	empty := workDir + "/none"
	for _, made := range []string{dir, empty} {
		if err := os.MkdirAll(e.path(made), 0o700); err != nil {
			return nil, err
		}
	}
	if source == "" {
		source = empty
	}
	// Version 257 gave the files another ending and reads the old one only where there is none of the new.
	for _, ending := range []string{".conf", ".transfer"} {
		if err := os.WriteFile(e.path(dir+"/muster"+ending), []byte(e.definition(t, booted, source)), 0o600); err != nil {
			return nil, err
		}
	}
	return e.run(ctx, sysupdate, append([]string{"--definitions=" + dir}, args...)...)
}

// installed lists the versions whose roots are in slots, whole.
func (e *Engine) installed(ctx context.Context, booted string) ([]string, error) {
	out, err := e.sysupdate(ctx, rootTransfer, booted, "", "--json=short", "list")
	if err != nil {
		return nil, err
	}
	var list struct {
		All []string `json:"all"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("cannot read what systemd-sysupdate lists: %w", err)
	}
	return list.All, nil
}

// vacuum removes what there is of the transfer beside what belongs to the booted version.
func (e *Engine) vacuum(ctx context.Context, t transfer, booted string) error {
	_, err := e.sysupdate(ctx, t, booted, "", "--instances-max=1", "vacuum")
	return err
}

// install has systemd-sysupdate take a version from the directory source, in the host's root.
func (e *Engine) install(ctx context.Context, t transfer, booted, source, version string) error {
	_, err := e.sysupdate(ctx, t, booted, source, "update", version)
	return err
}

// sweep removes what a power cut has left of a kernel image: one that was being written, or one that was being given its name,
// which is empty. systemd-sysupdate would take that for the release.
func (e *Engine) sweep() error {
	names, err := e.names(kernelsDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := e.path(kernelsDir + "/" + name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		_, ours := parseEntry(name)
		if !strings.HasPrefix(name, ".#") && (!ours || info.Size() > 0) {
			continue
		}
		e.step()
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
