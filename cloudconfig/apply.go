package cloudconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/musterhq/muster/cloudconfig/hostfs"
)

// RecordPath is where a first boot notes, below the root directory, for which instance it has been done.
const RecordPath = "/var/lib/muster/firstboot.json"

// RecordVersion is the version of Record that this program writes, and the only one that it reads.
const RecordVersion = 1

// maxRecordBytes bounds a Record's file.
const maxRecordBytes = 16 << 20

// Record is what a first boot notes of itself. It holds no contents.
type Record struct {
	Version    int              `json:"version"` // RecordVersion
	InstanceID string           `json:"instance_id"`
	Source     string           `json:"source,omitempty"` // where the user-data came from
	BootID     string           `json:"boot_id,omitempty"`
	Commands   bool             `json:"commands,omitempty"` // the commands of the first boot have been started
	Failed     []string         `json:"failed,omitempty"`   // steps to be repeated at the next boot
	Files      []hostfs.Written `json:"files"`
	Users      []string         `json:"users,omitempty"` // accounts made or changed
	Units      []string         `json:"units,omitempty"` // units enabled or masked
}

// Done reports whether the first boot of an instance has been done, whole.
func (r Record) Done(instanceID string) bool {
	return r.InstanceID == instanceID && instanceID != "" && len(r.Failed) == 0
}

// ReadRecord reads a record; the zero Record when there is none.
func ReadRecord(root *hostfs.Root, path string) (Record, error) {
	data, err := root.ReadFile(path, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	var r Record
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && r.Version != RecordVersion {
		err = fmt.Errorf("version %d is not known", r.Version)
	}
	if err != nil {
		return Record{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return r, nil
}

// Write writes a record, readable by root alone.
func (r Record) Write(root *hostfs.Root, path string) error {
	r.Version = RecordVersion
	if r.Files == nil {
		r.Files = []hostfs.Written{}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if _, err := root.Write(path, append(data, '\n'), 0o600, nil); err != nil {
		return fmt.Errorf("cannot write %s below %s: %w", path, root.Dir(), err)
	}
	return nil
}

// Result is what Apply did.
type Result struct {
	Repeated bool     // it had been done for this instance before: nothing was done now
	Written  []string // paths below the root, in order
	Ignored  []string // what else the document asks for: "users", "owner of /etc/x"
}

// Apply writes the document's files below root, once for every instance: it is the first boot of a host that is only a
// directory. Each file appears whole or not at all; a run that was cut short is repeated from the start. Symbolic links
// that lead out of root are refused. Owners are set only by root and only when root is "/"; all else that the document
// asks for is left alone, and listed in the result. Package firstboot does all of it.
func Apply(root, instanceID string, doc Document) (Result, error) {
	if instanceID == "" {
		return Result{}, errors.New("cannot apply the cloud-config: no instance ID is given")
	}
	dir, err := hostfs.Open(root)
	if err != nil {
		return Result{}, fmt.Errorf("cannot apply the cloud-config: %w", err)
	}
	defer dir.Close()
	before, err := ReadRecord(dir, RecordPath)
	if err != nil || before.Done(instanceID) {
		return Result{Repeated: err == nil}, err
	}
	result := Result{Ignored: ignored(doc)}
	note := Record{InstanceID: instanceID}
	for _, f := range doc.WriteFiles {
		if f.Owner != "" && !dir.Owners() {
			result.Ignored = append(result.Ignored, "owner of "+f.Path)
		}
		written, err := f.Write(dir, hostfs.Lookup)
		if err != nil {
			return result, fmt.Errorf("cannot write %s below %s: %w", f.Path, root, err)
		}
		result.Written = append(result.Written, f.Path)
		note.Files = append(note.Files, written)
	}
	return result, note.Write(dir, RecordPath)
}

// Write writes the file below a root directory. Its owner is looked up only where files get owners.
func (f File) Write(root *hostfs.Root, lookup func(owner string) (*hostfs.IDs, error)) (hostfs.Written, error) {
	if problem := checkPath(f.Path); problem != "" {
		return hostfs.Written{}, errors.New("the path " + problem)
	}
	data, err := f.Bytes()
	if err != nil {
		return hostfs.Written{}, err
	}
	mode, err := f.Permissions.Mode()
	if err != nil {
		return hostfs.Written{}, err
	}
	var who *hostfs.IDs
	if root.Owners() {
		if who, err = lookup(f.Owner); err != nil {
			return hostfs.Written{}, err
		}
	}
	return root.Write(f.Path, data, mode, who)
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
	add("manage_etc_hosts", doc.ManageEtcHosts != "")
	add("users", len(doc.Users) > 0)
	add("ssh_authorized_keys", len(doc.SSHAuthorizedKeys) > 0)
	add("coreos", !isZero(doc.CoreOS))
	add("bootcmd", len(doc.BootCmd) > 0)
	add("runcmd", len(doc.RunCmd) > 0)
	return parts
}
