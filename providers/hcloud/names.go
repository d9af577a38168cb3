package hcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers"
)

// owner is a provider of a cluster, to which everything belongs.
type owner struct {
	cluster  string // UUID
	provider string // name in the cluster file, a DNS label
}

// labels are what a firewall or placement group of the owner has.
func (o owner) labels() map[string]string {
	return map[string]string{providers.TagCluster: o.cluster, providers.TagProvider: o.provider}
}

// selector finds what has the owner's labels.
func (o owner) selector() string {
	return fmt.Sprintf("%s=%s,%s=%s", providers.TagCluster, o.cluster, providers.TagProvider, o.provider)
}

// serverLabels are what a server has.
func (o owner) serverLabels(id providers.Identity) map[string]string {
	labels := id.Tags()
	labels[providers.TagProvider] = o.provider
	return labels
}

// hostOf reads a server's labels. It reports false for what is not a host of the owner.
func (o owner) hostOf(labels map[string]string) (providers.Identity, bool) {
	id, ok := providers.IdentityFromTags(labels)
	return id, ok && id.Cluster == o.cluster && labels[providers.TagProvider] == o.provider
}

// group names the owner's firewall, and with a number behind it its placement groups.
func (o owner) group() string { return "muster-" + o.cluster + "-" + o.provider }

func (o owner) placement(number int) string { return o.group() + "." + strconv.Itoa(number) }

// serverName is a name that nobody else gives: host, generation, and digits that follow from cluster and provider. It is a
// host name (RFC 1123), as the API asks for, whose first label is the host's.
func (o owner) serverName(id providers.Identity) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "muster hcloud\x00%s\x00%s", o.cluster, o.provider))
	return fmt.Sprintf("%s.%d.m%s", id.Host, id.Generation, hex.EncodeToString(sum[:8]))
}

// hostNamed is the inverse of serverName. It reports false for a name that is not one of the owner's.
func (o owner) hostNamed(name string) (providers.Identity, bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return providers.Identity{}, false
	}
	generation, err := strconv.Atoi(parts[1])
	id := providers.Identity{Cluster: o.cluster, Host: parts[0], Generation: generation}
	return id, err == nil && id.Validate() == nil && o.serverName(id) == name
}

// claim is whose something with a name of the owner's is, by its labels.
type claim int

const (
	claimForeign claim = iota // somebody else's: none of the labels, or one that says something else
	claimHalf                 // the owner's, of whose labels some are lost
	claimWhole                // the owner's
)

func judge(labels, want map[string]string) claim {
	agree := 0
	for key, value := range want {
		switch got, there := labels[key]; {
		case there && got != value:
			return claimForeign
		case there:
			agree++
		}
	}
	switch agree {
	case 0:
		return claimForeign
	case len(want):
		return claimWhole
	default:
		return claimHalf
	}
}

// owns tells whether a firewall or placement group is the owner's: by its labels, or by what is left of them and its name.
func (o owner) owns(name string, labels map[string]string) bool {
	switch judge(labels, o.labels()) {
	case claimWhole:
		return true
	case claimHalf:
		return name == o.group() || strings.HasPrefix(name, o.group()+".")
	default:
		return false
	}
}

// locationOf spreads hosts over locations: by the number at the end of the host's name, so that web-1, web-2 and web-3 are in
// three locations, or else by chance. A host's next generation is in the same location.
func locationOf(host string, locations []string) string {
	if len(locations) == 0 {
		return ""
	}
	name := strings.TrimRight(host, "0123456789")
	if n, err := strconv.Atoi(host[len(name):]); err == nil && n > 0 {
		return locations[(n-1)%len(locations)]
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host))
	return locations[int(sum.Sum32()%uint32(len(locations)))]
}
