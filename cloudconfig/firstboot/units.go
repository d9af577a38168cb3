package firstboot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/hostfs"
)

// unitDirs are where units are looked for, the most important first (systemd.unit(5)).
var unitDirs = []string{
	"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
}

// units writes the units and their drop-ins, then masks and enables them: one may name another that follows.
func (b *boot) units(context.Context) error {
	units := b.content.doc.CoreOS.Units
	var failures []error
	for _, do := range []func(cloudconfig.Unit) error{b.unitFiles, b.installUnit} {
		for _, u := range units {
			if err := do(u); err != nil {
				failures = append(failures, fmt.Errorf("unit %s: %w", u.Name, err))
			}
		}
	}
	return errors.Join(failures...)
}

func (b *boot) unitFiles(u cloudconfig.Unit) error {
	for _, f := range u.Files() {
		written, err := f.Write(b.root, hostfs.Lookup)
		if err != nil {
			return err
		}
		b.note(written)
	}
	return nil
}

func (b *boot) installUnit(u cloudconfig.Unit) error {
	switch {
	case u.Mask:
		b.record.Units = append(b.record.Units, u.Name)
		return b.root.Symlink("/dev/null", u.Path())
	case u.Enable && !u.Network():
		b.record.Units = append(b.record.Units, u.Name)
		return b.enable(u.Name, u.Dir(), map[string]bool{})
	}
	return nil
}

// enable makes the links that a unit's [Install] section asks for, below dir.
func (b *boot) enable(name, dir string, seen map[string]bool) error {
	if seen[name] {
		return nil
	}
	seen[name] = true
	file, text, err := b.findUnit(name)
	if err != nil {
		return err
	}
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", file, err)
	}
	var failures []error
	for _, o := range options {
		if o.Section != "Install" {
			continue
		}
		for word := range strings.FieldsSeq(o.Value) {
			word = specifiers(word, name)
			if word == "" || strings.ContainsAny(word, "/\x00") {
				failures = append(failures, fmt.Errorf("`%s` of its [Install] section is no name of a unit", o.Name))
				continue
			}
			failures = append(failures, b.install(o.Name, word, name, file, dir, seen))
		}
	}
	return errors.Join(failures...)
}

// install makes the link that one word of an [Install] section stands for.
func (b *boot) install(key, word, name, file, dir string, seen map[string]bool) error {
	directory := map[string]string{"WantedBy": ".wants/", "RequiredBy": ".requires/", "UpheldBy": ".upholds/"}
	switch suffix, ok := directory[key]; {
	case ok:
		return b.root.Symlink(file, dir+"/"+word+suffix+name)
	case key == "Alias":
		return b.root.Symlink(file, dir+"/"+word)
	case key == "Also":
		return b.enable(word, dir, seen)
	}
	return nil
}

// findUnit reads a unit's file. An instance without one has its template's.
func (b *boot) findUnit(name string) (file, text string, err error) {
	names := []string{name}
	if at, dot := strings.IndexByte(name, '@'), strings.LastIndexByte(name, '.'); at > 0 && dot > at+1 {
		names = append(names, name[:at+1]+name[dot:])
	}
	for _, name := range names {
		for _, dir := range unitDirs {
			data, err := b.root.ReadFile(dir+"/"+name, maxEtcFile)
			if err == nil {
				return dir + "/" + name, string(data), nil
			}
		}
	}
	return "", "", errors.New("it cannot be enabled, because the host has no such unit")
}

// specifiers fills in those that [Install] sections use: %n, %N, %p, %i, %j and %%.
func specifiers(word, name string) string {
	stem := strings.TrimSuffix(name, path.Ext(name))
	prefix, instance, _ := strings.Cut(stem, "@")
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	return strings.NewReplacer("%n", name, "%N", stem, "%p", prefix, "%i", instance, "%j", last, "%%", "%").Replace(word)
}

// startUnits tells systemd of what has changed, and gives the units their commands. It does not wait for them: one may
// itself wait for the first boot to end.
func (b *boot) startUnits(ctx context.Context) error {
	units := b.content.doc.CoreOS.Units
	if len(units) == 0 && len(b.content.doc.CoreOS.Files()) == 0 {
		return nil
	}
	if b.System == nil || !b.root.Exists("/run/systemd/system") {
		b.Log.Debug("left systemd alone: it does not run on this root")
		return nil
	}
	failures := []error{b.systemctl(ctx, "daemon-reload")}
	network := false
	for _, u := range units {
		if u.Network() {
			network = network || u.Content != "" || len(u.DropIns) > 0
			continue
		}
		if u.Command != "" {
			failures = append(failures, b.systemctl(ctx, "--no-block", u.Command, u.Name))
		}
	}
	if network {
		failures = append(failures, b.systemctl(ctx, "--no-block", "restart", "systemd-networkd.service"))
	}
	return errors.Join(failures...)
}

func (b *boot) systemctl(ctx context.Context, args ...string) error {
	if err := b.do(ctx, "systemctl", args...); err != nil {
		return fmt.Errorf("systemctl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
