package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/musterhq/muster/providers"
)

// Tags beside those of providers.Identity.
const (
	tagPhase = "muster.phase" // on instances that need more than one call to make
	tagReach = "muster.reach" // on instances that are reached at their private address
	tagName  = "Name"         // what Amazon's console shows
)

// The values of tagPhase. An instance without one is whole since it exists.
const (
	phaseMaking = "making"
	phaseMade   = "made"
)

// owner is a cluster at a provider.
type owner struct {
	cluster, provider string
}

// tags are on everything that belongs to the cluster as a whole.
func (o owner) tags() map[string]string {
	return map[string]string{providers.TagCluster: o.cluster, providers.TagProvider: o.provider}
}

// filters choose what carries the owner's tags.
func (o owner) filters() []types.Filter {
	return []types.Filter{filter("tag:"+providers.TagCluster, o.cluster), filter("tag:"+providers.TagProvider, o.provider)}
}

// owns tells whether tags are the owner's.
func (o owner) owns(tags map[string]string) bool {
	return tags[providers.TagCluster] == o.cluster && tags[providers.TagProvider] == o.provider
}

// hostTags are on everything that belongs to one host. More tags do not override muster's.
func (o owner) hostTags(id providers.Identity, more map[string]string) map[string]string {
	return merged(map[string]string{tagName: id.Host}, more, o.tags(), id.Tags())
}

// merged are all tags, of which later ones override earlier ones.
func merged(sets ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, tags := range sets {
		maps.Copy(all, tags)
	}
	return all
}

// token is the client token of the nth attempt to make a host, from 1. An attempt is over when its instance has ended, or
// when EC2 will make none of it. Tokens of several providers of one account differ. EC2 takes 64 characters.
func (o owner) token(id providers.Identity, attempt int) string {
	return fmt.Sprintf("%s%d", o.tokenPrefix(id), attempt)
}

func (o owner) tokenPrefix(id providers.Identity) string {
	return hashed("client token", o.provider, id.ID()) + "-"
}

// groupName is the name of the cluster's security group in its VPC, or of its placement group of a strategy.
func (o owner) groupName(kind string) string {
	return "muster-" + hashed(kind, o.provider, o.cluster)
}

// hashed is 32 hexadecimal digits.
func hashed(parts ...string) string {
	sum := sha256.Sum256([]byte("muster ec2\x00" + strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// tagsOf reads tags.
func tagsOf(list []types.Tag) map[string]string {
	tags := make(map[string]string, len(list))
	for _, t := range list {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// tagList writes tags, in a fixed order: a repeated request is the same to the byte.
func tagList(tags map[string]string) []types.Tag {
	list := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

// tagged puts the same tags on resources that a call makes.
func tagged(tags map[string]string, kinds ...types.ResourceType) []types.TagSpecification {
	list := make([]types.TagSpecification, len(kinds))
	for i, kind := range kinds {
		list[i] = types.TagSpecification{ResourceType: kind, Tags: tagList(tags)}
	}
	return list
}

// hostOf is the identity that an instance or address of the owner is tagged with.
func (o owner) hostOf(list []types.Tag) (providers.Identity, bool) {
	tags := tagsOf(list)
	id, ok := providers.IdentityFromTags(tags)
	return id, ok && o.owns(tags)
}
