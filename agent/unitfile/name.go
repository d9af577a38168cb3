package unitfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// MaxName is the greatest length of a unit's name, in bytes (COMPAT: fleet API).
const MaxName = 256

// The types of units that fleet took, and those of which there may be templates (COMPAT: fleet API).
var (
	types = []string{
		"service", "automount", "busname", "device", "mount", "path", "scope", "slice", "snapshot", "socket", "swap",
		"target", "timer",
	}
	templateTypes = []string{"path", "service", "socket", "target", "timer"}
)

// CheckName says what is wrong with the name of a unit by fleet's rules: at most 256 of the characters
// A-Z a-z 0-9 : _ . \ @ - and the type as suffix, a template only of the types that may be one.
func CheckName(name string) error {
	prefix, suffix := splitType(name)
	switch {
	case name == "":
		return fmt.Errorf("a unit needs a name such as web.service")
	case len(name) > MaxName:
		return fmt.Errorf("the unit name of %d characters is longer than %d", len(name), MaxName)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return !nameRune(r) }); i >= 0 {
		return fmt.Errorf("unit name %q holds %q; use letters, digits and : _ . \\ @ -", name, []rune(name[i:])[0])
	}
	if !slices.Contains(types, suffix) {
		return fmt.Errorf("unit name %q has no type; %s", name, typeHint(suffix))
	}
	if prefix == "" || prefix[0] == '@' {
		return fmt.Errorf("unit name %q has nothing before its type or instance", name)
	}
	if IsTemplate(name) && !slices.Contains(templateTypes, suffix) {
		return fmt.Errorf("unit %q cannot be a template; templates are of type %s", name, strings.Join(templateTypes, ", "))
	}
	return nil
}

func typeHint(suffix string) string {
	switch suffix {
	case "container":
		return "the unit of a .container file is a .service of the same name"
	case "pod", "kube", "volume", "network", "image", "build":
		return "of Quadlet's files muster takes .container; a service of Type=oneshot can make the rest with podman"
	}
	if hint := finding.DidYouMean(suffix, types); hint != "" {
		return hint
	}
	return "let it end in .service, .socket, .timer, .path, .mount, .target or another of systemd's types"
}

// Template returns the name of the template that an instance is made from: web@.service for web@1.service. It is false
// for names that are no instance.
func Template(name string) (string, bool) {
	n := parse(name)
	if !n.templated || n.instance == "" {
		return "", false
	}
	return n.prefix + "@" + n.suffix, true
}

// IsTemplate says whether the name is that of a template: web@.service.
func IsTemplate(name string) bool {
	at, dot := strings.IndexByte(name, '@'), strings.LastIndexByte(name, '.')
	if dot < 0 {
		dot = len(name)
	}
	return at >= 0 && at+1 == dot
}

// Instance returns the name of a template's instance: web@1.service for web@.service and 1.
func Instance(template, instance string) string {
	n := parse(template)
	return n.prefix + "@" + instance + n.suffix
}

// parts are those of a unit name PREFIX[@INSTANCE].SUFFIX, the suffix with its dot.
type parts struct {
	prefix, instance, suffix string
	templated                bool
}

func parse(name string) parts {
	base, suffix := splitType(name)
	if suffix != "" {
		suffix = "." + suffix
	}
	prefix, instance, templated := strings.Cut(base, "@")
	return parts{prefix: prefix, instance: instance, suffix: suffix, templated: templated}
}

func splitType(name string) (base, suffix string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	return name[:i], name[i+1:]
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:_.\@-`, r)
}

// checkPattern says what is wrong with a shell pattern of unit names.
func checkPattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q is no shell pattern", pattern)
	}
	rest := strings.Map(func(r rune) rune {
		if strings.ContainsRune("*?[]^-", r) {
			return -1
		}
		return r
	}, pattern)
	if i := strings.IndexFunc(rest, func(r rune) bool { return !nameRune(r) }); i >= 0 {
		return fmt.Errorf("pattern %q holds %q, which no unit name has", pattern, []rune(rest[i:])[0])
	}
	return nil
}
