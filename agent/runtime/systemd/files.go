package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
)

const (
	unitDir     = "/run/systemd/system"
	dropInFile  = "10-muster.conf"
	historyFile = "muster.json"

	scratch = ".muster-*" // files that are being written
)

// directory holds the units' files.
type directory struct {
	path string   // with the prefix that leads to the host's root
	env  []string // NAME=VALUE for every unit
}

// stored is what the files of a unit say.
type stored struct {
	hash    string
	dropIn  string
	enabled bool // it has [Install]
	strict  bool // Singleton=strict
	history history
}

func (d directory) file(name string) string { return filepath.Join(d.path, name) }

func (d directory) dropIns(name string) string { return filepath.Join(d.path, name+".d") }

// all reads what was written before. A unit without its own file was not written to the end; it is removed.
func (d directory) all() (map[string]stored, error) {
	if err := d.tidy(); err != nil {
		return nil, err
	}
	marks, err := filepath.Glob(filepath.Join(d.path, "*.d", dropInFile))
	if err != nil {
		return nil, err
	}
	units := map[string]stored{}
	for _, mark := range marks {
		name := strings.TrimSuffix(filepath.Base(filepath.Dir(mark)), ".d")
		s, err := d.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			if err := d.remove(name); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		units[name] = s
	}
	return units, nil
}

// tidy removes what an agent was writing when it was ended.
func (d directory) tidy() error {
	for _, pattern := range []string{scratch, filepath.Join("*.d", scratch)} {
		files, err := filepath.Glob(filepath.Join(d.path, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d directory) read(name string) (stored, error) {
	text, err := os.ReadFile(d.file(name))
	if err != nil {
		return stored{}, err
	}
	mark, err := os.ReadFile(filepath.Join(d.dropIns(name), dropInFile))
	if err != nil {
		return stored{}, err
	}
	s := stored{
		hash: hashIn(string(text)), dropIn: string(mark), enabled: strings.Contains(string(text), "\n[Install]\n"),
		strict: strings.Contains(string(mark), gate),
	}
	past, err := os.ReadFile(filepath.Join(d.dropIns(name), historyFile))
	if err == nil {
		err = json.Unmarshal(past, &s.history)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stored{}, fmt.Errorf("cannot tell what %s was started with: %w", name, err)
	}
	if n := len(s.history); n == 0 || s.history[n-1].Hash != s.hash {
		// The agent was ended while it replaced the contents.
		s.history = append(s.history, loading{Hash: s.hash})
	}
	return s, nil
}

// searchPath is where systemd looks for units, in that order (systemd.unit(5), "Unit File Load Path").
var searchPath = []string{
	"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/run/systemd/generator.early",
	"/etc/systemd/system", "/etc/systemd/system.attached", unitDir, "/run/systemd/system.attached", "/run/systemd/generator",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late",
}

// othersFile returns the path of a file that somebody else has given the host for a unit or its template, "" if there
// is none.
func (d directory) othersFile(root, name string) (string, error) {
	names := []string{name}
	if template, ok := unitfile.Template(name); ok {
		names = append(names, template)
	}
	for _, dir := range searchPath {
		for _, file := range names {
			_, err := os.Lstat(filepath.Join(root, dir, file))
			if err == nil {
				return filepath.Join(dir, file), nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return "", nil
}

// write stores a unit. The mark comes first, the unit's own file last: that is what systemd looks for.
func (d directory) write(u runtime.Unit, h history) error {
	if err := os.MkdirAll(d.dropIns(u.Name), 0o755); err != nil {
		return err
	}
	if err := d.writeHistory(u.Name, h); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(d.dropIns(u.Name), dropInFile), dropIn(u, d.env)); err != nil {
		return err
	}
	if err := replaceFile(d.file(u.Name), contents(u)); err != nil {
		return err
	}
	return d.stamp()
}

// stamp gives the directory a time that it had never before: by it systemd knows that there may be new units, and the
// kernel's own is the same for everything within some milliseconds.
func (d directory) stamp() error {
	now := time.Now()
	return os.Chtimes(d.path, now, now)
}

func (d directory) writeHistory(name string, h history) error {
	file := filepath.Join(d.dropIns(name), historyFile)
	if len(h) < 2 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return replaceFile(file, text)
}

// remove deletes the files of a unit. The mark goes last, so that an interrupted removal is seen.
func (d directory) remove(name string) error {
	if err := os.Remove(d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, file := range []string{historyFile, dropInFile} {
		if err := os.Remove(filepath.Join(d.dropIns(name), file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// What somebody else has put there stays.
	_ = os.Remove(d.dropIns(name))
	return d.stamp()
}

// replaceFile writes a file that is complete or not there. It need not outlive a boot, so nothing is synced. The new
// file's name is nothing to systemd.
func replaceFile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, scratch)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

const (
	header   = "# Written by muster, which replaces and removes this file. Change the unit in the cluster.\n"
	hashLine = "# X-Muster-Hash: "
)

// contents is the unit's own file.
func contents(u runtime.Unit) []byte {
	return append([]byte(header+hashLine+u.Hash+"\n"), u.File.Bytes()...)
}

// hashIn is the hash that a unit's file tells.
func hashIn(text string) string {
	_, rest, _ := strings.Cut(text, "\n"+hashLine)
	hash, _, _ := strings.Cut(rest, "\n")
	return hash
}

// execSections are the sections whose processes have an environment, by the type of unit.
var execSections = map[string]string{
	"service": "Service", "socket": "Socket", "mount": "Mount", "swap": "Swap",
}

// dropIn is the file that marks a unit as muster's. Variables that the unit sets itself are left to it.
func dropIn(u runtime.Unit, env []string) []byte {
	var b strings.Builder
	b.WriteString(header)
	if u.File.Muster(u.Name).Strict {
		b.WriteString(gate)
	}
	section, ok := execSections[strings.TrimPrefix(filepath.Ext(u.Name), ".")]
	if !ok {
		return []byte(b.String())
	}
	b.WriteString("[" + section + "]\n")
	own := ownVariables(u, section)
	for _, assignment := range append(env[:len(env):len(env)], "MUSTER_UNIT="+u.Name) {
		if name, _, _ := strings.Cut(assignment, "="); !own[name] {
			b.WriteString("Environment=" + quote(assignment) + "\n")
		}
	}
	return []byte(b.String())
}

func ownVariables(u runtime.Unit, section string) map[string]bool {
	own := map[string]bool{}
	for _, value := range u.File.Values(section, "Environment") {
		assignments, err := unitfile.ParseEnvironment(value)
		if err != nil {
			continue // systemd ignores it, too
		}
		for _, a := range assignments {
			name, _, _ := strings.Cut(a, "=")
			own[name] = true
		}
	}
	return own
}

// quote writes a word for a unit file (systemd.syntax(7), "Quoting").
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "%", "%%").Replace(word) + `"`
}
