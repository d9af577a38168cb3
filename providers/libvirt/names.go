package libvirt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/musterhq/muster/providers"
)

// uuidOf is the UUID of a host's domain, which the firmware shows as the machine's: the host's ID.
func uuidOf(id providers.Identity) golibvirt.UUID {
	var uuid golibvirt.UUID
	// ID is 32 hexadecimal digits.
	_, _ = hex.Decode(uuid[:], []byte(id.ID()))
	return uuid
}

// uuidString renders a UUID as libvirt does.
func uuidString(uuid golibvirt.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", uuid[0:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:16])
}

// domainName is for people; the UUID says whose a domain is.
func domainName(id providers.Identity) string {
	return fmt.Sprintf("muster-%s-%s-%d", id.Cluster[:8], id.Host, id.Generation)
}

// owner is a provider of a cluster, to which everything belongs but the images.
type owner struct {
	cluster  string // UUID
	provider string // name in the cluster file, a DNS label
}

// volumePrefix begins the names of an owner's volumes. Volumes have no tags, so the names hold the whole UUID.
func (o owner) volumePrefix() string { return "muster-" + o.cluster + "." + o.provider + "." }

// volumes are the names of the volumes of one host.
type volumes struct {
	disk, seed, console string
}

func (o owner) volumes(id providers.Identity) volumes {
	base := fmt.Sprintf("%s%s.%d", o.volumePrefix(), id.Host, id.Generation)
	return volumes{disk: base + ".disk.qcow2", seed: base + ".seed.iso", console: base + ".console.log"}
}

// consoleBackups is how many old console logs virtlogd keeps by default (max_backups in virtlogd.conf).
const consoleBackups = 3

// all lists the names, those of old console logs included.
func (v volumes) all() []string {
	names := []string{v.disk, v.seed, v.console}
	for i := range consoleBackups {
		names = append(names, fmt.Sprintf("%s.%d", v.console, i))
	}
	return names
}

// earlier is the generation of a host, before the given one, whose volume has a name.
func (o owner) earlier(volume string, id providers.Identity) (providers.Identity, bool) {
	rest, ok := strings.CutPrefix(volume, o.volumePrefix()+id.Host+".")
	number, _, _ := strings.Cut(rest, ".")
	generation, err := strconv.Atoi(number)
	if !ok || err != nil || generation < 1 || generation >= id.Generation {
		return providers.Identity{}, false
	}
	id.Generation = generation
	return id, slices.Contains(o.volumes(id).all(), volume)
}

// derive is bytes that follow from an owner alone.
func (o owner) derive(what string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "muster libvirt\x00%s\x00%s\x00%s", what, o.cluster, o.provider))
}

// network is the identity of the network that muster makes for an owner.
func (o owner) network() (name, bridge string, uuid golibvirt.UUID) {
	sum := o.derive("network")
	uuid = golibvirt.UUID(sum[:16])
	// An interface has at most 15 characters (IFNAMSIZ).
	return fmt.Sprintf("muster-%s-%s", o.cluster[:8], o.provider), fmt.Sprintf("muster%x", sum[:4]), uuid
}

// subnets is where a network may be when its subnet is not given: the nth choice of 4096 in 10.64.0.0/12.
func (o owner) subnet(nth int) netip.Prefix {
	sum := o.derive("subnet")
	n := (int(binary.BigEndian.Uint16(sum[:2])) + nth*subnetStride) % subnetCount
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + n/256), byte(n % 256), 0}), 24)
}

const (
	subnetCount  = 16 * 256
	subnetStride = 1237 // prime to subnetCount, so that every subnet has its turn
)

// macOf is the MAC address of a host: QEMU's first byte, which says "locally administered", and 40 bits of its ID.
func macOf(id providers.Identity) string {
	uuid := uuidOf(id)
	return net.HardwareAddr{0x52, uuid[0], uuid[1], uuid[2], uuid[3], uuid[4]}.String()
}

// addressOf chooses a host's address in a subnet: the first free one of a sequence that begins where the host's name
// says, so that a host's next generation has its address again. The first address is the gateway's.
func addressOf(subnet netip.Prefix, o owner, host string, taken func(netip.Addr) bool) (netip.Addr, bool) {
	base := subnet.Masked().Addr().As4()
	network := binary.BigEndian.Uint32(base[:])
	count := uint32(1)<<(32-subnet.Bits()) - 3 // without the network's, the gateway's and the broadcast address
	sum := o.derive("address\x00" + host)
	first := binary.BigEndian.Uint32(sum[:4]) % count
	for i := range count {
		var at [4]byte
		binary.BigEndian.PutUint32(at[:], network+2+(first+i)%count)
		if address := netip.AddrFrom4(at); !taken(address) {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// imagePrefix begins the names of uploaded images, which end in their SHA-256.
const imagePrefix = "muster-image-"

// doneSuffix ends the name of the empty volume that says that an upload was completed.
const doneSuffix = ".done"

// keptInfix stands in the name of the empty volume that keeps an image from being cleaned up, between the image's own name
// and the one that the operator gave.
const keptInfix = ".kept."

func keptName(image providers.Image) string { return imageName(image.SHA256) + keptInfix + image.Name }

func imageName(sum string) string { return imagePrefix + sum }

// uploadedSum is the SHA-256 in the name of an uploaded image.
func uploadedSum(volume string) (string, bool) {
	sum, ok := strings.CutPrefix(volume, imagePrefix)
	return sum, ok && sha256Form.MatchString(sum)
}

// ownPool is the identity of the pool that muster makes of a directory: two processes that make it make one.
func ownPool(dir string) (name string, uuid golibvirt.UUID) {
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("muster-%x", sum[:4]), golibvirt.UUID(sum[:16])
}
