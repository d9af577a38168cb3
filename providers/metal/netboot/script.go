package netboot

import (
	"bytes"
	"fmt"
	"net/url"
)

// System is what a script loads: a kernel with its initial file system.
type System struct {
	Kernel, Initrd string   // http or https URLs
	Arguments      []string // of the kernel, beside the task's
}

// Script returns the iPXE script for a decision. system and task are ignored for ActionLocalDisk; otherwise the task's
// action and attempt become the decision's, and what that does not need is left out. Whatever fails on the machine ends in
// a restart after a pause, which asks again; Decide bounds how often that leads to an installation.
func Script(d Decision, r Request, system System, task Task) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "#!ipxe\necho muster: %s, because %s\n", d.Action, plain(d.Reason))
	if d.Action == ActionLocalDisk {
		b.WriteString(localDisk(r.Firmware))
		return b.Bytes(), nil
	}
	kernel, err := fetchURL(system.Kernel)
	if err != nil {
		return nil, err
	}
	initrd, err := fetchURL(system.Initrd)
	if err != nil {
		return nil, err
	}
	task.Action, task.Attempt, task.MAC = d.Action, d.Attempt, r.MAC
	if d.Attempt == 0 {
		task.Boot = ""
	}
	if d.Action != ActionInstall && d.Action != ActionMemory {
		task.Image, task.SHA256 = "", ""
	}
	if d.Action != ActionInstall && d.Action != ActionWipe {
		task.Disk = ""
	}
	line, err := task.CommandLine(system.Arguments...)
	if err != nil {
		return nil, err
	}
	// The name ties the file to the kernel's initrd=, which UEFI needs and BIOS ignores.
	fmt.Fprintf(&b, "imgfree\nkernel %s initrd=initrd %s || goto failed\n", kernel, line)
	fmt.Fprintf(&b, "initrd --name initrd %s || goto failed\nboot || goto failed\n", initrd)
	b.WriteString(":failed\necho muster: cannot load the system, trying again in 15 seconds\nsleep 15\nreboot\n")
	return b.Bytes(), nil
}

// localDisk boots the first disk under BIOS, whose own order of devices would come back to the network. UEFI goes on to
// the next entry of its order when a network program ends.
func localDisk(firmware Firmware) string {
	if firmware == BIOS {
		return "sanboot --no-describe --drive 0x80\n"
	}
	return "exit\n"
}

// fetchURL returns a URL as it stands in a script.
func fetchURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("cannot boot from %q: %w", text, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("cannot boot from %q: it is to be an http or https URL without a password", text)
	}
	written := u.String()
	for i := range len(written) {
		if c := written[i]; c <= ' ' || c > '~' || c == '$' || c == '{' || c == '|' || c == '\\' {
			return "", fmt.Errorf("cannot boot from %q: %q means something else to iPXE", text, c)
		}
	}
	return written, nil
}

// plain returns words for iPXE's echo in which nothing is special: no line ends, no settings, no "||", "&&" or ";".
func plain(words string) string {
	return string(bytes.Map(func(r rune) rune {
		switch {
		case r < ' ' || r > '~', r == '$', r == '{', r == '}', r == '|', r == '&', r == ';', r == '\\', r == '#', r == '"', r == '\'':
			return '_'
		}
		return r
	}, []byte(words)))
}
