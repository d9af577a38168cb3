package release

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/version"
)

// Channels are what hosts follow, from the boldest to the most careful. A release enters the first and is promoted.
var Channels = []string{"alpha", "beta", "stable"}

// AnyArch is the architecture of releases that run on all.
const AnyArch = "any"

// Custom is what the metadata says of a file beyond its length and hashes ("custom" of a target, TUF section 4.5). All files of
// a release say the same.
type Custom struct {
	Version  string   `json:"version"`
	Engine   string   `json:"engine"`             // the update engine that it is for
	Arch     string   `json:"arch"`               // as GOARCH names it, or AnyArch
	Channels []string `json:"channels"`           // that have it, as Channels sorts them
	MinFrom  string   `json:"min_from,omitempty"` // hosts with an older version take another release first
	Notes    string   `json:"notes,omitempty"`    // for people
	Files    []string `json:"files"`              // the names of all its files, sorted
}

// Extension is what targets metadata says beside the targets, in the signed field "muster".
type Extension struct {
	Version int               `json:"version"` // 1
	Minimum map[string]string `json:"minimum"` // by engine: no older release is installed any more
	Revoked map[string]string `json:"revoked"` // by engine/version: why. Such a version is never offered again
}

// ExtensionField is where targets metadata has its Extension.
const ExtensionField = "muster"

// File is a file of a release as the metadata has it.
type File struct {
	Name   string // within the release
	Size   int64  // bytes
	SHA256 string // 64 lower-case hexadecimal digits
}

// Release is a release as the metadata has it.
type Release struct {
	Custom
	Contents []File // sorted by name
}

// Dir is where a release's files are below the repository's targets: engine/arch/version.
func (c Custom) Dir() string { return c.Engine + "/" + c.Arch + "/" + c.Version }

// Catalog is all that a repository offers.
type Catalog struct {
	Releases []Release // the oldest first
	Minimum  map[string]string
	Revoked  map[string]string
}

// Bounds of what a catalog holds.
const (
	maxTargets = 20_000
	maxFiles   = 64       // of a release
	maxNotes   = 16 << 10 // bytes
	maxFile    = 64 << 30 // bytes
)

var (
	fileForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+@~-]{0,199}$`)
	wordForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
)

// Check tells what is wrong with a release's description.
func (c Custom) Check() error {
	switch {
	case !version.Valid(c.Version):
		return fmt.Errorf("%q is no version: versions are numbers as 2026.11.3 or 1.4.0-rc.1", c.Version)
	case !wordForm.MatchString(c.Engine):
		return fmt.Errorf("%q is no engine's name", c.Engine)
	case !wordForm.MatchString(c.Arch):
		return fmt.Errorf("%q is no architecture: name it as Go does (amd64, arm64), or any", c.Arch)
	case c.MinFrom != "" && !version.Valid(c.MinFrom):
		return fmt.Errorf("%q is no version to come from", c.MinFrom)
	case len(c.Notes) > maxNotes:
		return fmt.Errorf("the notes have %d bytes, more than %d", len(c.Notes), maxNotes)
	case len(c.Channels) == 0:
		return errors.New("it is in no channel")
	case len(c.Files) == 0 || len(c.Files) > maxFiles:
		return fmt.Errorf("it has %d files; 1 to %d are allowed", len(c.Files), maxFiles)
	case !slices.IsSorted(c.Files) || len(slices.Compact(slices.Clone(c.Files))) != len(c.Files):
		return errors.New("its list of files is not sorted, or names one twice")
	}
	for _, channel := range c.Channels {
		if !slices.Contains(Channels, channel) {
			return fmt.Errorf("there is no channel %q: choose %s", channel, strings.Join(Channels, ", "))
		}
	}
	for _, name := range c.Files {
		if !fileForm.MatchString(name) {
			return fmt.Errorf("%q cannot be a file's name here: use letters, digits and . _ + @ ~ -", name)
		}
	}
	return nil
}

// ReadCatalog reads targets metadata whose signatures were verified. A release that lies about itself is refused with the
// whole: nobody but the owner of the targets key could have written it.
func ReadCatalog(targets metadata.TargetsType) (Catalog, error) {
	ext, err := readExtension(targets.UnrecognizedFields[ExtensionField])
	if err != nil {
		return Catalog{}, err
	}
	if targets.Delegations != nil {
		return Catalog{}, errors.New("targets metadata delegates to others, which muster's repositories do not")
	}
	if len(targets.Targets) > maxTargets {
		return Catalog{}, &Refusal{Attack: EndlessData, Subject: "targets.json", Err: fmt.Errorf("%d targets", len(targets.Targets))}
	}
	byDir := map[string]*Release{}
	for path, target := range targets.Targets {
		if err := addTarget(byDir, path, target); err != nil {
			return Catalog{}, err
		}
	}
	cat := Catalog{Minimum: ext.Minimum, Revoked: ext.Revoked}
	for dir, r := range byDir {
		if len(r.Contents) != len(r.Files) {
			return Catalog{}, fmt.Errorf("release %s lists %d files and %d are there", dir, len(r.Files), len(r.Contents))
		}
		slices.SortFunc(r.Contents, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
		cat.Releases = append(cat.Releases, *r)
	}
	slices.SortFunc(cat.Releases, func(a, b Release) int {
		if c := version.Compare(a.Version, b.Version); c != 0 {
			return c
		}
		return strings.Compare(a.Dir(), b.Dir())
	})
	return cat, nil
}

func readExtension(field any) (Extension, error) {
	if field == nil {
		return Extension{}, nil
	}
	data, err := json.Marshal(field)
	if err != nil {
		return Extension{}, fmt.Errorf("cannot read what the repository allows: %w", err)
	}
	var ext Extension
	if err := json.Unmarshal(data, &ext); err != nil {
		return Extension{}, fmt.Errorf("cannot read what the repository allows: %w", err)
	}
	if ext.Version != 1 {
		return Extension{}, fmt.Errorf("cannot read what the repository allows: it is of version %d, and this program knows 1; update it",
			ext.Version)
	}
	for engine, v := range ext.Minimum {
		if !version.Valid(v) {
			return Extension{}, fmt.Errorf("cannot read what the repository allows: %q is no minimum version of %s", v, engine)
		}
	}
	return ext, nil
}

// addTarget adds a file to its release, which is that of its path, and says so itself.
func addTarget(byDir map[string]*Release, path string, target *metadata.TargetFiles) error {
	file, custom, err := readTarget(path, target)
	if err != nil {
		return err
	}
	dir := custom.Dir()
	if path != dir+"/"+file.Name {
		return &Refusal{Attack: WrongSoftware, Subject: path, Err: fmt.Errorf("it says that it is of %s", dir)}
	}
	if !slices.Contains(custom.Files, file.Name) {
		return &Refusal{Attack: ExtraneousDependencies, Subject: path}
	}
	r := byDir[dir]
	if r == nil {
		r = &Release{Custom: custom}
		byDir[dir] = r
	}
	if !r.same(custom) {
		return &Refusal{Attack: MixAndMatch, Subject: path, Err: errors.New("the release's files describe it differently")}
	}
	r.Contents = append(r.Contents, file)
	return nil
}

func readTarget(path string, target *metadata.TargetFiles) (File, Custom, error) {
	if target == nil || target.Custom == nil {
		return File{}, Custom{}, &Refusal{Attack: ExtraneousDependencies, Subject: path, Err: errors.New("it is of no release")}
	}
	var custom Custom
	if err := json.Unmarshal(*target.Custom, &custom); err != nil {
		return File{}, Custom{}, fmt.Errorf("cannot read what %s is: %w", path, err)
	}
	if err := custom.Check(); err != nil {
		return File{}, Custom{}, fmt.Errorf("cannot read what %s is: %w", path, err)
	}
	sum := target.Hashes["sha256"]
	if len(sum) != 32 || target.Length < 0 || target.Length > maxFile {
		return File{}, Custom{}, fmt.Errorf("cannot read what %s is: it needs a SHA-256 and a length below 64 GiB", path)
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	return File{Name: name, Size: target.Length, SHA256: hex.EncodeToString(sum)}, custom, nil
}

func (c Custom) same(d Custom) bool {
	return c.Version == d.Version && c.Engine == d.Engine && c.Arch == d.Arch && c.MinFrom == d.MinFrom && c.Notes == d.Notes &&
		slices.Equal(c.Channels, d.Channels) && slices.Equal(c.Files, d.Files)
}

// Allows tells why a version of an engine may not be installed or booted any more, nil if it may. What is installed is not asked
// to be offered still: a repository may drop old releases.
func (c Catalog) Allows(engine, v string) error {
	for which, why := range c.Revoked {
		if of, revoked, _ := strings.Cut(which, "/"); of == engine && version.Compare(revoked, v) == 0 {
			return fmt.Errorf("version %s was revoked: %s", v, why)
		}
	}
	if least := c.Minimum[engine]; least != "" && version.Compare(v, least) < 0 {
		return &Refusal{Attack: Rollback, Subject: "version " + v, Err: fmt.Errorf("the repository's minimum is %s", least)}
	}
	return nil
}
