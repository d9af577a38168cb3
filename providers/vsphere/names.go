package vsphere

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// maxName is how many characters the name of an inventory object may have.
const maxName = 80

// shortened is a name of at most maxName characters: a longer one ends in a part of its own hash.
func shortened(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := "-" + hex.EncodeToString(sum[:6])
	return name[:maxName-len(end)] + end
}

// vmName is the name that a host's machine is made with, and the name of its directory in the datastore.
func vmName(id providers.Identity) string {
	return shortened(fmt.Sprintf("%s%s-%d", vmPrefix(id.Cluster), id.Host, id.Generation))
}

// hostNamed is the host whose machine has a name, if the name is one that vmName gives. Those that it has shortened do not tell.
func hostNamed(name, cluster string) (providers.Identity, bool) {
	rest, ours := strings.CutPrefix(name, vmPrefix(cluster))
	at := max(strings.LastIndex(rest, "-"), 0)
	generation, err := strconv.Atoi(strings.TrimPrefix(rest[at:], "-"))
	id := providers.Identity{Cluster: cluster, Host: rest[:at], Generation: generation}
	return id, ours && err == nil && vmName(id) == name
}

// vmPrefix begins the names of a cluster's machines.
func vmPrefix(cluster string) string { return "muster-" + cluster[:8] + "-" }

// uuidOf is the instance UUID and the BIOS UUID of a host's machine.
func uuidOf(id providers.Identity) string {
	s := id.ID()
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// owner is a provider of a cluster, to which everything belongs that is made for no host alone.
type owner struct {
	cluster  string // UUID
	provider string // name in the cluster file
}

// folderName is the folder of the machines, when none is given.
func (o owner) folderName() string { return shortened("muster-" + o.cluster + "-" + o.provider) }

// ruleName is the rule that keeps hosts apart.
func (o owner) ruleName() string { return o.folderName() }

// imagePrefix begins the names of all images of the owner, whole or not.
func (o owner) imagePrefix() string {
	sum := sha256.Sum256([]byte(o.provider))
	return "muster-image-" + o.cluster + "-" + hex.EncodeToString(sum[:3]) + "-"
}

// imageName is the image that is made of a source, once it is whole.
func (o owner) imageName(source string) string {
	sum := sha256.Sum256([]byte(source))
	return o.imagePrefix() + hex.EncodeToString(sum[:6])
}

// importName is what an import is called until it is whole. No two have the same.
func importName(image string) string {
	var unique [4]byte
	_, _ = rand.Read(unique[:]) // it never fails
	return image + "-" + hex.EncodeToString(unique[:])
}

// Keys of extraConfig. Those of providers.Tag* are used as they are. None begins with "guestinfo.", so that nobody in the
// guest can write them.
const (
	keyPhase   = "muster.phase"   // how far the making has come
	keyCreated = "muster.created" // RFC 3339
)

// The values of keyPhase.
const (
	phaseMaking   = "making"   // made, and something is missing yet
	phaseLaunched = "launched" // a host
)

// firstTags are the keys of the tags that every host's machine is made with.
var firstTags = []string{providers.TagCluster, providers.TagHost, providers.TagGeneration, providers.TagProvider, keyPhase, keyCreated}

// tagKeys are all keys that the driver reads.
var tagKeys = append([]string{keyApart}, firstTags...)

// tagsOf are the tags that a host's machine is made with.
func tagsOf(id providers.Identity, provider string, created time.Time) []types.BaseOptionValue {
	return options(
		providers.TagCluster, id.Cluster,
		providers.TagHost, id.Host,
		providers.TagGeneration, strconv.Itoa(id.Generation),
		providers.TagProvider, provider,
		keyPhase, phaseMaking,
		keyCreated, created.UTC().Format(time.RFC3339),
	)
}

// options are pairs of key and value as extraConfig has them.
func options(pairs ...string) []types.BaseOptionValue {
	var list []types.BaseOptionValue
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, &types.OptionValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return list
}
