// Package providers defines what muster asks of anything that can give it hosts: a cloud, a hypervisor, a rack, or
// this machine.
//
// A driver implements Provider and describes itself with a Driver value; the binary lists its drivers in one Registry.
// Everything that is the same for all drivers (retries, rate limits, dry runs, faults for tests, traces) is a decorator
// around Provider. The package knows nothing of clusters' plans or of what runs on a host.
package providers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/musterhq/muster/cloudconfig"
)

// Tags that every resource of a cluster carries, in whatever form the provider has for tags. They are the only record
// of what exists.
const (
	TagCluster    = "muster.cluster"    // UUID
	TagHost       = "muster.host"       // name
	TagGeneration = "muster.generation" // decimal, from 1
	TagProvider   = "muster.provider"   // name in the cluster file, where several providers may share one account
)

// Identity names one desired host. Two creates with equal identities are the same create.
type Identity struct {
	Cluster    string // UUID of the cluster
	Host       string // name, unique in the cluster, a DNS label
	Generation int    // from 1; a replacement of a host has the next one
}

// ID is 32 hexadecimal digits that follow from the identity alone. It is the host's machine ID, the client token of
// drivers that have one, and the seed of deterministic names and UUIDs.
func (id Identity) ID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "muster host\x00%s\x00%s\x00%d", id.Cluster, id.Host, id.Generation))
	return hex.EncodeToString(sum[:16])
}

// Tags returns the identity as tags.
func (id Identity) Tags() map[string]string {
	return map[string]string{TagCluster: id.Cluster, TagHost: id.Host, TagGeneration: strconv.Itoa(id.Generation)}
}

// IdentityFromTags is the inverse of Tags. It reports false when a tag is missing or is not what Tags would have made of
// a valid identity.
func IdentityFromTags(tags map[string]string) (Identity, bool) {
	generation, err := strconv.Atoi(tags[TagGeneration])
	id := Identity{Cluster: tags[TagCluster], Host: tags[TagHost], Generation: generation}
	return id, err == nil && tags[TagGeneration] == strconv.Itoa(generation) && id.Validate() == nil
}

// State is what a provider says of an instance.
type State string

// The states of an instance. Terminated instances are not listed at all.
const (
	StatePending State = "pending" // being made; Addresses may be empty
	StateRunning State = "running" // powered on
	StateStopped State = "stopped" // exists, powered off; Starter may start it
	StateFailed  State = "failed"  // exists, will never run; destroy it
)

// Ports are TCP ports that replace the standard ones on instances that share an address. Zero means standard.
type Ports struct {
	API, Client, Peer int
}

// Instance is one machine at a provider.
type Instance struct {
	Identity
	ID        string // the provider's own identifier, opaque
	State     State
	Addresses []netip.Addr // reachable ones first; empty while unknown
	Ports     Ports
	Created   time.Time
}

// CreateRequest asks for one host.
type CreateRequest struct {
	Identity
	UserData []byte // exact bytes; a repeated create passes the same ones
	Settings any    // what Driver.NewSettings returned, filled from the cluster file and validated; nil means defaults
}

// Provider makes, finds and ends hosts. Implementations are safe for concurrent use.
//
// Idempotency: Create with an identity that already exists returns the existing instance and changes nothing, whatever
// happened to the answer of an earlier call; two concurrent creates of one identity make at most one instance. Destroy
// of something that is gone succeeds.
//
// Retries: an implementation tries each remote call once and classifies the failure; the Retry decorator repeats calls
// whose error is ErrThrottled or ErrUnavailable. Errors wrap exactly one of the classes below where it applies. They say
// what is wrong and what to do about it; the caller, who knows what it wanted, adds "cannot create", host and provider.
//
// Ownership: an instance without all three tags is never listed as a host, and is never changed, with one exception: a
// half-made instance that the provider can prove to be ours (deterministic name, or some of the tags) is completed by
// the next Create of its identity or removed by Cleanup.
type Provider interface {
	// Create makes the host or adopts it. It returns when the provider has accepted the request; the instance may still
	// be pending and have no address.
	Create(ctx context.Context, req CreateRequest) (Instance, error)
	// List returns every instance of the cluster (a UUID) that is not terminated, sorted by host and generation.
	List(ctx context.Context, cluster string) ([]Instance, error)
	// Destroy ends an instance and everything that was made for it alone, and returns when it no longer counts as live.
	// instance is one that List or Create returned.
	Destroy(ctx context.Context, instance Instance) error
}

// Starter is implemented by providers that can power a stopped instance on. Starting a running instance succeeds.
type Starter interface {
	Start(ctx context.Context, instance Instance) error
}

// Stopper is implemented by providers that can power an instance off and keep it, which are Starters too. Stop asks the
// guest first where the provider can, and returns when the provider has accepted the request; List says StateStopped
// soon. Stopping a stopped instance succeeds. One that is gone is ErrNotFound; one that is another host's now is
// ErrConflict or ErrNotFound, and is left as it is.
type Stopper interface {
	Stop(ctx context.Context, instance Instance) error
}

// Cleaner is implemented by providers that keep resources which belong to a cluster as a whole (a security group, a
// network, a directory) or that may hold half-made ones. Cleanup removes all of them; no instance is left when it is
// called.
type Cleaner interface {
	Cleanup(ctx context.Context, cluster string) error
}

// Checker is implemented by providers that can verify, with calls but without changing anything, that the settings of
// the hosts to come will work: credentials, images, networks, quota.
type Checker interface {
	Check(ctx context.Context, settings []any) error
}

// UserDataLimiter is implemented by providers that bound the user-data of a host. UserDataLimit makes no call. Create takes
// what the limit's Fit takes, and passes on what that returns.
type UserDataLimiter interface {
	UserDataLimit() cloudconfig.Limit
}

// Consoler is implemented by providers that keep what a host says on its console. Console writes all that is there, and
// with follow goes on until the host is gone or ctx ends, whose cause it returns then.
type Consoler interface {
	Console(ctx context.Context, instance Instance, follow bool, w io.Writer) error
}

// Image is the file of a disk image that hosts boot from.
type Image struct {
	Name   string // for people: a letter or digit, and up to 63 more of them or ._-
	Path   string // of the file on this machine
	SHA256 string // of the file, 64 lower-case hexadecimal digits, which say what image it is
}

// ImageTaker is implemented by providers that keep images which the operator uploads.
//
// UploadImage returns what the settings of a host name the image by, which follows from the sum and not from the name. It
// may be repeated: an image that is there whole is not sent again, what an upload that was cut short left is completed or
// replaced, and two uploads of one image at a time leave one. Only a whole image can be booted from. A file that has
// another sum is ErrInvalid and leaves no image. The image belongs to no cluster, so Cleanup leaves it.
//
// progress, which may be nil, is told how many bytes were taken so far, by one goroutine at a time; fewer than before
// when the upload begins again, and nothing for an image that is there.
type ImageTaker interface {
	UploadImage(ctx context.Context, image Image, progress func(bytes int64)) (reference string, err error)
}

// Error classes. A driver wraps one with %w; callers test with errors.Is.
var (
	ErrThrottled   = errors.New("request rate exceeded")               // repeated after a pause
	ErrUnavailable = errors.New("provider unavailable")                // 5xx, connection lost, answer lost: outcome unknown, repeated
	ErrQuota       = errors.New("quota exceeded")                      // not repeated
	ErrAuth        = errors.New("not authenticated or not authorized") // not repeated
	ErrInvalid     = errors.New("invalid request")                     // not repeated: the cluster file is wrong
	ErrNotFound    = errors.New("not found")                           // not repeated: image, network, instance
	ErrConflict    = errors.New("conflict")                            // not repeated: something not ours is in the way
)
