package openstack

import (
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers"
)

// owner is a provider of a cluster, to which everything belongs.
type owner struct {
	cluster  string // UUID
	provider string // name in the cluster file, a DNS label
}

// description is what ports, floating IPs and security groups of an owner say, and by which they are listed.
func (o owner) description() string {
	return fmt.Sprintf("%s=%s %s=%s", providers.TagCluster, o.cluster, providers.TagProvider, o.provider)
}

// group is the name of the owner's security group, and begins those of its server groups.
func (o owner) group() string { return "muster-" + o.cluster + "-" + o.provider }

func (o owner) serverGroup(policy string) string { return o.group() + "." + policy }

// metadata is what a server of the owner has.
func (o owner) metadata(id providers.Identity) map[string]string {
	tags := id.Tags()
	tags[providers.TagProvider] = o.provider
	return tags
}

// identity reads metadata. It reports false for what is not a host of the owner.
func (o owner) identity(metadata map[string]string) (providers.Identity, bool) {
	id, ok := providers.IdentityFromTags(metadata)
	return id, ok && id.Cluster == o.cluster && metadata[providers.TagProvider] == o.provider
}

// serverMetadata is the owner's and what the settings add.
func serverMetadata(o owner, id providers.Identity, extra map[string]string) map[string]string {
	all := maps.Clone(extra)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, o.metadata(id))
	return all
}

// portName names the ports of a host. It need not be unique: the description says whose it is.
func portName(id providers.Identity) string {
	return fmt.Sprintf("muster.%s.%d", id.Host, id.Generation)
}

// Server tags, by which servers are listed. They have at most 60 characters, and neither comma nor slash.
func clusterTag(cluster string) string            { return providers.TagCluster + "=" + cluster }
func identityTag(id providers.Identity) string    { return "muster.id=" + id.ID() }
func allocationName(id providers.Identity) string { return "muster-" + id.ID() }

// zoneOf spreads hosts over zones: by the number at the end of the host's name, so that web-1, web-2 and web-3 are in three
// zones, or else by chance. A host's next generation is in the same zone.
func zoneOf(host string, zones []string) string {
	if len(zones) == 0 {
		return ""
	}
	name := strings.TrimRight(host, "0123456789")
	if n, err := strconv.Atoi(host[len(name):]); err == nil && n > 0 {
		return zones[(n-1)%len(zones)]
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host))
	return zones[int(sum.Sum32()%uint32(len(zones)))]
}
