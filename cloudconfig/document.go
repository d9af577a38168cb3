package cloudconfig

import (
	"github.com/musterhq/muster/cloudconfig/secret"
)

// Header is the first line of every cloud-config.
const Header = "#cloud-config"

// Document is a cloud-config. The keys and their meanings are cloud-init's
// (https://cloudinit.readthedocs.io/en/latest/reference/modules.html) and those of 2014's coreos-cloudinit
// (https://github.com/coreos/coreos-cloudinit, Documentation/cloud-config.md); zero values are left out.
type Document struct {
	Hostname          string    `yaml:"hostname,omitempty"`
	ManageEtcHosts    EtcHosts  `yaml:"manage_etc_hosts,omitempty"`
	Users             []User    `yaml:"users,omitempty"`
	SSHAuthorizedKeys []string  `yaml:"ssh_authorized_keys,omitempty"` // of the image's default user
	WriteFiles        []File    `yaml:"write_files,omitempty"`
	CoreOS            CoreOS    `yaml:"coreos,omitempty"`
	BootCmd           []Command `yaml:"bootcmd,omitempty"` // at every boot, early
	RunCmd            []Command `yaml:"runcmd,omitempty"`  // at the first boot, last

	// Uses are the variables that the document uses, in the order of its keys, each at its place in the file. Parse finds
	// them and Expand needs them; they are no part of what is rendered.
	Uses []Use `yaml:"-"`
}

// EtcHosts says how a host manages its /etc/hosts: not at all, or with a line for its own name.
type EtcHosts string

// The values of EtcHosts.
const (
	HostsAlone     EtcHosts = ""          // the file is left as it is
	HostsLocalhost EtcHosts = "localhost" // a line for the host's own name is kept in it
	HostsWhole     EtcHosts = "true"      // the file is written anew
)

// User is one account. In a file it may also be the word `default`, the image's own account, which is kept as a User of
// that name and nothing else.
type User struct {
	Name              string        `yaml:"name"`
	Gecos             string        `yaml:"gecos,omitempty"`
	UID               *int          `yaml:"uid,omitempty"`
	PrimaryGroup      string        `yaml:"primary_group,omitempty"`
	Groups            Groups        `yaml:"groups,omitempty"`
	HomeDir           string        `yaml:"homedir,omitempty"`
	Shell             string        `yaml:"shell,omitempty"`
	Sudo              Rules         `yaml:"sudo,omitempty"`
	System            bool          `yaml:"system,omitempty"`
	NoCreateHome      bool          `yaml:"no_create_home,omitempty"`
	NoUserGroup       bool          `yaml:"no_user_group,omitempty"`
	NoLogInit         bool          `yaml:"no_log_init,omitempty"`
	LockPasswd        *bool         `yaml:"lock_passwd,omitempty"` // cloud-init locks unless told otherwise
	Passwd            secret.Secret `yaml:"passwd,omitempty"`      // hash, as in /etc/shadow
	SSHAuthorizedKeys []string      `yaml:"ssh_authorized_keys,omitempty"`
}

// DefaultUser is the name that stands for the image's own account.
const DefaultUser = "default"

// File is a file to write at first boot.
type File struct {
	Path        string      `yaml:"path"`                  // absolute and clean
	Owner       string      `yaml:"owner,omitempty"`       // user or user:group; "" is root:root
	Permissions Permissions `yaml:"permissions,omitempty"` // "" is 0644
	Encoding    Encoding    `yaml:"encoding,omitempty"`    // of Content
	Content     string      `yaml:"content,omitempty"`
}

// CoreOS is what only coreos-cloudinit knew. Etcd, Etcd2, Fleet, Locksmith and Flannel are options of the daemons of
// those names, by their names in the file with underscores.
type CoreOS struct {
	Update    Update  `yaml:"update,omitempty"`
	Etcd      Options `yaml:"etcd,omitempty"`
	Etcd2     Options `yaml:"etcd2,omitempty"`
	Fleet     Options `yaml:"fleet,omitempty"`
	Locksmith Options `yaml:"locksmith,omitempty"`
	Flannel   Options `yaml:"flannel,omitempty"`
	Units     []Unit  `yaml:"units,omitempty"`
}

// Update is the content of /etc/coreos/update.conf.
type Update struct {
	RebootStrategy string `yaml:"reboot_strategy,omitempty"` // best-effort, etcd-lock, reboot or off
	Group          string `yaml:"group,omitempty"`           // release channel
	Server         string `yaml:"server,omitempty"`          // URL of the update service
}

// Unit is one systemd unit.
type Unit struct {
	Name    string   `yaml:"name"`
	Mask    bool     `yaml:"mask,omitempty"`
	Enable  bool     `yaml:"enable,omitempty"`  // as its [Install] section says
	Runtime bool     `yaml:"runtime,omitempty"` // below /run, gone at the next boot
	Content string   `yaml:"content,omitempty"` // "" leaves the unit that is there
	Command string   `yaml:"command,omitempty"` // of systemctl: start, stop, restart, ...
	DropIns []DropIn `yaml:"drop_ins,omitempty"`
}

// DropIn is a file in a unit's directory NAME.d.
type DropIn struct {
	Name    string `yaml:"name"` // ends in .conf
	Content string `yaml:"content,omitempty"`
}

// Options are a daemon's options as the strings that its environment takes.
type Options map[string]string

// Groups are names of groups, which a file may also give as one string with commas.
type Groups []string

// Rules are sudo rules, of which a file may also give one as a string.
type Rules []string

// Permissions is a file mode as four octal digits, "0644", or "".
type Permissions string

// Encoding says how a File's Content stands for its bytes.
type Encoding string

// The encodings of a File's Content. cloud-init's other spellings (base64, gzip+b64, text/plain, ...) are read too.
const (
	Plain  Encoding = ""
	Base64 Encoding = "b64"
	Gzip64 Encoding = "gz+b64"
)

// Command is a command of bootcmd or runcmd: either a line for the shell, or a program with its arguments.
type Command struct {
	Shell string
	Args  []string // used when not empty
}
