package cloudconfig

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// Use is one use of a variable in a document.
type Use struct {
	Name     string // as in `muster.host` or `private_ipv4`
	Path     string // of the text that it stands in: "write_files[2].content"
	Escaped  bool   // with a backslash before it, which stands for the name itself
	Position finding.Position
}

// Variables are what an operator's document may refer to as ${muster.NAME}: the operator's side fills them in.
type Variables struct {
	Host     string            // ${muster.host}
	Cluster  string            // ${muster.cluster}, its name
	Provider string            // ${muster.provider}, its name in the cluster file
	Address  string            // ${muster.address}, where it is known before the host exists
	Labels   map[string]string // ${muster.label.NAME}
}

// Addresses are what a document may refer to as $private_ipv4, $public_ipv4, $private_ipv6 and $public_ipv6: the host
// itself fills them in. The zero Addr is one that it has not.
type Addresses struct {
	PrivateIPv4, PublicIPv4, PrivateIPv6, PublicIPv6 netip.Addr
}

// Or fills in what a lacks from b.
func (a Addresses) Or(b Addresses) Addresses {
	or := func(a, b netip.Addr) netip.Addr {
		if a.IsValid() {
			return a
		}
		return b
	}
	return Addresses{
		or(a.PrivateIPv4, b.PrivateIPv4), or(a.PublicIPv4, b.PublicIPv4),
		or(a.PrivateIPv6, b.PrivateIPv6), or(a.PublicIPv6, b.PublicIPv6),
	}
}

// Get returns the address that a variable without its `$` stands for.
func (a Addresses) Get(name string) (netip.Addr, bool) {
	addr, ok := map[string]netip.Addr{
		"private_ipv4": a.PrivateIPv4, "public_ipv4": a.PublicIPv4, "private_ipv6": a.PrivateIPv6, "public_ipv6": a.PublicIPv6,
	}[name]
	return addr, ok && addr.IsValid()
}

const (
	musterPrefix = "muster."
	labelPrefix  = "muster.label."
)

// variable finds variables: a backslash, the name of an address, or what follows `muster.` and the brace at its end.
var variable = regexp.MustCompile(`(\\?)\$(?:((?:private|public)_ipv[46])\b|\{muster\.([^{}\s]*)(\}?))`)

// clusterVariables are the names that Variables know, but for labels.
var clusterVariables = []string{"muster.host", "muster.cluster", "muster.provider", "muster.address", "muster.label.NAME"}

// get returns the value of a variable and, where there is none, what to do.
func (v Variables) get(name string) (value, hint string) {
	switch name {
	case "muster.host":
		return v.Host, ""
	case "muster.cluster":
		return v.Cluster, ""
	case "muster.provider":
		return v.Provider, ""
	case "muster.address":
		return v.Address, "the host itself fills in `$private_ipv4`"
	}
	label := strings.TrimPrefix(name, labelPrefix)
	return v.Labels[label], "give the host the label `" + label + "`"
}

// Expand fills in the variables of the cluster, ${muster.NAME}, in every text of the document but in encoded contents. One
// without a value is a finding at its place, and so is a path that is none any more. The document is not changed.
func (d Document) Expand(v Variables) (Document, error) {
	return d.expand(func(name string) bool { return strings.HasPrefix(name, musterPrefix) }, v.get)
}

// ExpandAddresses fills in the addresses of the host, $private_ipv4 and so on, as Expand does.
func (d Document) ExpandAddresses(a Addresses) (Document, error) {
	return d.expand(isAddress, func(name string) (value, hint string) {
		if addr, ok := a.Get(name); ok {
			return addr.String(), ""
		}
		return "", "write `\\$" + name + "` if the name itself is meant"
	})
}

func isAddress(name string) bool { return !strings.HasPrefix(name, musterPrefix) }

// Addresses lists the variables of addresses that the document needs, each once.
func (d Document) Addresses() []string {
	var names []string
	for _, u := range d.Uses {
		if !u.Escaped && isAddress(u.Name) && !slices.Contains(names, u.Name) {
			names = append(names, u.Name)
		}
	}
	return names
}

func (d Document) expand(mine func(name string) bool, get func(name string) (value, hint string)) (Document, error) {
	if !slices.ContainsFunc(d.Uses, func(u Use) bool { return mine(u.Name) }) {
		return d, nil
	}
	var findings finding.Findings
	out := d.clone()
	out.Uses = slices.DeleteFunc(slices.Clone(d.Uses), func(u Use) bool { return mine(u.Name) })
	out.texts(func(path string, text *string) {
		changed := replace(*text, func(name string, escaped bool) (string, bool) {
			if !mine(name) || escaped {
				return "", mine(name)
			}
			value, hint := get(name)
			if value == "" {
				findings.Add(d.placeOf(path, name), hint, "`%s` has no value here", name)
			}
			return value, true
		})
		if changed == *text {
			return
		}
		*text = changed
		if strings.HasSuffix(path, "].path") {
			if problem := checkPath(changed); problem != "" {
				findings.Add(d.placeOf(path, ""), "", "`%s` %s", changed, problem)
			} else if Reserved(changed) {
				findings.Add(d.placeOf(path, ""), "write it elsewhere", "`%s` is in `%s`, which is muster's own", changed, ReservedDir)
			}
		}
	})
	if err := findings.Err(); err != nil {
		return Document{}, err
	}
	return out, nil
}

// placeOf is where a document uses a variable; "" is any.
func (d Document) placeOf(path, name string) finding.Position {
	for _, u := range d.Uses {
		if u.Path == path && (name == "" || u.Name == name && !u.Escaped) {
			return u.Position
		}
	}
	return finding.Position{}
}

// replace replaces the variables of a text. value gets their names and says whether to; an escaped one only loses its
// backslash.
func replace(text string, value func(name string, escaped bool) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	return variable.ReplaceAllStringFunc(text, func(match string) string {
		m := variable.FindStringSubmatch(match)
		name, escaped := nameOf(m), m[1] != ""
		with, ok := value(name, escaped)
		switch {
		case !ok:
			return match
		case escaped:
			return match[1:]
		}
		return with
	})
}

func nameOf(match []string) string {
	if match[2] != "" {
		return match[2]
	}
	return musterPrefix + match[3]
}

// findUses notes the uses of variables in a document, those of the cluster only for an operator's.
func (c *checker) findUses(doc *Document) {
	doc.texts(func(path string, text *string) {
		if !strings.Contains(*text, "$") {
			return
		}
		for _, at := range variable.FindAllStringSubmatchIndex(*text, -1) {
			match := make([]string, len(at)/2)
			for i := range match {
				if at[2*i] >= 0 {
					match[i] = (*text)[at[2*i]:at[2*i+1]]
				}
			}
			use := Use{Name: nameOf(match), Path: path, Escaped: match[1] != "", Position: c.within(path, *text, at[0])}
			if match[2] == "" && !c.operator {
				continue
			}
			if match[2] == "" && !use.Escaped {
				c.clusterVariable(use, match[4] != "")
			}
			doc.Uses = append(doc.Uses, use)
		}
	})
}

func (c *checker) clusterVariable(use Use, closed bool) {
	known := slices.Contains(clusterVariables[:4], use.Name) || len(use.Name) > len(labelPrefix) && strings.HasPrefix(use.Name, labelPrefix)
	switch {
	case !closed:
		c.AddAt(use.Position, "", "`${%s` lacks its `}`", use.Name)
	case !known:
		hint := finding.DidYouMean(use.Name, clusterVariables)
		if hint == "" {
			hint = "there are `" + strings.Join(clusterVariables, "`, `") + "`"
		}
		c.AddAt(use.Position, hint, "no variable is called `%s`", use.Name)
	}
}

// within is the place of a byte of a text. Lines are known inside of literal blocks; else it is where the text begins.
func (c *checker) within(path, text string, offset int) finding.Position {
	node := strictyaml.Find(c.root, path)
	if node == nil || node.Style&yaml.LiteralStyle == 0 {
		return strictyaml.Locate(c.File, c.root, path)
	}
	at := c.Position(node)
	at.Line, at.Column = at.Line+1+strings.Count(text[:offset], "\n"), 0
	return at
}

// texts visits every text in which variables may stand, with its path. Contents that are encoded are none, nor are the
// files of muster itself.
func (d *Document) texts(visit func(path string, text *string)) {
	list := func(path string, texts []string) {
		for i := range texts {
			visit(path+"["+strconv.Itoa(i)+"]", &texts[i])
		}
	}
	for i := range d.Users {
		u, at := &d.Users[i], "users["+strconv.Itoa(i)+"]."
		visit(at+"gecos", &u.Gecos)
		list(at+"ssh_authorized_keys", u.SSHAuthorizedKeys)
	}
	list("ssh_authorized_keys", d.SSHAuthorizedKeys)
	for i := range d.WriteFiles {
		f, at := &d.WriteFiles[i], "write_files["+strconv.Itoa(i)+"]."
		if Reserved(f.Path) {
			continue
		}
		visit(at+"path", &f.Path)
		if f.Encoding == Plain {
			visit(at+"content", &f.Content)
		}
	}
	d.CoreOS.texts("coreos.", visit)
	commands := func(key string, commands []Command) {
		for i := range commands {
			at := key + "[" + strconv.Itoa(i) + "]"
			visit(at, &commands[i].Shell)
			list(at, commands[i].Args)
		}
	}
	commands("bootcmd", d.BootCmd)
	commands("runcmd", d.RunCmd)
}

func (c *CoreOS) texts(at string, visit func(path string, text *string)) {
	visit(at+"update.group", &c.Update.Group)
	visit(at+"update.server", &c.Update.Server)
	for _, daemon := range c.daemons() {
		for _, name := range daemon.options.names() {
			value := daemon.options[name]
			visit(at+daemon.key+"."+name, &value)
			daemon.options[name] = value
		}
	}
	for i := range c.Units {
		u, at := &c.Units[i], at+"units["+strconv.Itoa(i)+"]."
		visit(at+"content", &u.Content)
		for j := range u.DropIns {
			visit(at+"drop_ins["+strconv.Itoa(j)+"].content", &u.DropIns[j].Content)
		}
	}
}

// clone copies a document so far that its texts can be changed.
func (d Document) clone() Document {
	d.SSHAuthorizedKeys = slices.Clone(d.SSHAuthorizedKeys)
	d.Users = slices.Clone(d.Users)
	for i := range d.Users {
		d.Users[i].SSHAuthorizedKeys = slices.Clone(d.Users[i].SSHAuthorizedKeys)
	}
	d.WriteFiles = slices.Clone(d.WriteFiles)
	d.BootCmd, d.RunCmd = cloneCommands(d.BootCmd), cloneCommands(d.RunCmd)
	d.CoreOS = d.CoreOS.clone()
	return d
}

func cloneCommands(commands []Command) []Command {
	commands = slices.Clone(commands)
	for i := range commands {
		commands[i].Args = slices.Clone(commands[i].Args)
	}
	return commands
}
