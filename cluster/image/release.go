package image

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// suffix ends the names of manifests.
const suffix = ".manifest"

// ErrNoManifest says that a directory holds no manifest, or none for a file.
var ErrNoManifest = errors.New("no manifest")

// Release is one version of an image in a directory.
type Release struct {
	Manifest
	Dir string
}

// Path is where the release's manifest is.
func (r Release) Path() string { return filepath.Join(r.Dir, r.Base()+suffix) }

// Disk is where the release's disk image is, which hosts boot from.
func (r Release) Disk() string { return filepath.Join(r.Dir, r.Base()+".raw") }

// Root is the release's root file system, as updates ship it, when the manifest names it.
func (r Release) Root() (File, bool) { return r.File(r.Base() + ".root") }

// Read reads the manifest at path.
func Read(path string) (Release, error) {
	file, err := os.Open(path)
	if err != nil {
		return Release{}, fmt.Errorf("cannot read the manifest: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxManifest+1))
	if err != nil {
		return Release{}, fmt.Errorf("cannot read the manifest: %w", err)
	}
	m, err := Parse(data)
	if err != nil {
		return Release{}, fmt.Errorf("cannot read the manifest %s: %w", path, err)
	}
	if base := filepath.Base(path); base != m.Base()+suffix {
		return Release{}, fmt.Errorf("cannot read the manifest %s: it is of %s, whose is called %s%s", path, m.Base(), m.Base(), suffix)
	}
	return Release{Manifest: m, Dir: filepath.Dir(path)}, nil
}

// List reads every manifest of a directory, sorted by name and version, the oldest first. A directory without any is
// ErrNoManifest.
func List(dir string) ([]Release, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	var list []Release
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), suffix) || entry.IsDir() {
			continue
		}
		r, err := Read(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w in %s", ErrNoManifest, dir)
	}
	slices.SortFunc(list, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), CompareVersions(a.Version, b.Version))
	})
	return list, nil
}

// Of finds the release that a file belongs to: the one whose manifest it is, else the one whose manifest beside it is
// called as it is up to the suffix and names it, else the last one beside it that names it. The disk image need not be
// named. A file that belongs to none is ErrNoManifest.
func Of(path string) (Release, error) {
	base := strings.TrimSuffix(path, filepath.Ext(path))
	r, err := Read(base + suffix)
	if errors.Is(err, fs.ErrNotExist) && path != base+suffix {
		return sharing(path)
	}
	if err != nil {
		return Release{}, err
	}
	name := filepath.Base(path)
	if _, named := r.File(name); !named && name != filepath.Base(r.Disk()) && name != filepath.Base(r.Path()) {
		return Release{}, fmt.Errorf("%w: %s does not name %s", ErrNoManifest, r.Path(), name)
	}
	return r, nil
}

// sharing finds the last release that names a file which is not called after a version. Manifests that are not of images
// are nobody's business here.
func sharing(path string) (Release, error) {
	list, err := List(filepath.Dir(path))
	if err == nil {
		for _, r := range slices.Backward(list) {
			if _, named := r.File(filepath.Base(path)); named {
				return r, nil
			}
		}
	}
	return Release{}, fmt.Errorf("%w of %s beside it", ErrNoManifest, path)
}

// CompareVersions orders versions as people count: runs of digits by their value, the rest letter by letter, so that 9
// comes before 10 and 1.2 before 1.10. Only equal versions compare as equal.
func CompareVersions(a, b string) int {
	restA, restB := a, b
	for restA != "" && restB != "" {
		runA, runB := run(restA), run(restB)
		restA, restB = restA[len(runA):], restB[len(runB):]
		if c := compareRuns(runA, runB); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(restA), len(restB)), cmp.Compare(a, b))
}

// run is the longest beginning that is digits alone, or has none.
func run(s string) string {
	for i := range len(s) {
		if isDigit(s[i]) != isDigit(s[0]) {
			return s[:i]
		}
	}
	return s
}

func compareRuns(a, b string) int {
	if !isDigit(a[0]) || !isDigit(b[0]) {
		return cmp.Compare(a, b)
	}
	valueA, valueB := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(valueA), len(valueB)), cmp.Compare(valueA, valueB))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
