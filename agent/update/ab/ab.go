// Package ab is the engine of muster's own host image: two read-only roots, each with a unified kernel image on the ESP, of which
// systemd-boot boots one and counts its tries.
//
// systemd does what touches the disk: systemd-sysupdate (254 or newer) writes a root into the slot that does not run and a
// kernel image beside the running one, systemd-boot counts boots and falls back, systemd-bless-boot ends the counting. The
// package decides in which order. It guarantees that
//
//   - the booted slot is never written, nor its kernel image removed;
//   - a slot is bootable only while its root is whole: the entry goes first and comes last;
//   - a release is tried three times, and without Good the other slot is booted after them. Between boots nothing of this
//     program is needed for that: the image's muster-good.service resets a machine that is not said to be good in time, and
//     the watchdog one that hangs;
//   - what a power cut leaves is completed or removed by the same call made again.
//
// A release is two files, as the image's build makes them: muster_VERSION.root, a squashfs with its dm-verity tree, and
// muster_VERSION.efi, whose command line has the tree's root hash. So a root that is not what was released does not boot.
//
// To try an older release, whose entry would come after the running one's, the running entry is marked as one whose tries are
// used up: systemd-boot has those last, and boots the newest of them when none is left. That counts down and falls back as an
// update does, which LoaderEntryOneShot (one try) and LoaderEntryDefault (no fallback) do not.
//
// It knows nothing of where releases come from, nor of what makes a host good.
package ab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/update"
)

const (
	prefix       = "muster_"
	rootSuffix   = ".root"
	kernelSuffix = ".efi"
	tries        = 3

	// GoodFile is what muster-good.service waits for.
	GoodFile = "/run/muster/good"

	kernelsDir = "/efi/EFI/Linux"
	keptDir    = "/var/lib/muster/update/ab"    // what is staged: the kernel image of a root that is in its slot
	workDir    = "/run/muster/sysupdate"        // definitions and sources of the call that is made
	osRelease  = "/usr/lib/os-release"          // of the booted root: not /etc, which is kept across releases
	mountInfo  = "/proc/self/mountinfo"         // whether the ESP is there
	firmware   = "/sys/firmware/efi"            // there when it is UEFI
	countPath  = "/sys/firmware/efi/efivars/" + // set by systemd-boot when it counted this boot (systemd.io/AUTOMATIC_BOOT_ASSESSMENT)
		"LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	loaderPath = "/sys/firmware/efi/efivars/" + // set by systemd-boot (systemd.io/BOOT_LOADER_INTERFACE); no container sees it
		"LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

	sysupdate = "/usr/lib/systemd/systemd-sysupdate"
	systemctl = "/usr/bin/systemctl"
)

// Errors of hosts that this engine cannot update, and of calls that come too early.
var (
	ErrNoImage  = errors.New("this host does not run muster's image: its /usr/lib/os-release has no IMAGE_ID=muster with an IMAGE_VERSION")
	ErrNoESP    = errors.New("the ESP is not mounted on /efi: the host was not booted by systemd-boot, or efi.mount failed")
	ErrNoSlot   = errors.New("no slot or no kernel image in /efi/EFI/Linux is called after the version that runs")
	ErrOnTrial  = errors.New("the booted slot is on trial and the other one is what it falls back to: say that it is good first")
	ErrNoStaged = errors.New("the passive slot does not hold that version: stage it first")
)

// Run runs a program and returns what it prints. The error holds what it said.
type Run func(ctx context.Context, program string, args ...string) ([]byte, error)

// Engine implements update.Engine.
type Engine struct {
	root string
	disk string
	run  Run
	log  *slog.Logger
	sync func(*os.File) error
	step func() // called before what the engine changes itself; tests cut the power there
}

// New returns the engine of the host whose root directory is root, "/" but in tests. Run is Command but in tests.
func New(root string, run Run, log *slog.Logger) *Engine {
	return &Engine{root: root, disk: "auto", run: run, log: log, sync: (*os.File).Sync, step: func() {}}
}

// Fits reports whether a host, whose root directory is root, was booted from the image by systemd-boot, so that it has two slots.
func Fits(root string) bool {
	e := &Engine{root: root}
	if _, err := e.booted(); err != nil {
		return false
	}
	_, err := os.Stat(e.path(loaderPath))
	return err == nil
}

// Command runs programs of this host.
func Command(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out, nil
}

// Name implements update.Engine.
func (e *Engine) Name() string { return "ab" }

// state is what the disk holds.
type state struct {
	booted  string   // version
	roots   []string // versions of the roots that are whole
	entries []entry  // in boot order
	kept    []string // versions whose kernel images are kept for a switch
	counted bool     // systemd-boot counted this boot
}

// onTrial reports whether the booted version may yet fall back to the other one.
func (s state) onTrial() bool {
	running, _ := s.entry(s.booted)
	return s.counted && running.left >= 0
}

// other is the version of the passive slot's root, "" when it is empty.
func (s state) other() string {
	for _, version := range s.roots {
		if version != s.booted {
			return version
		}
	}
	return ""
}

func (s state) entry(version string) (entry, bool) {
	for _, e := range s.entries {
		if e.version == version {
			return e, true
		}
	}
	return entry{}, false
}

// slot is how a version's slot is told. A root without a kernel image is nothing that can be booted.
func (s state) slot(version string) update.Slot {
	e, ok := s.entry(version)
	switch {
	case ok:
		return update.Slot{Version: version, Good: e.left < 0, TriesLeft: e.left}
	case version != "" && slices.Contains(s.kept, version):
		return update.Slot{Version: version, TriesLeft: -1}
	}
	return update.Slot{TriesLeft: -1}
}

// Slots implements update.Engine.
func (e *Engine) Slots(ctx context.Context) (update.Slots, error) {
	s, err := e.look(ctx)
	if err != nil {
		return update.Slots{}, fmt.Errorf("cannot read the slots: %w", err)
	}
	slots := update.Slots{Booted: s.slot(s.booted), Other: s.slot(s.other()), Next: s.booted}
	if len(s.entries) > 0 {
		slots.Next = s.entries[0].version
	}
	return slots, nil
}

// look reads the state, and refuses hosts that are not of the image.
func (e *Engine) look(ctx context.Context) (state, error) {
	var s state
	var err error
	if s.booted, err = e.booted(); err != nil {
		return s, err
	}
	if err := e.mount(ctx); err != nil {
		return s, err
	}
	if s.entries, err = e.entries(); err != nil {
		return s, err
	}
	names, err := e.names(keptDir)
	if err != nil {
		return s, err
	}
	for _, name := range names {
		if kept, ok := parseEntry(name); ok && kept.left < 0 {
			s.kept = append(s.kept, kept.version)
		}
	}
	if _, err = os.Stat(e.path(countPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.counted = err == nil
	if s.roots, err = e.installed(ctx, s.booted); err != nil {
		return s, err
	}
	if _, found := s.entry(s.booted); !found || !slices.Contains(s.roots, s.booted) {
		return s, fmt.Errorf("%w: %s", ErrNoSlot, s.booted)
	}
	return s, nil
}

// booted is the version that runs.
func (e *Engine) booted() (string, error) {
	text, err := os.ReadFile(e.path(osRelease))
	if err != nil {
		return "", err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = strings.Trim(value, `"'`)
	}
	if fields["IMAGE_ID"] != "muster" || checkVersion(fields["IMAGE_VERSION"]) != nil {
		return "", ErrNoImage
	}
	return fields["IMAGE_VERSION"], nil
}

// mount has the ESP on /efi: what is written below the mount point is lost and boots nothing.
func (e *Engine) mount(ctx context.Context) error {
	if mounted, err := e.mounted(); mounted || err != nil {
		return err
	}
	if _, err := os.Stat(e.path(firmware)); errors.Is(err, fs.ErrNotExist) {
		return ErrNoESP
	}
	if _, err := e.run(ctx, systemctl, "start", "efi.mount"); err != nil {
		return err
	}
	mounted, err := e.mounted()
	if err == nil && !mounted {
		err = ErrNoESP
	}
	return err
}

func (e *Engine) mounted() (bool, error) {
	text, err := os.ReadFile(e.path(mountInfo))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/efi" {
			return true, nil
		}
	}
	return false, err
}

// entries lists the boot entries in their order. One that is empty is what a power cut leaves of a name that was given, and
// systemd-boot passes it over.
func (e *Engine) entries() ([]entry, error) {
	names, err := e.names(kernelsDir)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, name := range names {
		found, ok := parseEntry(name)
		if !ok {
			continue
		}
		info, err := os.Stat(e.path(kernelsDir + "/" + name))
		if err != nil {
			return nil, err
		}
		if info.Size() > 0 {
			entries = append(entries, found)
		}
	}
	bootOrder(entries)
	return entries, nil
}

// names lists a directory, which need not be there.
func (e *Engine) names(dir string) ([]string, error) {
	list, err := os.ReadDir(e.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := make([]string, len(list))
	for i, item := range list {
		names[i] = item.Name()
	}
	return names, nil
}

func (e *Engine) path(p string) string { return filepath.Join(e.root, p) }

// checkVersion refuses what cannot be in a partition's label (36 characters), or would be taken for a counter in a file's name.
func checkVersion(version string) error {
	const longest = 36 - len(prefix)
	ok := version != "" && len(version) <= longest && strings.IndexFunc(version, separates) < 0 && !strings.HasPrefix(version, ".")
	if !ok {
		return fmt.Errorf("%q cannot be a version of the image: at most %d letters, digits, dots, - ~ and ^", version, longest)
	}
	return nil
}
