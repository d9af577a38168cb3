package gateway

import (
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Policy is what the callers at one listener may do.
type Policy struct {
	// Bridged is true where callers are containers and the like: they may read, and write what Grants covers, and get no
	// more of this host than a share each.
	Bridged bool
	// From is where callers are: Linux takes what others send to any of its addresses, whichever link it comes by. The zero
	// Prefix is this host's loopback addresses.
	From   netip.Prefix
	Grants []string // keys as in v2, /a/b: each with what is below it
	// Names are what a request may call the gateway, beside IP addresses. Others are those of web pages that had their own
	// name lead here.
	Names []string
}

// lockKey is where programs written for locksmith look for the reboot lock; it is for the host itself.
const lockKey = "/coreos.com/updateengine/rebootlock"

// The paths below which v1 and v2 have keys.
var keyPaths = []string{"/v2/keys", "/v1/keys", "/v1/watch"}

func (p Policy) grants() grants {
	if !p.Bridged {
		return nil
	}
	return append(grants{}, p.Grants...)
}

// refusal is why a request is refused.
type refusal struct {
	status int
	reason string
}

func forbidden(reason string) *refusal { return &refusal{status: http.StatusForbidden, reason: reason} }

// check refuses what web pages send, who is elsewhere, and what this caller may not do. Calls of v3 are looked at again, one by
// one; they may call the host anything: some clients send no name there, and web pages have no HTTP/2 without TLS.
func (p Policy) check(r *http.Request) *refusal {
	if !p.from(callerOf(r)) {
		return forbidden("the keys are for programs of this host and for containers behind its bridge")
	}
	if r.Header.Get("Origin") != "" || !slices.Contains([]string{"", "none"}, r.Header.Get("Sec-Fetch-Site")) {
		return forbidden("web pages may not use the keys of this host")
	}
	if isGRPC(r) {
		return nil
	}
	if !p.knows(r.Host) {
		return forbidden("this host is not called " + r.Host + " here; use its address")
	}
	if p.Bridged {
		return p.checkBridged(r)
	}
	return nil
}

func (p Policy) from(caller netip.Addr) bool {
	if p.From.IsValid() {
		return p.From.Contains(caller)
	}
	return caller.IsLoopback()
}

// knows accepts IP addresses, since it takes a name to be led here by somebody else's (DNS rebinding).
func (p Policy) knows(host string) bool {
	if at, err := netip.ParseAddrPort(host); err == nil {
		return at.IsValid()
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	name, _, _ := strings.Cut(host, ":")
	return slices.Contains(p.Names, strings.ToLower(name))
}

func (p Policy) checkBridged(r *http.Request) *refusal {
	key, isKey := keyOf(r.URL.Path)
	if isKey && (grants{lockKey}).covers(path.Clean("/"+key)) {
		return forbidden("the reboot lock is for the host itself")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(r.URL.Path, "/v1/watch/") {
		return nil
	}
	switch {
	case !isKey:
		return forbidden("only keys can be changed")
	case key != path.Clean(key), r.URL.RawPath != "":
		return forbidden("a key that is changed has to be written plainly")
	case !p.grants().covers(key):
		return forbidden("callers from behind the bridge may only read this key; `keys: grants:` of the cluster file grants a prefix")
	}
	return nil
}

// keyOf is the key that a path names, as the handler of v1 and v2 will see it.
func keyOf(urlPath string) (key string, ok bool) {
	for _, prefix := range keyPaths {
		if rest, found := strings.CutPrefix(urlPath, prefix); found && (rest == "" || rest[0] == '/') {
			return rest, true
		}
	}
	return "", false
}

// LocalNames are those by which a host is called on itself and in its containers.
func LocalNames() []string {
	return []string{"localhost", "host.containers.internal", "host.docker.internal"}
}
