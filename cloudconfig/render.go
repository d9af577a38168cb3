package cloudconfig

import (
	"bytes"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/secret"
)

// The parts of a Document as they are written: commands and users in either of their forms, secrets open.
type (
	accountsPart struct {
		Hostname          string   `yaml:"hostname,omitempty"`
		ManageEtcHosts    EtcHosts `yaml:"manage_etc_hosts,omitempty"`
		Users             []any    `yaml:"users,omitempty"`
		SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys,omitempty"`
	}
	filesPart struct {
		WriteFiles []File `yaml:"write_files"`
	}
	coreosPart struct {
		CoreOS CoreOS `yaml:"coreos"`
	}
	commandsPart struct {
		BootCmd []any `yaml:"bootcmd,omitempty"`
		RunCmd  []any `yaml:"runcmd,omitempty"`
	}
)

// Render writes the document: Header, then YAML. Equal documents give equal bytes. Secrets are in them.
func (d Document) Render() []byte {
	var b bytes.Buffer
	b.WriteString(Header + "\n")
	start := b.Len()
	if accounts := (accountsPart{d.Hostname, d.ManageEtcHosts, renderUsers(d.Users), d.SSHAuthorizedKeys}); !isZero(accounts) {
		encode(&b, accounts)
	}
	renderFiles(&b, d.WriteFiles)
	if !isZero(d.CoreOS) {
		encode(&b, coreosPart{d.CoreOS})
	}
	if commands := (commandsPart{renderCommands(d.BootCmd), renderCommands(d.RunCmd)}); !isZero(commands) {
		encode(&b, commands)
	}
	if b.Len() == start {
		b.WriteString("{}\n")
	}
	return b.Bytes()
}

func encode(b *bytes.Buffer, v any) {
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		panic("cloudconfig: " + err.Error()) // every type of a Document can be encoded
	}
}

func isZero(v any) bool { return reflect.ValueOf(v).IsZero() }

func renderCommands(commands []Command) []any {
	var out []any
	for _, c := range commands {
		if len(c.Args) > 0 {
			out = append(out, c.Args)
		} else {
			out = append(out, c.Shell)
		}
	}
	return out
}

// renderUsers writes password hashes, which a Secret would mask.
func renderUsers(users []User) []any {
	var out []any
	for _, u := range users {
		if reflect.DeepEqual(u, User{Name: u.Name}) {
			out = append(out, u.Name)
			continue
		}
		passwd := u.Passwd.Reveal()
		u.Passwd = secret.Secret{}
		var node yaml.Node
		if err := node.Encode(u); err != nil {
			panic("cloudconfig: " + err.Error()) // as above
		}
		if passwd != "" {
			var key, value yaml.Node
			key.SetString("passwd")
			value.SetString(passwd)
			node.Content = append(node.Content, &key, &value)
		}
		out = append(out, &node)
	}
	return out
}

// plainPath is a path that needs no quotes in YAML.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._@-]*$`)

// renderFiles writes what the encoder would. Most files are text that can stand as it is; written directly they take a
// fraction of the time, which tells with thousands of hosts.
func renderFiles(b *bytes.Buffer, files []File) {
	if len(files) == 0 {
		return
	}
	const key = "write_files:\n"
	b.WriteString(key)
	for _, f := range files {
		if f.Owner != "" || f.Encoding != Plain || !plainPath.MatchString(f.Path) || !literal(f.Content) {
			var one bytes.Buffer
			encode(&one, filesPart{[]File{f}})
			b.Write(one.Bytes()[len(key):])
			continue
		}
		b.WriteString("  - path: " + f.Path + "\n")
		if f.Permissions != "" {
			b.WriteString("    permissions: \"" + string(f.Permissions) + "\"\n")
		}
		if text, whole := strings.CutSuffix(f.Content, "\n"); whole {
			b.WriteString("    content: |\n")
		} else {
			b.WriteString("    content: |-\n")
			f.Content = text + "\n"
		}
		for line := range strings.Lines(f.Content) {
			if line != "\n" {
				b.WriteString("      ")
			}
			b.WriteString(line)
		}
	}
}

// literal reports whether a text can stand in a YAML literal block without indicators (YAML 1.2 section 8.1): printable
// ASCII, whose first line does not begin with a blank and whose last one is not empty.
func literal(s string) bool {
	if s == "" || s[0] == ' ' || s[0] == '\t' || s[0] == '\n' || strings.HasSuffix(s, "\n\n") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}
