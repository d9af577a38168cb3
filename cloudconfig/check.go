package cloudconfig

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// checker finds what is wrong with values of the right types.
type checker struct {
	*strictyaml.Decoder
	root     *yaml.Node
	operator bool
	bytes    int // of all files so far
}

func (c *checker) add(path, hint, format string, args ...any) {
	c.AddAt(strictyaml.Locate(c.File, c.root, path), hint, format, args...)
}

var (
	hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	account  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?$`)
	owner    = regexp.MustCompile(`^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?$`)
)

// ValidHostname reports whether a name can be a host's, with or without a domain (RFC 1123 section 2.1).
func ValidHostname(name string) bool { return len(name) <= 253 && hostname.MatchString(name) }

func (c *checker) document(doc Document) {
	if doc.Hostname != "" && !ValidHostname(doc.Hostname) {
		c.add("hostname", "use letters, digits and hyphens", "`%s` is no host name", doc.Hostname)
	}
	c.users(doc.Users)
	c.keys("ssh_authorized_keys", doc.SSHAuthorizedKeys)
	c.coreos(doc.CoreOS)
	first := map[string]string{}
	for i, f := range doc.WriteFiles {
		at := "write_files[" + strconv.Itoa(i) + "]"
		c.file(at, f)
		if other, dup := first[f.Path]; dup && f.Path != "" {
			line := strictyaml.Locate(c.File, c.root, other).Line
			c.add(at+".path", "", "`%s` is written twice, first on line %d", f.Path, line)
			continue
		}
		first[f.Path] = at + ".path"
	}
}

func (c *checker) users(users []User) {
	seen := map[string]bool{}
	for i, u := range users {
		at := "users[" + strconv.Itoa(i) + "]"
		switch {
		case u.Name == "":
			c.add(at, "", "a user needs a `name`")
		case !account.MatchString(u.Name):
			c.add(at+".name", "", "`%s` is no user name", u.Name)
		case seen[u.Name]:
			c.add(at+".name", "", "a second user `%s`", u.Name)
		}
		seen[u.Name] = true
		for j, g := range u.Groups {
			if !account.MatchString(g) {
				c.add(at+".groups["+strconv.Itoa(j)+"]", "", "`%s` is no group name", g)
			}
		}
		c.keys(at+".ssh_authorized_keys", u.SSHAuthorizedKeys)
	}
}

func (c *checker) keys(at string, keys []string) {
	for i, key := range keys {
		if strings.TrimSpace(key) == "" || strings.ContainsAny(strings.TrimSpace(key), "\r\n") {
			c.add(at+"["+strconv.Itoa(i)+"]", "give one line of a .pub file", "this is no public key")
		}
	}
}

func (c *checker) file(at string, f File) {
	if f.Path == "" {
		c.add(at, "", "a file needs a `path`")
	} else if problem := checkPath(f.Path); problem != "" {
		c.add(at+".path", "", "`%s` %s", f.Path, problem)
	} else if c.operator && Reserved(f.Path) {
		c.add(at+".path", "write it elsewhere", "`%s` is in `%s`, which is muster's own", f.Path, ReservedDir)
	}
	if f.Owner != "" && !owner.MatchString(f.Owner) {
		c.add(at+".owner", "write user or user:group", "`%s` is no owner", f.Owner)
	}
	if c.bytes > MaxBytes {
		return
	}
	data, err := f.Bytes()
	if err != nil {
		c.add(at+".content", "", "%v", err)
	}
	if c.bytes += len(data); c.bytes > MaxBytes {
		c.add(at+".content", "", "the files have more than 64 MiB up to here")
	}
}

// strategies are those of locksmith.
var strategies = []string{"best-effort", "etcd-lock", "reboot", "off"}

func (c *checker) coreos(all CoreOS) {
	const at = "coreos.update."
	if s := all.Update.RebootStrategy; s != "" && !slices.Contains(strategies, s) {
		c.add(at+"reboot_strategy", either(s, strategies), "no reboot strategy is called `%s`", s)
	}
	c.line(at+"group", all.Update.Group)
	c.line(at+"server", all.Update.Server)
	for _, d := range all.daemons() {
		for _, name := range d.options.names() {
			at := "coreos." + d.key + "." + name
			if !slices.Contains(d.known, name) {
				c.AddAt(strictyaml.LocateKey(c.File, c.root, at), finding.DidYouMean(name, d.known), "%s has no option `%s`", d.key, name)
			}
			c.line(at, d.options[name])
		}
	}
	if pairs := all.Fleet["metadata"]; pairs != "" {
		for pair := range strings.SplitSeq(pairs, ",") {
			if key, _, ok := strings.Cut(pair, "="); !ok || strings.TrimSpace(key) == "" {
				c.add("coreos.fleet.metadata", "write key=value,key=value", "`%s` is no metadata", pair)
			}
		}
	}
	c.units(all.Units)
}

// line checks that a value is one line.
func (c *checker) line(at, value string) {
	if strings.ContainsAny(value, "\r\n") {
		c.add(at, "", "it has more than one line")
	}
}

var (
	// unitName is a name of systemd.unit(5), of a kind that a cloud-config may have.
	unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(automount|device|mount|path|scope|service|slice|socket|swap|target|timer|network|netdev|link)$`)
	dropIn   = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.conf$`)
)

// verbs are the commands that a unit may get.
var verbs = []string{"start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "reload-or-try-restart"}

func (c *checker) units(units []Unit) {
	seen := map[string]bool{}
	for i, u := range units {
		at := "coreos.units[" + strconv.Itoa(i) + "]"
		switch {
		case u.Name == "":
			c.add(at, "", "a unit needs a `name`")
		case !unitName.MatchString(u.Name) || len(u.Name) > 255:
			c.add(at+".name", "end it in .service, .socket, .timer, .mount or another of systemd's kinds", "`%s` is no name of a unit", u.Name)
		case seen[u.Name]:
			c.add(at+".name", "", "a second unit `%s`", u.Name)
		case c.operator && u.Name == path.Base(unitPath) && (u.Content != "" || u.Mask):
			c.add(at+".name", "give it drop_ins", "`%s` is muster's own", u.Name)
		}
		seen[u.Name] = true
		if u.Command != "" && !slices.Contains(verbs, u.Command) {
			c.add(at+".command", either(u.Command, verbs), "no command is called `%s`", u.Command)
		}
		if u.Mask && u.Content != "" {
			c.add(at+".mask", "remove one of them", "masking the unit `%s` would discard its content", u.Name)
		}
		c.section(at+".content", u.Content)
		c.dropIns(at, u.DropIns)
	}
}

func (c *checker) dropIns(at string, all []DropIn) {
	seen := map[string]bool{}
	for j, d := range all {
		at := at + ".drop_ins[" + strconv.Itoa(j) + "]"
		switch {
		case d.Name == "":
			c.add(at, "", "a drop-in needs a `name`")
		case !dropIn.MatchString(d.Name) || len(d.Name) > 255:
			c.add(at+".name", "end it in .conf", "`%s` is no name of a drop-in", d.Name)
		case seen[d.Name]:
			c.add(at+".name", "", "a second drop-in `%s`", d.Name)
		}
		seen[d.Name] = true
		c.section(at+".content", d.Content)
	}
}

// section checks that a unit file begins with a section, which systemd would otherwise only say in its journal.
func (c *checker) section(at, content string) {
	offset := 0
	for line := range strings.Lines(content) {
		text := strings.TrimSpace(line)
		if text != "" && text[0] != '#' && text[0] != ';' {
			if text[0] != '[' || text[len(text)-1] != ']' {
				c.AddAt(c.within(at, content, offset), "write a line such as [Service] before it", "no section of the unit file begins here")
			}
			return
		}
		offset += len(line)
	}
}

// either lists what there is, or guesses what was meant.
func either(got string, words []string) string {
	if hint := finding.DidYouMean(got, words); hint != "" {
		return hint
	}
	return "there are `" + strings.Join(words, "`, `") + "`"
}
