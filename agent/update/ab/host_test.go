package ab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/enginetest"
)

// partition is a slot: its label and what is in it.
type partition struct{ label, content string }

// host is a machine of the image: a root directory, two partitions, and what systemd's programs do to them. It notes their
// calls.
type host struct {
	root   string
	slots  []*partition
	step   func()
	calls  []string
	esp    string // the line of mountinfo, when the ESP is mounted
	failed error  // what the next program fails with
}

func newHost(t *testing.T, step func()) *host {
	h := &host{root: t.TempDir(), slots: []*partition{{prefix + "1", contents("1", rootSuffix)}, {label: emptyLabel}}, step: step}
	h.esp = "36 25 254:1 / /efi rw,relatime shared:1 - vfat /dev/vda1 rw\n"
	for _, dir := range []string{kernelsDir, "/usr/lib", "/proc/self", filepath.Dir(countPath), "/run"} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write(t, mountInfo, "25 1 0:22 / / ro - squashfs /dev/dm-0 ro\n")
	h.write(t, kernelsDir+"/"+fileName("1", -1, 0), contents("1", kernelSuffix))
	h.run(t, "1")
	return h
}

const emptyLabel = "_empty"

func contents(version, suffix string) string {
	return strings.Repeat("what "+version+" has in its "+suffix+"\n", 100)
}

func (h *host) path(p string) string { return filepath.Join(h.root, p) }

func (h *host) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(h.path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (h *host) run(t *testing.T, version string) {
	t.Helper()
	h.write(t, osRelease, "NAME=\"muster\"\nIMAGE_ID=muster\nIMAGE_VERSION="+version+"\n")
}

func (h *host) Engine() update.Engine { return h.engine() }

func (h *host) engine() *Engine {
	e := New(h.root, h.call, slog.New(slog.DiscardHandler))
	e.step = h.step
	e.sync = func(*os.File) error { return nil } // the power that is cut here leaves what was written
	return e
}

func (h *host) Contents(version string) map[string]string {
	name := prefix + version
	return map[string]string{name + rootSuffix: contents(version, rootSuffix), name + kernelSuffix: contents(version, kernelSuffix)}
}

func (h *host) entries() []entry {
	list, _ := os.ReadDir(h.path(kernelsDir))
	var entries []entry
	for _, item := range list {
		if e, ok := parseEntry(item.Name()); ok {
			entries = append(entries, e)
		}
	}
	bootOrder(entries)
	return entries
}

// Boot is what systemd-boot does: it counts the first entry down and boots it. A root whose partition is not there or not what
// the kernel image's root hash says does not come up, and the machine is reset.
func (h *host) Boot(t *testing.T) {
	t.Helper()
	_ = os.RemoveAll(h.path("/run"))
	h.write(t, mountInfo, "25 1 0:22 / / ro - squashfs /dev/dm-0 ro\n")
	for range 2 * tries {
		entries := h.entries()
		if len(entries) == 0 {
			t.Fatal("nothing to boot")
		}
		next := entries[0]
		_ = os.Remove(h.path(countPath))
		if next.left >= 0 {
			counted := fileName(next.version, max(0, next.left-1), next.done+1)
			if err := os.Rename(h.path(kernelsDir+"/"+next.name), h.path(kernelsDir+"/"+counted)); err != nil {
				t.Fatal(err)
			}
			h.write(t, countPath, counted)
		}
		h.run(t, next.version)
		if h.whole(next.version) {
			return
		}
		t.Errorf("%s was booted, and is not whole", next.version)
	}
}

func (h *host) whole(version string) bool {
	at := slices.IndexFunc(h.slots, func(p *partition) bool { return p.label == prefix+version })
	return at >= 0 && h.slots[at].content == contents(version, rootSuffix)
}

// Running is the release whose root runs. Its entry has to be there for the next boot.
func (h *host) Running(t *testing.T) string {
	t.Helper()
	version, err := h.engine().booted()
	if err != nil {
		t.Fatal(err)
	}
	if !h.whole(version) {
		t.Errorf("the slot of %s, which runs, is not whole", version)
	}
	for _, e := range h.entries() {
		text, _ := os.ReadFile(h.path(kernelsDir + "/" + e.name))
		if string(text) != contents(e.version, kernelSuffix) {
			t.Errorf("the kernel image %s is not whole", e.name)
		}
	}
	return version
}

// call stands for systemd's programs. What they do at once on a disk is between two steps.
func (h *host) call(_ context.Context, program string, args ...string) ([]byte, error) {
	h.calls = append(h.calls, program+" "+strings.Join(args, " "))
	h.step()
	if err := h.failed; err != nil {
		h.failed = nil
		return nil, err
	}
	switch filepath.Base(program) + " " + args[0] {
	case "systemctl reboot":
		return nil, nil
	case "systemctl start":
		if args[1] == "efi.mount" {
			return nil, os.WriteFile(h.path(mountInfo), []byte(h.esp), 0o644)
		}
		return nil, h.bless()
	}
	definition, err := h.definition(strings.TrimPrefix(args[0], "--definitions="))
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Equal(args[1:], []string{"--json=short", "list"}):
		return h.list(definition)
	case slices.Equal(args[1:], []string{"--instances-max=1", "vacuum"}):
		return nil, h.makeRoom(definition, 1)
	case len(args) == 3 && args[1] == "update":
		return nil, h.update(definition, args[2])
	}
	return nil, fmt.Errorf("no such call: %s", args)
}

// bless is boot-complete.target and systemd-bless-boot.service.
func (h *host) bless() error {
	if _, err := os.Stat(h.path(GoodFile)); err != nil {
		return errors.New("muster-good.service waits")
	}
	name, err := os.ReadFile(h.path(countPath))
	if err != nil {
		return errors.New("not booted with boot counting in effect")
	}
	e, _ := parseEntry(string(name))
	err = os.Rename(h.path(kernelsDir+"/"+e.name), h.path(kernelsDir+"/"+fileName(e.version, -1, 0)))
	h.step()
	return err
}

// definition is what systemd-sysupdate reads of the transfer.
type definition struct {
	protect, source string
	partition       bool
}

var keys = regexp.MustCompile(`(?s)ProtectVersion=(\S+).*Type=regular-file\nPath=(\S+).*Type=(partition|regular-file)\nPath=(\S+)`)

func (h *host) definition(dir string) (definition, error) {
	text, err := os.ReadFile(h.path(dir + "/muster.transfer"))
	if err != nil {
		return definition{}, err
	}
	found := keys.FindStringSubmatch(string(text))
	if found == nil {
		return definition{}, fmt.Errorf("definition\n%s", text)
	}
	return definition{protect: found[1], source: found[2], partition: found[3] == "partition"}, nil
}

// instances are the versions that are in the target, the oldest first.
func (h *host) instances(d definition) []string {
	var versions []string
	if d.partition {
		for _, p := range h.slots {
			if version, ours := strings.CutPrefix(p.label, prefix); ours {
				versions = append(versions, version)
			}
		}
	} else {
		for _, e := range h.entries() {
			versions = append(versions, e.version)
		}
	}
	slices.SortFunc(versions, compareVersions)
	return versions
}

func (h *host) list(d definition) ([]byte, error) {
	all := h.instances(d)
	slices.Reverse(all)
	return json.Marshal(map[string]any{"current": d.protect, "all": all, "appstreamUrls": []string{}})
}

// makeRoom removes the oldest instances until at most n are left, and never the protected one.
func (h *host) makeRoom(d definition, n int) error {
	versions := h.instances(d)
	for i := 0; i < len(versions) && len(versions) > n; {
		if versions[i] == d.protect {
			i++
			continue
		}
		if err := h.remove(d, versions[i]); err != nil {
			return err
		}
		versions = slices.Delete(versions, i, i+1)
	}
	return nil
}

func (h *host) remove(d definition, version string) error {
	h.step()
	for _, p := range h.slots {
		if d.partition && p.label == prefix+version {
			p.label = emptyLabel
		}
	}
	for _, e := range h.entries() {
		if !d.partition && e.version == version {
			if err := os.Remove(h.path(kernelsDir + "/" + e.name)); err != nil {
				return err
			}
		}
	}
	h.step()
	return nil
}

// update installs a version unless it is there.
func (h *host) update(d definition, version string) error {
	if slices.Contains(h.instances(d), version) {
		return nil
	}
	suffix := kernelSuffix
	if d.partition {
		suffix = rootSuffix
	}
	text, err := os.ReadFile(h.path(d.source + "/" + prefix + version + suffix))
	if err != nil {
		return err
	}
	if err := h.makeRoom(d, 1); err != nil {
		return err
	}
	if !d.partition {
		return h.addKernel(version, text)
	}
	at := slices.IndexFunc(h.slots, func(p *partition) bool { return p.label == emptyLabel })
	if at < 0 {
		return errors.New("no partition is empty")
	}
	for _, n := range []int{0, len(text) / 2, len(text)} {
		h.slots[at].content = string(text[:n])
		h.step()
	}
	h.slots[at].label = prefix + version
	h.step()
	return nil
}

func (h *host) addKernel(version string, text []byte) error {
	temporary := h.path(kernelsDir + "/.#sysupdate" + fileName(version, tries, 0) + "867291be528a150e")
	for _, n := range []int{0, len(text) / 2, len(text)} {
		if err := os.WriteFile(temporary, text[:n], 0o444); err != nil {
			return err
		}
		h.step()
	}
	err := os.Rename(temporary, h.path(kernelsDir+"/"+fileName(version, tries, 0)))
	h.step()
	return err
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Rig{
		New:   func(t *testing.T, step func()) enginetest.Host { return newHost(t, step) },
		Tries: tries, Older: true,
	})
}
