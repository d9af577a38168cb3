package cloudconfig

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Where musterd and what starts it are on a host that fetches or is given it. /opt can be written on image-based systems
// too. Where it cannot, there is no other place: the unit's command must be fixed; such a host says so on its journal, and
// needs an image that has musterd.
const (
	MusterdPath   = "/opt/muster/bin/musterd"
	UnitName      = "musterd.service"
	installerPath = ReservedDir + "/install-musterd"
	// OperatorPath is where an operator's document lies that musterd itself applies, before it starts.
	OperatorPath = ReservedDir + "/cloud-config.yaml"
	unitPath     = "/etc/systemd/system/" + UnitName
)

// FirstBoot is what a host must be told to become part of a cluster.
type FirstBoot struct {
	Hostname   string
	ConfigPath string // where musterd reads Config, in ReservedDir
	Config     []byte // written with mode 0600: it holds the join token
	Files      []File // more that musterd reads, in ReservedDir
	// Musterd is where the host fetches musterd, one entry for each architecture. With none, and when the host does not
	// await it, musterd is there already and started by whoever made the host, as on this machine.
	Musterd []Download
	// Awaits says that somebody brings musterd to MusterdPath and starts UnitName.
	Awaits bool
	// Variables are what the operator's document may refer to. The Host is Hostname unless it is given.
	Variables Variables
}

// Download is a program to fetch.
type Download struct {
	Architecture string   // as GOARCH has it: amd64, arm64
	URLs         []string // http or https, tried in turn
	SHA256       string   // 64 hexadecimal digits
}

// machines maps GOARCH to what `uname -m` says.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}

var (
	//go:embed files/musterd.service
	unitFile string
	//go:embed files/musterd-fetched.conf
	fetchedDropIn string
	//go:embed files/musterd-awaited.conf
	awaitedDropIn string
	//go:embed files/musterd-operator.conf
	operatorDropIn string
	//go:embed files/install-musterd.sh
	installer string

	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// UserData renders what the host with this first boot gets, an operator's document merged over it.
func UserData(b FirstBoot, operator Document) ([]byte, error) {
	doc, err := b.Merge(operator)
	if err != nil {
		return nil, err
	}
	return doc.Render(), nil
}

// Merge is the document of the host: the generated one with an operator's laid over it, the operator's variables filled
// in. What only musterd can do (the keys of coreos-cloudinit, and addresses that the host itself knows) cloud-init would
// pass over in silence; so an operator's document that asks for any of it is sent as a file, which musterd applies whole
// before it starts. A host that musterd does not have to be brought to reads the merged document itself.
func (b FirstBoot) Merge(operator Document) (Document, error) {
	b.Variables.Host = cmp.Or(b.Variables.Host, b.Hostname)
	operator, err := operator.Expand(b.Variables)
	if err != nil {
		return Document{}, fmt.Errorf("cannot fill in the cloud-config of host %s: %w", b.Hostname, err)
	}
	base, err := b.Document()
	if err != nil {
		return Document{}, err
	}
	operator.Users = asCloudInit(operator.Users)
	merged, err := Merge(base, operator)
	if err != nil {
		return Document{}, fmt.Errorf("cannot merge the cloud-config of host %s: %w", b.Hostname, err)
	}
	if b.lacksMusterd() && operator.needsMusterd() {
		operator.Hostname, base.ManageEtcHosts = "", operator.ManageEtcHosts
		operator.ManageEtcHosts = HostsAlone
		base.WriteFiles = append(base.WriteFiles,
			NewFile(OperatorPath, operator.Render(), "0600"),
			NewFile(unitPath+".d/10-operator.conf", []byte(operatorDropIn), "0644"))
		return base, nil
	}
	return merged, nil
}

// asCloudInit spells accounts so that cloud-init takes them as they are meant. It would lock a password unless told not to;
// whoever gives a hash means it to be used, as in 2014. And cloud-init's schema knows one sudo rule, into which sudoers(5)
// lets several be joined.
func asCloudInit(users []User) []User {
	users = slices.Clone(users)
	for i, u := range users {
		if u.LockPasswd == nil && !u.Passwd.IsZero() {
			users[i].LockPasswd = new(bool)
		}
		if len(u.Sudo) > 1 {
			users[i].Sudo = Rules{strings.Join(u.Sudo, " : ")}
		}
	}
	return users
}

// lacksMusterd reports whether the host has no musterd when it boots first.
func (b FirstBoot) lacksMusterd() bool { return len(b.Musterd) > 0 || b.Awaits }

// needsMusterd reports whether cloud-init would not do all that the document asks for.
func (d Document) needsMusterd() bool {
	return !isZero(d.CoreOS) || slices.ContainsFunc(d.Uses, func(u Use) bool { return isAddress(u.Name) })
}

// Document is the generated document of the host. What runcmd does last, enabling UnitName, tells that everything is
// written. With everything a large cluster can say to a host it is 4.6 KB, 1.6 KB in gzip (TestUserDataSmall); what
// 10,000 hosts get takes about 1 s to render on one core (BenchmarkUserData).
func (b FirstBoot) Document() (Document, error) {
	if !Reserved(b.ConfigPath) || checkPath(b.ConfigPath) != "" {
		return Document{}, fmt.Errorf("cannot write the host's configuration to `%s`: it is not in %s", b.ConfigPath, ReservedDir)
	}
	doc := Document{Hostname: b.Hostname, WriteFiles: []File{NewFile(b.ConfigPath, b.Config, "0600")}}
	for _, f := range b.Files {
		if !Reserved(f.Path) || checkPath(f.Path) != "" {
			return Document{}, fmt.Errorf("cannot write `%s` for musterd: it is not in %s", f.Path, ReservedDir)
		}
		doc.WriteFiles = append(doc.WriteFiles, f)
	}
	if !b.lacksMusterd() {
		return doc, nil
	}
	doc.WriteFiles = append(doc.WriteFiles, NewFile(unitPath, []byte(unitFile), "0644"))
	if b.Awaits {
		doc.WriteFiles = append(doc.WriteFiles, NewFile(unitPath+".d/05-awaited.conf", []byte(awaitedDropIn), "0644"))
	} else {
		script, err := installScript(b.Musterd)
		if err != nil {
			return Document{}, err
		}
		doc.WriteFiles = append(doc.WriteFiles,
			NewFile(installerPath, []byte(script), "0755"),
			NewFile(unitPath+".d/05-fetched.conf", []byte(fetchedDropIn), "0644"))
	}
	doc.RunCmd = []Command{
		{Args: []string{"systemctl", "daemon-reload"}},
		{Args: []string{"systemctl", "enable", "--now", "--no-block", UnitName}},
	}
	return doc, nil
}

// installScript fills in the one line of the installer that differs: machine, checksum and URLs of each download.
func installScript(downloads []Download) (string, error) {
	var table strings.Builder
	seen := map[string]bool{}
	for _, d := range slices.SortedFunc(slices.Values(downloads), func(a, b Download) int {
		return strings.Compare(a.Architecture, b.Architecture)
	}) {
		if _, err := d.Check(); err != nil {
			return "", fmt.Errorf("cannot fetch musterd for `%s`: %w", d.Architecture, err)
		}
		if seen[d.Architecture] {
			return "", fmt.Errorf("cannot fetch musterd for `%s`: it is given twice", d.Architecture)
		}
		seen[d.Architecture] = true
		fmt.Fprintf(&table, "%s)\n\tsum=%s\n\tset -- %s\n\t;;\n", machines[d.Architecture], d.SHA256, quoteAll(d.URLs))
	}
	return strings.Replace(installer, "#DOWNLOADS#\n", table.String(), 1), nil
}

// Check says what is wrong with a download, and with which of the fields `arch`, `sha256`, `urls` and `urls[i]`.
func (d Download) Check() (field string, err error) {
	switch {
	case machines[d.Architecture] == "":
		return "arch", fmt.Errorf("the architecture `%s` is not known", d.Architecture)
	case !sha256Hex.MatchString(d.SHA256):
		return "sha256", fmt.Errorf("`%s` is no SHA-256 in lower-case hexadecimal digits", d.SHA256)
	case len(d.URLs) == 0:
		return "urls", fmt.Errorf("no URL is given")
	}
	for i, raw := range d.URLs {
		if err := checkURL(raw); err != nil {
			return fmt.Sprintf("urls[%d]", i), err
		}
	}
	return "", nil
}

// checkURL refuses what hosts cannot fetch, and a URL with a password: it would stand in the user-data.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err == nil && u.User != nil:
		return fmt.Errorf("the URL at `%s` holds a user or password, which every host's user-data would show", u.Host)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("`%s` is no http or https URL", raw)
	default:
		return nil
	}
}

// Architectures are those that a host can have, as GOARCH names them, sorted.
func Architectures() []string { return slices.Sorted(maps.Keys(machines)) }

// Architecture is the GOARCH of what `uname -m` says, or "".
func Architecture(machine string) string {
	for arch, name := range machines {
		if name == machine {
			return arch
		}
	}
	return ""
}

// quoteAll quotes words for the shell.
func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
