package cloudconfig

import (
	"github.com/musterhq/muster/cloudconfig/secret"
)

// Header is the first line of every cloud-config.
const Header = "#cloud-config"

// Document is a cloud-config. The keys and their meanings are cloud-init's
// (https://cloudinit.readthedocs.io/en/latest/reference/modules.html); zero values are left out.
type Document struct {
	Hostname          string    `yaml:"hostname,omitempty"`
	Users             []User    `yaml:"users,omitempty"`
	SSHAuthorizedKeys []string  `yaml:"ssh_authorized_keys,omitempty"` // of the image's default user
	WriteFiles        []File    `yaml:"write_files,omitempty"`
	BootCmd           []Command `yaml:"bootcmd,omitempty"` // at every boot, early
	RunCmd            []Command `yaml:"runcmd,omitempty"`  // at the first boot, last
}

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
	LockPasswd        *bool         `yaml:"lock_passwd,omitempty"` // cloud-init locks unless told otherwise
	Passwd            secret.Secret `yaml:"passwd,omitempty"`      // hash, as in /etc/shadow
	SSHAuthorizedKeys []string      `yaml:"ssh_authorized_keys,omitempty"`
}

// File is a file to write at first boot.
type File struct {
	Path        string      `yaml:"path"`                  // absolute and clean
	Owner       string      `yaml:"owner,omitempty"`       // user or user:group; "" is root:root
	Permissions Permissions `yaml:"permissions,omitempty"` // "" is 0644
	Encoding    Encoding    `yaml:"encoding,omitempty"`    // of Content
	Content     string      `yaml:"content,omitempty"`
}

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
