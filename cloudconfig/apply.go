package cloudconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// RecordPath is where Apply notes, below the root directory, for which instance it has been done.
const RecordPath = "/var/lib/muster/firstboot.json"

// Result is what Apply did.
type Result struct {
	Repeated bool     // it had been done for this instance before: nothing was done now
	Written  []string // paths below the root, in order
	Ignored  []string // what else the document asks for: "users", "owner of /etc/x"
}

// record is the content of RecordPath.
type record struct {
	Version    int            `json:"version"` // 1
	InstanceID string         `json:"instance_id"`
	Files      []recordedFile `json:"files"`
}

type recordedFile struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	SHA256 string `json:"sha256"`
}

// Apply writes the document's files below root, once for every instance: it is the first boot of a host that has no
// cloud-init. Each file appears whole or not at all; a run that was cut short is repeated from the start. Symbolic links
// that lead out of root are refused. Owners are set only by root and only when root is "/"; all else that the document
// asks for is left alone, and listed in the result.
func Apply(root, instanceID string, doc Document) (Result, error) {
	if instanceID == "" {
		return Result{}, errors.New("cannot apply the cloud-config: no instance ID is given")
	}
	w, err := openWriter(root)
	if err != nil {
		return Result{}, fmt.Errorf("cannot apply the cloud-config: %w", err)
	}
	defer w.root.Close()
	done, err := w.done(instanceID)
	if err != nil || done {
		return Result{Repeated: done}, err
	}
	result := Result{Ignored: ignored(doc)}
	note := record{Version: 1, InstanceID: instanceID, Files: []recordedFile{}}
	for _, f := range doc.WriteFiles {
		recorded, err := w.writeFile(f, &result)
		if err != nil {
			return result, fmt.Errorf("cannot write %s below %s: %w", f.Path, root, err)
		}
		note.Files = append(note.Files, recorded)
	}
	data, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return result, err
	}
	if err := w.write(RecordPath, append(data, '\n'), 0o600, nil); err != nil {
		return result, fmt.Errorf("cannot write %s below %s: %w", RecordPath, root, err)
	}
	return result, nil
}

// ignored lists the parts of a document that Apply does not act on.
func ignored(doc Document) []string {
	var parts []string
	add := func(name string, present bool) {
		if present {
			parts = append(parts, name)
		}
	}
	add("hostname", doc.Hostname != "")
	add("users", len(doc.Users) > 0)
	add("ssh_authorized_keys", len(doc.SSHAuthorizedKeys) > 0)
	add("bootcmd", len(doc.BootCmd) > 0)
	add("runcmd", len(doc.RunCmd) > 0)
	return parts
}

// writer writes files below a root directory.
type writer struct {
	root   *os.Root
	real   bool // the root directory is the machine's own
	owners bool // and we may give files away
}

func openWriter(dir string) (*writer, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	return &writer{root: root, real: abs == "/", owners: abs == "/" && os.Geteuid() == 0}, nil
}

// done reads the record.
func (w *writer) done(instanceID string) (bool, error) {
	data, err := w.root.ReadFile(RecordPath[1:])
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && r.Version != 1 {
		err = fmt.Errorf("version %d is not known", r.Version)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %s: %w", RecordPath, err)
	}
	return r.InstanceID == instanceID, nil
}

// writeFile writes one file of a document.
func (w *writer) writeFile(f File, result *Result) (recordedFile, error) {
	if problem := checkPath(f.Path); problem != "" {
		return recordedFile{}, errors.New("the path " + problem)
	}
	data, err := f.Bytes()
	if err != nil {
		return recordedFile{}, err
	}
	mode, err := f.Permissions.Mode()
	if err != nil {
		return recordedFile{}, err
	}
	var who *ids
	if f.Owner != "" && !w.owners {
		result.Ignored = append(result.Ignored, "owner of "+f.Path)
	} else if w.owners {
		if who, err = lookup(f.Owner); err != nil {
			return recordedFile{}, err
		}
	}
	if err := w.write(f.Path, data, mode, who); err != nil {
		return recordedFile{}, err
	}
	result.Written = append(result.Written, f.Path)
	sum := sha256.Sum256(data)
	return recordedFile{Path: f.Path, Mode: string(f.Permissions), SHA256: hex.EncodeToString(sum[:])}, nil
}

// write puts a file in its place by a rename, after its bytes are on the disk.
func (w *writer) write(path string, data []byte, mode fs.FileMode, who *ids) error {
	if w.real {
		var err error
		if path, err = resolve(path); err != nil {
			return err
		}
	}
	name := strings.TrimPrefix(path, "/")
	dir := filepath.Dir(name)
	if err := w.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temporary := filepath.Join(dir, ".muster-"+filepath.Base(name))
	if err := w.root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := w.fill(temporary, data, mode, who)
	if err == nil {
		err = w.root.Rename(temporary, name)
	}
	if err != nil {
		_ = w.root.Remove(temporary) // the next run would, too
		return err
	}
	return w.sync(dir)
}

// fill makes a file with everything that it shall have.
func (w *writer) fill(name string, data []byte, mode fs.FileMode, who *ids) (err error) {
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if who != nil {
		if err := f.Chown(who.user, who.group); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil { // after chown, which clears set-user-ID
		return err
	}
	return f.Sync()
}

// sync makes a rename in a directory last.
func (w *writer) sync(dir string) error {
	d, err := w.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// resolve follows the symbolic links among the directories of an absolute path. On the machine's own root they may be
// absolute (/var/run is one on many systems), which os.Root refuses.
func resolve(path string) (string, error) {
	dir, rest := filepath.Dir(path), filepath.Base(path)
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return "", err
		}
		dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest)
	}
}
