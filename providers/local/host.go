package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// Files in a host's directory, which is the root directory too of a host that is a process.
const (
	tagsFile     = "tags.json"      // the first: what makes the directory a host
	userDataFile = "user-data"      // exact bytes of the create
	metaDataFile = "meta-data.json" // what a cloud's metadata service would say
	pidFile      = "musterd.pid"    // the last: from then on the host exists
	logFile      = "var/log/musterd.log"
	socketFile   = "run/muster.sock" // made by musterd
)

// host is a host's directory and what its tags say.
type host struct {
	dir string
	record
}

// record is the contents of tags.json.
type record struct {
	Version    int               `json:"version"` // 1
	Provider   string            `json:"provider"`
	InstanceID string            `json:"instance_id"` // value of MUSTER_INSTANCE in the host's processes
	Tags       map[string]string `json:"tags"`
	Created    time.Time         `json:"created"`
	Env        map[string]string `json:"env,omitempty"`       // of the host's settings, for the next start
	Container  *container        `json:"container,omitempty"` // nil when the host is a process
}

const recordVersion = 1

// metaData is the contents of meta-data.json, in cloud-init's words.
type metaData struct {
	InstanceID string     `json:"instance_id"`
	Hostname   string     `json:"local_hostname"`
	Address    netip.Addr `json:"local_ipv4"`
	Ports      metaPorts  `json:"ports"`
	// BootID is a new UUID whenever the host starts without a process of it being left, as after a loss of power. A
	// musterd that is started again while units run finds the same one. Containers, which do not see this file, have one
	// of systemd-nspawn's.
	BootID string `json:"boot_id"`
}

// metaPorts are the TCP ports that the host listens on, 0 for the standard ones.
type metaPorts struct {
	API    int `json:"api"`
	Client int `json:"client"`
	Peer   int `json:"peer"`
}

func (h host) path(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

// identity is what the tags say; they were checked when the record was read.
func (h host) identity() providers.Identity {
	id, _ := providers.IdentityFromTags(h.Tags)
	return id
}

// launched tells whether the host's musterd was ever started, as far as the directory knows.
func (h host) launched() bool {
	_, err := os.Stat(h.path(pidFile))
	return err == nil
}

func (h host) writeMetaData(at endpoint, bootID string) error {
	data, err := json.MarshalIndent(metaData{
		InstanceID: h.InstanceID,
		Hostname:   h.identity().Host,
		Address:    at.address,
		Ports:      metaPorts(at.ports),
		BootID:     bootID,
	}, "", "  ")
	if err != nil {
		return err
	}
	return crashsafe.WriteFile(h.path(metaDataFile), append(data, '\n'), 0o600)
}

// metaData is the zero value when nothing was written yet.
func (h host) metaData() (metaData, error) {
	var meta metaData
	data, err := os.ReadFile(h.path(metaDataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return meta, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	return meta, err
}

// endpoint is where the host listens. It is the zero value when that is not decided yet.
func (h host) endpoint() (endpoint, error) {
	meta, err := h.metaData()
	if err != nil {
		return endpoint{}, fmt.Errorf("cannot read the address of host %s: %w", h.identity().Host, err)
	}
	return endpoint{address: meta.Address, ports: providers.Ports(meta.Ports)}, nil
}

// errNotOurs is what readHost says of a directory that is no host of any provider of this package.
var errNotOurs = errors.New("no host's directory")

// readHost reads a directory's tags. The error wraps errNotOurs when they are missing, malformed or incomplete.
func readHost(dir string) (host, error) {
	h := host{dir: dir}
	data, err := os.ReadFile(h.path(tagsFile))
	if errors.Is(err, fs.ErrPermission) {
		return host{}, err
	}
	if err == nil {
		err = json.Unmarshal(data, &h.record)
	}
	if err == nil && h.Version != recordVersion {
		err = fmt.Errorf("version is %d, want %d", h.Version, recordVersion)
	}
	if err != nil {
		return host{}, fmt.Errorf("%w: %w", errNotOurs, err)
	}
	if _, ok := providers.IdentityFromTags(h.Tags); !ok || h.InstanceID == "" {
		return host{}, errNotOurs
	}
	return h, nil
}

// baseName is the preferred name of an identity's directory, and what its lock is named after.
func baseName(id providers.Identity) string { return fmt.Sprintf("%s-%d", id.Host, id.Generation) }

// dirNames are the names that an identity's directory may have. The second is for when another cluster, or another
// provider, has a host of the same name and generation below the same root.
func (p *Provider) dirNames(id providers.Identity) [2]string {
	return [2]string{baseName(id), baseName(id) + "." + p.digest(id.ID())[:8]}
}

// digest is 64 hexadecimal digits that follow from this provider and what.
func (p *Provider) digest(what string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "muster local\x00%s\x00%s\x00%s", p.root, p.name, what))
	return hex.EncodeToString(sum[:])
}

// find looks for an identity's directory.
func (p *Provider) find(id providers.Identity) (host, bool, error) {
	for _, name := range p.dirNames(id) {
		h, err := readHost(filepath.Join(p.root, name))
		switch {
		case errors.Is(err, errNotOurs):
		case err != nil:
			return host{}, false, err
		case h.identity() == id && h.Provider == p.name:
			return h, true, nil
		}
	}
	return host{}, false, nil
}

// hosts reads every directory of the cluster, half-made ones included.
func (p *Provider) hosts(cluster string) ([]host, error) {
	entries, err := os.ReadDir(p.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []host
	for _, entry := range entries {
		if !entry.IsDir() || isScratch(entry.Name()) {
			continue
		}
		h, readErr := readHost(filepath.Join(p.root, entry.Name()))
		switch {
		case errors.Is(readErr, errNotOurs):
		case readErr != nil:
			err = errors.Join(err, readErr)
		case h.identity().Cluster == cluster && h.Provider == p.name:
			list = append(list, h)
		}
	}
	return list, err
}

// checkLength refuses a directory in which musterd could not make its socket.
func (h host) checkLength() error {
	if n := len(h.path(socketFile)); n > maxSocketPath && h.Container == nil {
		return fmt.Errorf("the path of the host's socket, %s, has %d bytes, and at most %d can be used; "+
			"set `root:` to a shorter directory: %w", h.path(socketFile), n, maxSocketPath, providers.ErrInvalid)
	}
	return nil
}

// makeHost makes the directory of an identity with its tags in it, both at once. The caller holds the identity's lock.
func (p *Provider) makeHost(id providers.Identity, env map[string]string) (host, error) {
	name, err := p.freeName(id)
	if err != nil {
		return host{}, err
	}
	h := host{dir: filepath.Join(p.root, name), record: record{
		Version:    recordVersion,
		Provider:   p.name,
		InstanceID: p.digest(id.ID())[:32],
		Tags:       id.Tags(),
		Created:    p.now().UTC(),
		Env:        env,
		Container:  p.container,
	}}
	if err := h.checkLength(); err != nil {
		return host{}, err
	}
	scratch := host{dir: filepath.Join(p.root, scratchName(name, newSuffix)), record: h.record}
	if err := os.RemoveAll(scratch.dir); err != nil {
		return host{}, err
	}
	if err := os.Mkdir(scratch.dir, 0o700); err != nil {
		return host{}, err
	}
	data, err := json.MarshalIndent(h.record, "", "  ")
	if err == nil {
		err = crashsafe.WriteFileSync(scratch.path(tagsFile), append(data, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(scratch.dir, h.dir)
	}
	return h, err
}

// freeName chooses the first of an identity's names that nothing has.
func (p *Provider) freeName(id providers.Identity) (string, error) {
	names := p.dirNames(id)
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(p.root, name)); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s and %s in %s are not this host's: %w", names[0], names[1], p.root, providers.ErrConflict)
}

// logPath is where musterd of a host writes its log, and a container all that it says on its console.
func (h host) logPath() string {
	if h.Container != nil {
		return h.path(consoleFile)
	}
	return h.path(logFile)
}

// LogPath is where a host's log is, "" while there is no such host.
func (p *Provider) LogPath(instance providers.Instance) string {
	h, found, err := p.find(instance.Identity)
	if err != nil || !found {
		return ""
	}
	return h.logPath()
}
