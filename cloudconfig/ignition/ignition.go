// Package ignition renders a cloud-config for hosts that read Ignition at their first boot (Flatcar, Fedora CoreOS), in
// the JSON of its specification 3.4.0.
//
// What Ignition has no word for becomes units: runcmd and the commands of units are one service of the first boot, bootcmd
// a service of every boot; scripts lie in /etc/muster, readable by root alone. The image's own account is `core` there.
// Addresses of the host ($private_ipv4) cannot be filled in by Ignition: Render refuses a document that still uses them.
// cloudconfig.FirstBoot sends those to musterd instead. Only the operator's side imports this package.
package ignition

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// Version is the specification that is written.
const Version = "3.4.0"

// defaultUser is the image's own account on every system that reads Ignition.
const defaultUser = "core"

// Render writes a document as an Ignition configuration. Equal documents give equal bytes. Secrets are in them.
func Render(doc cloudconfig.Document) ([]byte, error) {
	if err := unresolved(doc); err != nil {
		return nil, err
	}
	r := renderer{doc: doc}
	r.users()
	r.files()
	r.units()
	r.commands()
	c := config{Ignition: version{Version}}
	if len(r.passwd.Users)+len(r.passwd.Groups) > 0 {
		c.Passwd = &r.passwd
	}
	if len(r.storage.Files) > 0 {
		c.Storage = &r.storage
	}
	if len(r.systemd.Units) > 0 {
		c.Systemd = &r.systemd
	}
	if r.err != nil {
		return nil, r.err
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(c)
	return b.Bytes(), err
}

// unresolved reports the variables that are left in a document.
func unresolved(doc cloudconfig.Document) error {
	var findings finding.Findings
	for _, u := range doc.Uses {
		if !u.Escaped {
			findings.Add(u.Position, "", "`%s` has no value here: Ignition cannot fill it in", u.Name)
		}
	}
	return findings.Err()
}

type renderer struct {
	doc     cloudconfig.Document
	passwd  passwd
	storage storage
	systemd systemd
	err     error // the first
}

func (r *renderer) users() {
	keys := r.doc.SSHAuthorizedKeys
	groups := map[string]bool{}
	for _, u := range r.doc.Users {
		name := u.Name
		if name == cloudconfig.DefaultUser {
			name = defaultUser
		}
		own := user{
			Name: name, Gecos: u.Gecos, Groups: u.Groups, HomeDir: u.HomeDir, NoCreateHome: u.NoCreateHome,
			NoLogInit: u.NoLogInit, NoUserGroup: u.NoUserGroup, PasswordHash: u.Passwd.Reveal(), PrimaryGroup: u.PrimaryGroup,
			SSHAuthorizedKeys: u.SSHAuthorizedKeys, Shell: u.Shell, System: u.System, UID: u.UID,
		}
		if u.LockPasswd != nil && *u.LockPasswd && own.PasswordHash != "" {
			own.PasswordHash = "!" + own.PasswordHash
		}
		if name == defaultUser {
			own.SSHAuthorizedKeys, keys = append(own.SSHAuthorizedKeys[:len(own.SSHAuthorizedKeys):len(own.SSHAuthorizedKeys)], keys...), nil
		}
		for _, g := range u.Groups {
			if !wellKnown[g] && !groups[g] {
				groups[g] = true
				r.passwd.Groups = append(r.passwd.Groups, group{g})
			}
		}
		r.passwd.Users = append(r.passwd.Users, own)
		r.sudo(name, u.Sudo)
	}
	if len(keys) > 0 {
		r.passwd.Users = append(r.passwd.Users, user{Name: defaultUser, SSHAuthorizedKeys: keys})
	}
}

// wellKnown are groups that every such image has. Ignition would change nothing of them, but naming them says nothing.
var wellKnown = map[string]bool{"root": true, "sudo": true, "wheel": true, "docker": true, "adm": true, "users": true, "systemd-journal": true}

func (r *renderer) sudo(name string, rules cloudconfig.Rules) {
	var b strings.Builder
	for _, rule := range rules {
		b.WriteString(name + " " + rule + "\n")
	}
	if b.Len() > 0 {
		r.file(cloudconfig.NewFile("/etc/sudoers.d/90-muster-"+strings.ReplaceAll(name, ".", "_"), []byte(b.String()), "0440"))
	}
}

func (r *renderer) files() {
	if name := r.doc.Hostname; name != "" {
		r.file(cloudconfig.NewFile("/etc/hostname", []byte(name+"\n"), "0644"))
		if r.doc.ManageEtcHosts != cloudconfig.HostsAlone {
			short, _, _ := strings.Cut(name, ".")
			hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + name
			if short != name {
				hosts += " " + short
			}
			r.file(cloudconfig.NewFile("/etc/hosts", []byte(hosts+"\n"), "0644"))
		}
	}
	for _, f := range r.doc.WriteFiles {
		r.file(f)
	}
	for _, f := range r.doc.CoreOS.Files() {
		if !strings.HasPrefix(f.Path, "/etc/systemd/system/") || f.Permissions == "0600" {
			r.file(f)
			continue
		}
		name := strings.TrimSuffix(path.Base(path.Dir(f.Path)), ".d")
		r.dropin(name, dropin{path.Base(f.Path), f.Content})
	}
}

// file adds a file. One of the same path is replaced.
func (r *renderer) file(f cloudconfig.File) {
	mode, err := strconv.ParseInt(string(f.Permissions), 8, 32)
	if f.Permissions == "" {
		mode, err = 0o644, nil
	}
	out := file{Path: f.Path, Overwrite: true, Mode: int(mode)}
	if err == nil {
		out.Contents, err = source(f)
	}
	if err != nil {
		if r.err == nil {
			r.err = fmt.Errorf("cannot render %s: %w", f.Path, err)
		}
		return
	}
	if name, groupName, _ := strings.Cut(f.Owner, ":"); name != "" {
		out.User = ownerOf(name)
		if groupName != "" {
			out.Group = ownerOf(groupName)
		}
	}
	for i := range r.storage.Files {
		if r.storage.Files[i].Path == f.Path {
			r.storage.Files[i] = out
			return
		}
	}
	r.storage.Files = append(r.storage.Files, out)
}

func ownerOf(name string) *owner {
	if id, err := strconv.Atoi(name); err == nil {
		return &owner{ID: &id}
	}
	return &owner{Name: name}
}

// source is a file's content as a data URL (RFC 2397): readable where it is text, and in gzip as it came.
func source(f cloudconfig.File) (contents, error) {
	data, err := f.Bytes()
	if err != nil {
		return contents{}, err
	}
	if f.Encoding == cloudconfig.Gzip64 {
		return contents{"gzip", "data:;base64," + strings.Join(strings.Fields(f.Content), "")}, nil
	}
	if utf8.Valid(data) {
		plain := "data:," + strings.ReplaceAll(url.QueryEscape(string(data)), "+", "%20")
		if len(plain) < len(data)*3/2 {
			return contents{"", plain}, nil
		}
	}
	return contents{"", "data:;base64," + base64.StdEncoding.EncodeToString(data)}, nil
}

// units adds the document's units. Ignition writes them below /etc alone, and networkd's are only files to it.
func (r *renderer) units() {
	for _, u := range r.doc.CoreOS.Units {
		if u.Network() {
			for _, f := range u.Files() {
				f.Path = strings.Replace(f.Path, "/run/", "/etc/", 1)
				r.file(f)
			}
			continue
		}
		for _, d := range u.DropIns {
			r.dropin(u.Name, dropin{d.Name, d.Content})
		}
		own := r.unit(u.Name)
		own.Contents, own.Mask = u.Content, u.Mask
		if u.Enable {
			own.Enabled = &u.Enable
		}
		if u.Content == "" && !u.Mask && !u.Enable && len(own.Dropins) == 0 { // it has a command alone
			r.systemd.Units = r.systemd.Units[:len(r.systemd.Units)-1]
		}
	}
}

// unit finds or adds a unit.
func (r *renderer) unit(name string) *unit {
	for i := range r.systemd.Units {
		if r.systemd.Units[i].Name == name {
			return &r.systemd.Units[i]
		}
	}
	r.systemd.Units = append(r.systemd.Units, unit{Name: name})
	return &r.systemd.Units[len(r.systemd.Units)-1]
}

func (r *renderer) dropin(name string, d dropin) {
	u := r.unit(name)
	u.Dropins = append(u.Dropins, d)
}

const (
	bootScript  = cloudconfig.ReservedDir + "/bootcmd"
	firstScript = cloudconfig.ReservedDir + "/runcmd"
	doneMark    = "/var/lib/muster/runcmd.done"
)

// commands makes services of bootcmd, of runcmd and of what is to be started.
func (r *renderer) commands() {
	yes := true
	if len(r.doc.BootCmd) > 0 {
		r.file(cloudconfig.NewFile(bootScript, cloudconfig.Script(r.doc.BootCmd), "0700"))
		r.systemd.Units = append(r.systemd.Units, unit{Name: "muster-bootcmd.service", Enabled: &yes, Contents: `[Unit]
Description=commands of every boot
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh ` + bootScript + `

[Install]
WantedBy=sysinit.target
`})
	}
	first := r.doc.RunCmd
	var starts []cloudconfig.Command
	for _, u := range r.doc.CoreOS.Units {
		if u.Command != "" && !u.Network() {
			starts = append(starts, cloudconfig.Command{Args: []string{"systemctl", "--no-block", u.Command, u.Name}})
		}
	}
	if first = append(starts, first...); len(first) == 0 {
		return
	}
	r.file(cloudconfig.NewFile(firstScript, cloudconfig.Script(first), "0700"))
	r.systemd.Units = append(r.systemd.Units, unit{Name: "muster-runcmd.service", Enabled: &yes, Contents: `[Unit]
Description=commands of the first boot
ConditionPathExists=!` + doneMark + `
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre=/bin/mkdir -p ` + path.Dir(doneMark) + `
ExecStartPre=/bin/touch ` + doneMark + `
ExecStart=/bin/sh ` + firstScript + `

[Install]
WantedBy=multi-user.target
`})
}
