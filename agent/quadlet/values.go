package quadlet

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// wrong is an error with a hint.
func wrong(hint, format string, args ...any) error {
	return &unitfile.SyntaxError{Message: fmt.Sprintf(format, args...), Hint: hint}
}

func oneOf(choices ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(choices, v) {
			return nil
		}
		hint := finding.DidYouMean(v, choices)
		if hint == "" {
			hint = "use one of " + strings.Join(choices, ", ")
		}
		return wrong(hint, "%q is not known", v)
	}
}

func matching(pattern, what, hint string) func(string) error {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return func(v string) error {
		if re.MatchString(v) {
			return nil
		}
		return wrong(hint, "%q is no %s", v, what)
	}
}

var (
	number   = matching(`[0-9]{1,9}`, "whole number", "write one such as 5")
	limit    = matching(`-1|[0-9]{1,9}`, "limit", "write a number such as 100, or -1 for none")
	size     = matching(`[0-9]{1,15}[bkmgBKMG]?`, "size", "write bytes, or a number with k, m or g, such as 64m")
	duration = matching(`([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+`, "duration", "write one such as 30s or 1m30s")
	interval = matching(`disable|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+`, "interval", "write one such as 30s, or disable")
	absolute = matching(`/.*`, "path from / on", "no path is relative to the unit's file")
	signal   = matching(`(SIG)?[A-Z][A-Z0-9+-]{1,11}|[1-9][0-9]?`, "signal", "write one such as SIGTERM")
	ulimit   = matching(`host|[a-z]+=-?[0-9]+(:-?[0-9]+)?`, "limit", "write one such as nofile=1024:4096")

	capability    = matching(`[A-Za-z_]+`, "capability", "write one such as CAP_NET_ADMIN, several with white space between")
	containerName = matching(`[a-zA-Z0-9][a-zA-Z0-9_.-]*`, "name of a container", "use letters, digits, and _ . - after the first")
	volumeName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	portRange     = regexp.MustCompile(`^([0-9]{1,5})(?:-([0-9]{1,5}))?$`)
	repository    = regexp.MustCompile(`^[^\s@:]+(:[0-9]+/[^\s@:]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,})?$`)
)

func address(v string) error {
	if _, err := netip.ParseAddr(v); err != nil {
		return wrong("", "%q is no IP address", v)
	}
	return nil
}

func onFailure(v string) error {
	if v == "restart" {
		return wrong("use kill, and Restart= of [Service]", "the engine's restarts and systemd's are in each other's way")
	}
	return oneOf("none", "kill", "stop")(v)
}

func assignment(v string) error {
	name, _, _ := strings.Cut(v, "=")
	if name == "" || strings.ContainsAny(name, " \t\n") {
		return wrong(`write NAME=value, or "NAME=two words"`, "%q is no assignment", v)
	}
	return nil
}

// image checks a reference (distribution/reference): [HOST[:PORT]/]NAME[:TAG][@DIGEST]. Those with a transport, such as
// docker-archive:/path, are podman's affair.
func image(v string) error {
	switch name, kind, _ := cutLast(v, "."); {
	case strings.HasPrefix(v, "-"):
		return wrong("", "%q is no image", v)
	case name != "" && slices.Contains([]string{"image", "build"}, kind):
		return wrong("name the image itself", "units of images such as %q are not supported", v)
	case strings.Contains(v, ":/"):
		return nil
	case !repository.MatchString(v):
		return wrong("write one such as docker.io/library/nginx:1.29", "%q is no image", v)
	}
	name, _, _ := strings.Cut(v, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	if host, rest, ok := strings.Cut(name, "/"); ok && strings.ContainsAny(host, ".:") {
		name = rest
	}
	if strings.ToLower(name) != name {
		return wrong("write it in lower case", "no image has capitals in its name, as %q has", v)
	}
	return nil
}

// qualified says whether an image's name begins with its registry.
func qualified(v string) bool {
	host, _, ok := strings.Cut(v, "/")
	return ok && (strings.ContainsAny(host, ".:") || host == "localhost")
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// port checks [[IP:][HOST]:]CONTAINER[/PROTOCOL], each a number or a range.
func port(v string) error {
	const hint = "write 8080:80, 127.0.0.1:8080:80 or 5353:53/udp"
	rest, protocol, found := strings.Cut(v, "/")
	if found && !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return wrong(hint, "%q is no protocol", protocol)
	}
	host, inside, published := cutLast(rest, ":")
	outside := ""
	if published {
		ip, last, hasIP := cutLast(host, ":")
		if !hasIP {
			ip, last = "", host
		}
		outside = last
		ip = strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]")
		if _, err := netip.ParseAddr(ip); hasIP && ip != "" && err != nil {
			return wrong(hint, "%q is no address", ip)
		}
	} else {
		inside = rest
	}
	n, err := ports(inside)
	if err != nil {
		return wrong(hint, "%q is no port", inside)
	}
	if m, err := ports(outside); outside != "" && (err != nil || m != n && m > 0 && n > 1) {
		return wrong(hint, "%q does not go with %q", outside, inside)
	}
	return nil
}

func expose(v string) error {
	if _, err := ports(strings.TrimSuffix(strings.TrimSuffix(v, "/tcp"), "/udp")); err != nil {
		return wrong("write one such as 8080", "%q is no port", v)
	}
	return nil
}

// ports counts those of a port or a range.
func ports(v string) (int, error) {
	m := portRange.FindStringSubmatch(v)
	if m == nil {
		return 0, errors.New("no port")
	}
	first, _ := strconv.Atoi(m[1])
	last := first
	if m[2] != "" {
		last, _ = strconv.Atoi(m[2])
	}
	if first < 1 || last < first || last > 1<<16-1 {
		return 0, errors.New("no port")
	}
	return last - first + 1, nil
}

// volume checks [SOURCE:]PATH[:OPTIONS].
func volume(v string) error {
	parts := strings.Split(v, ":")
	if len(parts) == 1 {
		return inside(parts[0], volumeHint)
	}
	if len(parts) > 3 {
		return wrong(volumeHint, "%q is no volume", v)
	}
	if err := source(parts[0]); err != nil {
		return err
	}
	return inside(parts[1], volumeHint)
}

const volumeHint = "write SOURCE:/path or SOURCE:/path:ro"

func inside(path, hint string) error {
	if !strings.HasPrefix(path, "/") {
		return wrong(hint, "%q is no path from / on in the container", path)
	}
	return nil
}

// source checks what is mounted: a path of the host, or the name of a volume.
func source(v string) error {
	switch {
	case strings.HasPrefix(v, "/"):
		return nil
	case strings.HasSuffix(v, ".volume"):
		return wrong("write the volume's own name, such as "+strings.TrimSuffix(v, ".volume")+"; the engine makes it",
			"units of volumes such as %q are not supported", v)
	case !volumeName.MatchString(v):
		return wrong("write a path from / on, or the name of a volume", "%q is neither a path of the host nor a volume", v)
	}
	return nil
}

func tmpfs(v string) error {
	path, _, _ := strings.Cut(v, ":")
	return inside(path, "write /path or /path:size=64m")
}

func device(v string) error {
	if strings.HasPrefix(v, "-") {
		return wrong("remove the -, and give the unit hosts that have it", "devices that may be missing are not supported")
	}
	return nil
}

// mount checks type=TYPE,NAME=VALUE,...
func mount(v string) error {
	given := map[string]string{}
	for _, field := range strings.Split(v, ",") {
		name, value, _ := strings.Cut(field, "=")
		given[name] = value
	}
	first := func(names ...string) string {
		for _, name := range names {
			if given[name] != "" {
				return given[name]
			}
		}
		return ""
	}
	kind, from := given["type"], first("source", "src")
	switch {
	case !slices.Contains([]string{"bind", "volume", "tmpfs"}, kind):
		return wrong("write type=bind, type=volume or type=tmpfs", "mounts of type %q are not supported", kind)
	case kind == "bind" && !strings.HasPrefix(from, "/"):
		return wrong("add source=/path", "a mount of type bind needs a path of the host, from / on")
	case kind == "volume" && from != "":
		if err := source(from); err != nil {
			return err
		}
	}
	return inside(first("target", "destination", "dst", "dest"), "add target=/path")
}

func network(v string) error {
	name, kind, _ := cutLast(v, ".")
	switch kind, _, _ := strings.Cut(kind, ":"); {
	case kind == "network":
		return wrong("write the network's own name, such as "+name+", and make it with a service of Type=oneshot",
			"units of networks such as %q are not supported", v)
	case kind == "container":
		return wrong("write container:NAME", "units of containers such as %q cannot be named here", v)
	}
	return nil
}
