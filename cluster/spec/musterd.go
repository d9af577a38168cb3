package spec

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig"
)

// Musterd is how hosts get musterd. At most one of its fields is set; with none, hosts have it: it is in their image.
type Musterd struct {
	Fetch []cloudconfig.Download // hosts fetch it, one for each architecture
	Serve string                 // `muster up` serves it while it runs, at this address and port of the operator's machine
	Push  *Push                  // `muster up` brings it over SSH
}

// IsZero reports whether hosts have musterd.
func (m Musterd) IsZero() bool { return len(m.Fetch) == 0 && m.Serve == "" && m.Push == nil }

// Push is how to log in to hosts over SSH.
type Push struct {
	User       string
	Port       int
	Identity   string // path of a private key; "" for those of the SSH agent, and the usual files
	KnownHosts string // path; "" for the usual file
}

// Defaults of Push.
const (
	DefaultPushUser = "root"
	DefaultPushPort = 22
)

// musterdFile is the shape of `musterd`.
type musterdFile struct {
	Fetch []fetchFile `yaml:"fetch" jsonschema:"minItems=1,description=Where hosts fetch it\\, for each of their architectures."`
	Serve string      `yaml:"serve" jsonschema:"description=ADDRESS:PORT of this machine that hosts reach. muster up serves its own musterd there while it runs."`
	Push  *pushFile   `yaml:"push" jsonschema:"description=Over SSH\\, by muster up: for hosts that can reach nothing."`
	Ready bool        `yaml:"ready" jsonschema:"description=Hosts have it: it is in their image. Says so of one provider when the file says otherwise of all."`
}

type fetchFile struct {
	Arch   string   `yaml:"arch" jsonschema:"required,description=Architecture as GOARCH names it."`
	SHA256 string   `yaml:"sha256" jsonschema:"required,description=SHA-256 of the file: nothing else is ever run."`
	URLs   []string `yaml:"urls" jsonschema:"required,minItems=1,description=http or https\\, tried in turn."`
}

type pushFile struct {
	User       string `yaml:"user" jsonschema:"default=root,description=Account of the host. One that is not root needs sudo without a password."`
	Identity   string `yaml:"identity" jsonschema:"description=Path of a private key. Without it those of the SSH agent\\, and ~/.ssh/id_ed25519\\, id_ecdsa and id_rsa."`
	KnownHosts string `yaml:"known_hosts" jsonschema:"description=Path of a file of known host keys\\, ~/.ssh/known_hosts without it. What a host prints on its console is believed too."`
	Port       int    `yaml:"port" jsonschema:"minimum=1,maximum=65535,default=22"`
}

// musterd reads the `musterd` at a path. all is what applies without one.
func (p *parser) musterd(path string, node *yaml.Node, all Musterd) Musterd {
	if node == nil || node.ShortTag() == "!!null" {
		return all
	}
	var raw musterdFile
	before := len(p.Findings())
	p.Field("musterd", node, &raw)
	if node.Kind != yaml.MappingNode || len(p.Findings()) > before {
		return Musterd{}
	}
	ways := p.ways(path)
	switch {
	case len(ways) == 0:
		p.atKey(path, "there are `fetch`, `serve`, `push` and `ready`", "`musterd` does not say how hosts get it")
	case len(ways) > 1:
		p.atKey(path+"."+ways[1], "keep one of them", "hosts get musterd in one way, not by `%s` and `%s`", ways[0], ways[1])
	case ways[0] == "fetch":
		return Musterd{Fetch: p.fetch(path+".fetch", raw.Fetch)}
	case ways[0] == "serve":
		return Musterd{Serve: p.serve(path+".serve", raw.Serve)}
	case ways[0] == "push":
		return Musterd{Push: p.push(path+".push", *raw.Push)}
	case !raw.Ready:
		p.at(path+".ready", "say `fetch`, `serve` or `push` instead", "hosts need musterd")
	}
	return Musterd{}
}

// ways are the keys that the `musterd` at a path has, in the order of the format.
func (p *parser) ways(path string) []string {
	return slices.DeleteFunc([]string{"fetch", "serve", "push", "ready"}, func(way string) bool { return !p.filled(path + "." + way) })
}

func (p *parser) fetch(path string, raw []fetchFile) []cloudconfig.Download {
	if len(raw) == 0 {
		p.at(path, "add {arch: amd64, sha256: ..., urls: [https://...]}", "`fetch` is empty")
	}
	var downloads []cloudconfig.Download
	for i, f := range raw {
		at := path + "[" + strconv.Itoa(i) + "]"
		d := cloudconfig.Download{Architecture: f.Arch, SHA256: f.SHA256, URLs: f.URLs}
		same := func(other cloudconfig.Download) bool { return other.Architecture == d.Architecture }
		field, err := d.Check()
		switch {
		case err != nil && !p.has(at+"."+field):
			p.at(at, "", "`%s` is missing", field)
		case err != nil && field == "arch":
			p.at(at+".arch", suggest(f.Arch, cloudconfig.Architectures()), "%v", err)
		case err != nil:
			p.at(at+"."+field, "", "%v", err)
		case slices.ContainsFunc(downloads, same):
			p.at(at+".arch", "list further URLs in its `urls`", "a second download for `%s`", f.Arch)
		}
		downloads = append(downloads, d)
	}
	return downloads
}

const serveHint = "write ADDRESS:PORT, as in 10.0.0.1:8123: an address of this machine that hosts reach"

func (p *parser) serve(path, text string) string {
	at, err := netip.ParseAddrPort(text)
	addr := at.Addr().Unmap()
	switch {
	case err != nil:
		p.at(path, serveHint, "`%s` is no IP address with a port", text)
	case addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "":
		p.at(path, serveHint, "hosts cannot fetch from %s", at.Addr())
	case at.Port() == 0:
		p.at(path, "choose one that is free, as in "+netip.AddrPortFrom(addr, 8123).String(), "port 0 is another one every time")
	}
	return netip.AddrPortFrom(addr, at.Port()).String()
}

// account is a name that useradd(8) would take.
var account = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

func (p *parser) push(path string, raw pushFile) *Push {
	push := Push{User: DefaultPushUser, Port: DefaultPushPort}
	if p.filled(path + ".user") {
		push.User = raw.User
	}
	if p.filled(path + ".port") {
		push.Port = raw.Port
	}
	if !account.MatchString(push.User) {
		p.at(path+".user", "", "`%s` is no name of an account", push.User)
	}
	if push.Port < 1 || push.Port > 65535 {
		p.at(path+".port", "from 1 to 65535 is possible", "there is no port %d", push.Port)
	}
	push.Identity = p.home(path+".identity", raw.Identity)
	push.KnownHosts = p.home(path+".known_hosts", raw.KnownHosts)
	return &push
}

// home is the path that is written at a path of the file, which may begin at the home directory.
func (p *parser) home(at, path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return p.Path(path)
	}
	home, _ := p.LookupEnv("HOME")
	if home == "" {
		p.at(at, "write the whole path", "`~` stands for nothing: HOME is not set")
	}
	return filepath.Join(home, rest)
}
