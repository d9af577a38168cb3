package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/musterhq/muster/cloudconfig"
)

const (
	hostnamePath    = "/etc/hostname"
	hostsPath       = "/etc/hosts"
	environmentPath = "/etc/environment"
	maxEtcFile      = 1 << 20
)

// hostname names the machine.
func (b *boot) hostname(context.Context) error {
	name := b.content.doc.Hostname
	if name == "" {
		return nil
	}
	if err := b.write(hostnamePath, []byte(name+"\n"), 0o644, nil); err != nil {
		return err
	}
	if b.System == nil {
		return nil
	}
	if err := b.System.SetHostname(name); err != nil {
		return fmt.Errorf("cannot set the hostname: %w", err)
	}
	return nil
}

// hosts keeps the machine's own name in /etc/hosts.
func (b *boot) hosts(context.Context) error {
	manage, name := b.content.doc.ManageEtcHosts, b.content.doc.Hostname
	if manage == cloudconfig.HostsAlone {
		return nil
	}
	if name == "" {
		text, err := b.root.ReadFile(hostnamePath, 4096)
		if name = strings.TrimSpace(string(text)); err != nil || name == "" {
			return errors.New("the host has no name to write into /etc/hosts; give the cloud-config a hostname")
		}
	}
	var old []byte
	if manage == cloudconfig.HostsLocalhost {
		var err error
		if old, err = b.read(hostsPath); err != nil {
			return err
		}
	}
	return b.write(hostsPath, []byte(ownHost(string(old), name)), 0o644, nil)
}

// ownHost is /etc/hosts with a line for the machine's name, on the loopback address that Debian keeps for it.
func ownHost(old, name string) string {
	const own = "127.0.1.1"
	short, _, _ := strings.Cut(name, ".")
	line := own + "\t" + name
	if short != name {
		line += " " + short
	}
	var b strings.Builder
	placed := false
	for text := range strings.Lines(old) {
		if fields := strings.Fields(text); len(fields) > 0 && fields[0] == own {
			if placed {
				continue
			}
			text, placed = line+"\n", true
		}
		b.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	}
	if old == "" {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	if !placed {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// usesCoreOS reports whether the document may rely on what coreos-cloudinit did unasked.
func (c content) usesCoreOS() bool {
	o := c.doc.CoreOS
	return len(o.Units) > 0 || len(o.Files()) > 0
}

// environment adds the addresses to /etc/environment, where units of 2014 read them: COREOS_PRIVATE_IPV4 and so on.
func (b *boot) environment(doc *cloudconfig.Document, addresses cloudconfig.Addresses) {
	for _, f := range doc.WriteFiles {
		if f.Path == environmentPath {
			return // the operator's own
		}
	}
	old, err := b.read(environmentPath)
	if err != nil {
		b.Log.Warn("left /etc/environment alone", "error", err)
		return
	}
	var text strings.Builder
	for line := range strings.Lines(string(old)) {
		if name, _, _ := strings.Cut(line, "="); !isAddressVariable(name) {
			text.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	found := false
	for _, name := range addressNames {
		if addr, ok := addresses.Get(name); ok {
			text.WriteString("COREOS_" + strings.ToUpper(name) + "=" + addr.String() + "\n")
			found = true
		}
	}
	if found {
		doc.WriteFiles = append(doc.WriteFiles, cloudconfig.NewFile(environmentPath, []byte(text.String()), "0644"))
	}
}

var addressNames = []string{"private_ipv4", "private_ipv6", "public_ipv4", "public_ipv6"}

func isAddressVariable(name string) bool {
	for _, known := range addressNames {
		if name == "COREOS_"+strings.ToUpper(known) {
			return true
		}
	}
	return false
}

// read reads a file of /etc, nothing when there is none.
func (b *boot) read(path string) ([]byte, error) {
	data, err := b.root.ReadFile(path, maxEtcFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
