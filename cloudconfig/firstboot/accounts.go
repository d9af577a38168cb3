package firstboot

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/cloudconfig/hostfs"
)

// The files of passwd(5), group(5), shadow(5) and gshadow(5).
const (
	passwdPath  = "/etc/passwd"
	groupPath   = "/etc/group"
	shadowPath  = "/etc/shadow"
	gshadowPath = "/etc/gshadow"
)

// table is one of these files: lines of fields. Lines that are none are kept as they are.
type table struct {
	path    string
	mode    fs.FileMode
	width   int // fields of a line
	present bool
	lines   [][]string
	changed bool
}

func (b *boot) readTable(path string, mode fs.FileMode, width int) (*table, error) {
	text, err := b.read(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	t := &table{path: path, mode: mode, width: width, present: text != nil}
	for line := range strings.Lines(string(text)) {
		t.lines = append(t.lines, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return t, nil
}

// find returns the fields of an entry, which may be changed, or nil.
func (t *table) find(name string) []string {
	for _, fields := range t.lines {
		if fields[0] == name && len(fields) == t.width {
			return fields
		}
	}
	return nil
}

func (t *table) add(fields ...string) {
	t.lines = append(t.lines, fields)
	t.changed = true
}

// set changes a field.
func (t *table) set(fields []string, i int, value string) {
	if fields[i] != value {
		fields[i] = value
		t.changed = true
	}
}

// taken are the numbers in a field of all entries.
func (t *table) taken(field int) map[int]bool {
	taken := map[int]bool{}
	for _, fields := range t.lines {
		if len(fields) == t.width {
			if n, err := strconv.Atoi(fields[field]); err == nil {
				taken[n] = true
			}
		}
	}
	return taken
}

func (t *table) text() []byte {
	var b strings.Builder
	for _, fields := range t.lines {
		b.WriteString(strings.Join(fields, ":") + "\n")
	}
	return []byte(b.String())
}

// accounts are the accounts of a root directory.
type accounts struct {
	passwd, group, shadow, gshadow *table
}

func (b *boot) readAccounts() (a accounts, err error) {
	for _, t := range []struct {
		into  **table
		path  string
		mode  fs.FileMode
		width int
	}{
		{&a.passwd, passwdPath, 0o644, 7},
		{&a.group, groupPath, 0o644, 4},
		{&a.shadow, shadowPath, 0o600, 9},
		{&a.gshadow, gshadowPath, 0o600, 4},
	} {
		if *t.into, err = b.readTable(t.path, t.mode, t.width); err != nil {
			return a, err
		}
	}
	return a, nil
}

// writeAccounts writes what has changed: groups first, so that no account names one that is not there.
func (b *boot) writeAccounts(a accounts) error {
	for _, t := range []*table{a.group, a.gshadow, a.shadow, a.passwd} {
		if !t.changed || t == a.gshadow && !t.present {
			continue
		}
		written, err := b.root.Replace(t.path, t.text(), t.mode, &hostfs.IDs{})
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", t.path, err)
		}
		b.note(written)
	}
	return nil
}

// Ranges of numbers, those of login.defs(5).
const (
	firstNumber, lastNumber             = 1000, 60000
	firstSystemNumber, lastSystemNumber = 100, 999
	noNumber                            = -1
)

// free chooses a number: people's upwards, the system's downwards. prefer is taken when it is free.
func free(taken map[int]bool, system bool, prefer int) (int, error) {
	if prefer >= 0 && !taken[prefer] {
		return prefer, nil
	}
	if system {
		for n := lastSystemNumber; n >= firstSystemNumber; n-- {
			if !taken[n] {
				return n, nil
			}
		}
	}
	for n := firstNumber; n <= lastNumber && !system; n++ {
		if !taken[n] {
			return n, nil
		}
	}
	return 0, fmt.Errorf("all numbers for accounts are taken")
}

// ensureGroup returns the number of a group, which it makes if there is none.
func (a accounts) ensureGroup(name string, system bool, prefer int) (int, error) {
	if fields := a.group.find(name); fields != nil {
		return strconv.Atoi(fields[2])
	}
	gid, err := free(a.group.taken(2), system, prefer)
	if err != nil {
		return 0, err
	}
	a.group.add(name, "x", strconv.Itoa(gid), "")
	if a.gshadow.find(name) == nil {
		a.gshadow.add(name, "!", "", "")
	}
	return gid, nil
}

// ensureMember makes an account a member of a group.
func (a accounts) ensureMember(user, group string) error {
	if _, err := a.ensureGroup(group, false, noNumber); err != nil {
		return err
	}
	for _, t := range []*table{a.group, a.gshadow} {
		fields := t.find(group)
		if fields == nil {
			continue
		}
		members := strings.FieldsFunc(fields[3], func(r rune) bool { return r == ',' })
		if !slices.Contains(members, user) {
			t.set(fields, 3, strings.Join(append(members, user), ","))
		}
	}
	return nil
}
