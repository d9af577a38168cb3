package firstboot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/hostfs"
)

const (
	sudoersPath   = "/etc/sudoers.d/90-muster-users"
	sudoEverybody = "ALL=(ALL) NOPASSWD:ALL"
	skeleton      = "/etc/skel"
	fallbackUser  = "core" // as every host of 2014 had it
)

// users makes the accounts with their groups, passwords, homes, keys and sudo rules.
func (b *boot) users(context.Context) error {
	doc := b.content.doc
	if len(doc.Users) == 0 && len(doc.SSHAuthorizedKeys) == 0 {
		return nil
	}
	if err := b.root.EnsureDir("/etc"); err != nil {
		return err
	}
	unlock, err := lockAccounts(b.root.Dir())
	if err != nil {
		return err
	}
	defer unlock()
	a, err := b.readAccounts()
	if err != nil {
		return err
	}
	users, err := b.withDefault(a)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, u := range users {
		if made[u.Name], err = b.account(a, u); err != nil {
			return fmt.Errorf("cannot make the user %s: %w", u.Name, err)
		}
		b.record.Users = append(b.record.Users, u.Name)
	}
	if err := b.writeAccounts(a); err != nil {
		return err
	}
	var failures []error
	for _, u := range users {
		if err := b.home(a, u, made[u.Name]); err != nil {
			failures = append(failures, fmt.Errorf("cannot make the home of the user %s: %w", u.Name, err))
		}
	}
	return errors.Join(append(failures, b.sudoers(users))...)
}

// withDefault are the document's accounts, the image's own among them under its name when it is wanted, which keys without
// an owner do, too.
func (b *boot) withDefault(a accounts) ([]cloudconfig.User, error) {
	doc := b.content.doc
	users := slices.Clone(doc.Users)
	isDefault := func(u cloudconfig.User) bool { return u.Name == cloudconfig.DefaultUser }
	if len(doc.SSHAuthorizedKeys) == 0 && !slices.ContainsFunc(users, isDefault) {
		return users, nil
	}
	own := b.ownAccount(a, users)
	users = slices.DeleteFunc(users, isDefault)
	at := slices.IndexFunc(users, func(u cloudconfig.User) bool { return u.Name == own.Name })
	if at < 0 {
		users, at = append([]cloudconfig.User{own}, users...), 0
	}
	keys := slices.Clone(users[at].SSHAuthorizedKeys)
	for _, key := range doc.SSHAuthorizedKeys {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	users[at].SSHAuthorizedKeys = keys
	return users, nil
}

// ownAccount finds the image's own account: as the caller says, the first one for people, the first of the document
// when it makes one, else one that is made.
func (b *boot) ownAccount(a accounts, users []cloudconfig.User) cloudconfig.User {
	if b.DefaultUser != "" {
		return cloudconfig.User{Name: b.DefaultUser}
	}
	name, lowest := "", lastNumber+1
	for _, fields := range a.passwd.lines {
		if len(fields) != a.passwd.width {
			continue
		}
		if uid, err := strconv.Atoi(fields[2]); err == nil && uid >= firstNumber && uid < lowest {
			name, lowest = fields[0], uid
		}
	}
	if name != "" {
		return cloudconfig.User{Name: name}
	}
	for _, u := range users {
		if u.Name != cloudconfig.DefaultUser && !u.System {
			return cloudconfig.User{Name: u.Name}
		}
	}
	own := cloudconfig.User{Name: fallbackUser, Sudo: cloudconfig.Rules{sudoEverybody}}
	for _, group := range []string{"sudo", "wheel", "docker", "systemd-journal"} {
		if a.group.find(group) != nil {
			own.Groups = append(own.Groups, group)
		}
	}
	return own
}

// account makes or changes one account in memory, and reports whether it is new. Of one that is there, groups and what is
// said of its password change; the rest is left as the image has it.
func (b *boot) account(a accounts, u cloudconfig.User) (made bool, err error) {
	if a.passwd.find(u.Name) == nil {
		if err := b.newAccount(a, u); err != nil {
			return false, err
		}
		made = true
	}
	for _, group := range u.Groups {
		if err := a.ensureMember(u.Name, group); err != nil {
			return made, err
		}
	}
	a.password(u, b.Now().Unix())
	return made, nil
}

func (b *boot) newAccount(a accounts, u cloudconfig.User) error {
	prefer := noNumber
	if u.UID != nil {
		prefer = *u.UID
		if a.passwd.taken(2)[prefer] {
			return fmt.Errorf("the number %d is taken", prefer)
		}
	}
	uid, err := free(a.passwd.taken(2), u.System, prefer)
	if err != nil {
		return err
	}
	primary := u.PrimaryGroup
	if primary == "" && u.NoUserGroup {
		primary = "users"
	}
	gid := uid
	if primary != "" {
		gid, err = a.ensureGroup(primary, u.System, noNumber)
	} else {
		gid, err = a.ensureGroup(u.Name, u.System, uid)
	}
	if err != nil {
		return err
	}
	home, shell := u.HomeDir, u.Shell
	if home == "" {
		home = "/home/" + u.Name
	}
	if shell == "" {
		shell = "/bin/sh"
		if b.root.Exists("/bin/bash") {
			shell = "/bin/bash"
		}
	}
	fields := []string{u.Name, "x", strconv.Itoa(uid), strconv.Itoa(gid), u.Gecos, home, shell}
	for _, value := range fields {
		if strings.ContainsAny(value, ":\r\n") {
			return errors.New("a colon or the end of a line cannot be in gecos, homedir or shell")
		}
	}
	a.passwd.add(fields...)
	return nil
}

// locked is what no password has as its hash.
const locked = "!"

// password sets a user's entry in /etc/shadow. A hash can be used unless lock_passwd says otherwise, as in 2014; without
// one nobody can log in with a password.
func (a accounts) password(u cloudconfig.User, now int64) {
	days := strconv.FormatInt(now/86400, 10)
	fields := a.shadow.find(u.Name)
	if fields == nil {
		a.shadow.add(u.Name, locked, days, "0", "99999", "7", "", "", "")
		fields = a.shadow.find(u.Name)
	}
	hash := fields[1]
	if given := u.Passwd.Reveal(); given != "" && !strings.ContainsAny(given, ":\r\n") {
		hash = given
	}
	if u.LockPasswd != nil && *u.LockPasswd && !strings.HasPrefix(hash, locked) {
		hash = locked + hash
	}
	if hash != fields[1] {
		a.shadow.set(fields, 1, hash)
		a.shadow.set(fields, 2, days)
	}
}

// home makes the home directory of a new account, and adds keys to that of any.
func (b *boot) home(a accounts, u cloudconfig.User, made bool) error {
	fields := a.passwd.find(u.Name)
	uid, err := strconv.Atoi(fields[2])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(fields[3])
	if err != nil {
		return err
	}
	var who *hostfs.IDs
	if b.root.Owners() {
		who = &hostfs.IDs{User: uid, Group: gid}
	}
	home := fields[5]
	if made && !u.NoCreateHome && !u.System && !b.root.Exists(home) {
		if err := b.newHome(home, who); err != nil {
			return err
		}
	}
	return b.keys(home, u.SSHAuthorizedKeys, who)
}

func (b *boot) newHome(home string, who *hostfs.IDs) error {
	if err := b.root.MkdirAll(home, 0o700, who); err != nil {
		return err
	}
	names, err := b.root.ReadDir(skeleton)
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := b.root.Lstat(skeleton + "/" + name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := b.root.ReadFile(skeleton+"/"+name, maxEtcFile)
		if err != nil {
			return err
		}
		if _, err := b.root.Write(home+"/"+name, text, info.Mode().Perm(), who); err != nil {
			return err
		}
	}
	return nil
}

// keys adds public keys to an account's authorized_keys. A link in place of its directory is refused: the account's owner
// could have it lead to another one's.
func (b *boot) keys(home string, keys []string, who *hostfs.IDs) error {
	if len(keys) == 0 {
		return nil
	}
	dir := path.Join(home, ".ssh")
	if info, err := b.root.Lstat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if err := b.root.MkdirAll(dir, 0o700, who); err != nil {
		return err
	}
	file := dir + "/authorized_keys"
	old, err := b.read(file)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	var text strings.Builder
	for line := range strings.Lines(string(old)) {
		have[strings.TrimSpace(line)] = true
		text.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	for _, key := range keys {
		if key = strings.TrimSpace(key); !have[key] {
			have[key] = true
			text.WriteString(key + "\n")
		}
	}
	return b.write(file, []byte(text.String()), 0o600, who)
}

// sudoers writes the rules of all accounts into one file.
func (b *boot) sudoers(users []cloudconfig.User) error {
	var text strings.Builder
	for _, u := range users {
		for _, rule := range u.Sudo {
			if strings.ContainsAny(rule, "\r\n") {
				return fmt.Errorf("a sudo rule of the user %s has more than one line", u.Name)
			}
			if rule = strings.TrimSpace(rule); rule != "" {
				text.WriteString(u.Name + " " + rule + "\n")
			}
		}
	}
	if text.Len() == 0 {
		return nil
	}
	return b.write(sudoersPath, []byte(text.String()), 0o440, nil)
}
