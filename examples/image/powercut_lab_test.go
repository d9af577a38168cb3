//go:build lab

package image

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/update"
)

// moments is how many moments of an update the power is cut at.
const moments = 20

// recording is an update as its disk saw it.
type recording struct {
	fresh  string // the disk before it
	writes []write
	parts  []part
}

// part is one of an update's, by the writes that it begins and ends with.
type part struct {
	name        string
	first, last int
}

// record splits what a disk was written into the parts of an update. begun and heard are how long the last but one log was when
// the update was ordered, and the last when the new release first told that it runs.
func record(t *testing.T, fresh string, logs []string, begun, heard int64) recording {
	t.Helper()
	var before []write
	for _, log := range logs[:len(logs)-1] {
		before = append(before, readWrites(t, log)...)
	}
	after := readWrites(t, logs[len(logs)-1])
	at := partitions(t, fresh)
	slot, data := at[2].Start*512, at[3].Start*512
	index := func(writes []write, is func(write) bool) int {
		if i := slices.IndexFunc(writes, is); i >= 0 {
			return i
		}
		return len(writes)
	}
	ordered := index(before, func(w write) bool { return w.log == logs[len(logs)-2] && w.data > begun })
	emptied := ordered + index(before[ordered:], func(w write) bool { return !w.flush && w.at < data })
	inSlot := func(w write) bool { return w.size > 0 && w.at >= slot && w.at < data }
	wrote := index(before, inSlot)
	whole := wrote
	for i, w := range before {
		if inSlot(w) {
			whole = i + 1
		}
	}
	told := len(before) + index(after, func(w write) bool { return w.data > heard })
	r := recording{fresh: fresh, writes: slices.Concat(before, after)}
	for _, w := range r.writes {
		if w.size > 0 && w.at+w.size > at[1].Start*512 && w.at < slot {
			t.Fatal("the booted slot was written")
		}
	}
	for _, p := range []part{ // what is the most telling first: a run may boot few
		{"adding the boot entry", whole, len(before)},
		{"marking good", told, len(r.writes)},
		{"emptying the slot", emptied, wrote},
		{"writing the slot", wrote, whole},
		{"first boot", len(before), told},
		{"download", ordered, emptied},
	} {
		t.Logf("%s: %d writes", p.name, p.last-p.first)
		if p.first < p.last {
			r.parts = append(r.parts, p)
		}
	}
	return r
}

// number is what the environment says, or what is usual.
func number(t *testing.T, name string, usual uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cuts cuts the power at random moments of an update. Whatever the boot loader may choose then is a whole release. So many of
// the disks are booted for real, and run what it is said to choose.
func (r recording) cuts(t *testing.T, releases *releases) {
	seed, boots := number(t, "MUSTER_SEED", rand.Uint64()), number(t, "MUSTER_CUTS", 4)
	t.Logf("seed %d", seed)
	for n := range moments {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		p := r.parts[n%len(r.parts)]
		last, cached := p.first+random.IntN(p.last-p.first), random.IntN(2) == 0
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			t.Parallel()
			disk := filepath.Join(t.TempDir(), "disk.raw")
			replay(t, r.fresh, disk, r.writes[:last+1], cached, random)
			entries := bootEntries(t, disk, releases)
			t.Logf("%s, write %d, unsynced ones lost %v: boots %v", p.name, last-p.first, cached, entries)
			if t.Failed() || uint64(n) >= boots {
				return
			}
			m, told, boots := newOperator(t, releases, disk).boot()
			m.kill()
			is := slices.IndexFunc(entries, func(e bootEntry) bool { return e.version == told.Slots.Booted.Version })
			if is < 0 || is > 0 && boots == 1 {
				t.Errorf("%s boots, the %d. time that the machine is on", told.Slots.Booted.Version, boots)
			}
		})
	}
}

// bootEntry is a kernel image that systemd-boot may choose.
type bootEntry struct {
	version string
	left    int   // tries, -1 when they are not counted
	broken  error // why it is not the release's, or its root is not
}

func (e bootEntry) String() string {
	text := fmt.Sprintf("%s (%d tries left)", e.version, e.left)
	if e.left < 0 {
		text = e.version
	}
	if e.broken != nil {
		text += ", broken"
	}
	return text
}

var entryName = regexp.MustCompile(`^muster_(\d+)(?:\+(\d+)(?:-\d+)?)?\.efi$`)

// bootEntries lists what a disk may boot, in the order in which systemd-boot does: what comes after an entry whose tries are
// not counted it never chooses by itself. Each is the release's, and so is the root that its command line has the hash of.
func bootEntries(t *testing.T, disk string, releases *releases) []bootEntry {
	t.Helper()
	slots := partitions(t, disk)
	esp := fmt.Sprintf("%s@@%d", disk, slots[0].Start*512)
	var entries []bootEntry
	for path := range strings.Lines(run(t, "mdir", "-b", "-i", esp, "::/EFI/Linux")) {
		name := strings.TrimPrefix(strings.TrimSpace(path), "::/EFI/Linux/")
		if !strings.HasSuffix(strings.ToLower(name), ".efi") {
			continue // the boot loader does not look at what is being written
		}
		kernel := filepath.Join(t.TempDir(), name)
		_ = exec.CommandContext(t.Context(), "mcopy", "-i", esp, "::/EFI/Linux/"+name, kernel).Run() // same says what it could not read
		if info, err := os.Stat(kernel); err == nil && info.Size() == 0 {
			continue // nor at what is no image
		}
		e := releases.entry(name, kernel)
		release := releases.told[e.version]
		at := slices.IndexFunc(slots, func(p partition) bool { return p.Name == "muster_"+e.version })
		if e.broken = same(kernel, 0, release, "efi"); e.broken == nil && at < 0 {
			e.broken = fmt.Errorf("no slot is called after %s: %+v", name, slots)
		}
		if e.broken == nil {
			e.broken = same(disk, slots[at].Start*512, release, "root")
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b bootEntry) int {
		spent := map[bool]int{true: 1}
		return cmp.Or(spent[a.left == 0]-spent[b.left == 0], strings.Compare(b.version, a.version))
	})
	if i := slices.IndexFunc(entries, func(e bootEntry) bool { return e.left < 0 }); i >= 0 {
		entries = entries[:i+1]
	}
	for _, e := range entries {
		if e.broken != nil {
			t.Errorf("%s can be booted: %v", e.version, e.broken)
		}
	}
	if len(entries) == 0 {
		t.Fatal("nothing to boot")
	}
	return entries
}

// entry reads a kernel image's name. One whose long name was lost in a cut is told by what is in it, and is not counted.
func (r *releases) entry(name, kernel string) bootEntry {
	e := bootEntry{left: -1}
	found := entryName.FindStringSubmatch(name)
	if found == nil {
		for version, release := range r.told {
			if same(kernel, 0, release, "efi") == nil {
				e.version = version
			}
		}
		return e
	}
	if e.version = found[1]; found[2] != "" {
		e.left, _ = strconv.Atoi(found[2])
	}
	return e
}

// same is why what is in a file is not what a release says.
func same(path string, at int64, release update.Release, suffix string) error {
	i := slices.IndexFunc(release.Files, func(f update.File) bool { return strings.HasSuffix(f.Name, "."+suffix) })
	if i < 0 {
		return fmt.Errorf("%q was never released", release.Version)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, at, release.Files[i].Size)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != release.Files[i].SHA256 {
		return fmt.Errorf("%s is not what was released", release.Files[i].Name)
	}
	return nil
}

// verity checks a release's root against the hash in its kernel image.
func (r *releases) verity(version string) {
	r.t.Helper()
	kernel, err := os.ReadFile(r.path("muster_" + version + ".efi"))
	if err != nil {
		r.t.Fatal(err)
	}
	line := regexp.MustCompile(`muster\.root=muster_` + version + ` roothash=([0-9a-f]{64}) .*muster\.hash=(\d+) `)
	found := line.FindSubmatch(kernel)
	if found == nil {
		r.t.Fatalf("the kernel image of %s has no root hash", version)
	}
	root := r.path("muster_" + version + ".root")
	run(r.t, "veritysetup", "verify", root, root, string(found[1]), "--hash-offset="+string(found[2]))
}

// install has a disk's second slot hold a release, whose boot entry has these tries.
func (r *releases) install(disk, version, tries string) {
	r.t.Helper()
	secondSlot(r.t, r.path("muster_"+version+".root"), "muster_"+version, disk)
	esp := fmt.Sprintf("%s@@%d", disk, partitions(r.t, disk)[0].Start*512)
	run(r.t, "mcopy", "-i", esp, r.path("muster_"+version+".efi"), "::/EFI/Linux/muster_"+version+tries+".efi")
}
