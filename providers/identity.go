package providers

import (
	"cmp"
	"fmt"
	"regexp"
)

var (
	uuidForm  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	labelForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	imageForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	sumForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate reports an ErrInvalid for an identity that cannot be one: a cluster that is not a UUID in lower case
// (RFC 9562, section 4), a host that is not a DNS label in lower case (RFC 1123, section 2.1), a generation below 1.
// Drivers call it first in Create, since they build names and paths of it.
func (id Identity) Validate() error {
	switch {
	case !uuidForm.MatchString(id.Cluster):
		return fmt.Errorf("cluster %q is not a UUID: %w", id.Cluster, ErrInvalid)
	case !labelForm.MatchString(id.Host):
		return fmt.Errorf("host %q is not a DNS label: %w", id.Host, ErrInvalid)
	case id.Generation < 1:
		return fmt.Errorf("generation %d of host %s is below 1: %w", id.Generation, id.Host, ErrInvalid)
	}
	return nil
}

// Compare orders identities by cluster, host and generation.
func (id Identity) Compare(other Identity) int {
	return cmp.Or(cmp.Compare(id.Cluster, other.Cluster), cmp.Compare(id.Host, other.Host),
		cmp.Compare(id.Generation, other.Generation))
}

// Validate reports an ErrInvalid for an image that cannot be one. Drivers call it first in UploadImage, since they build
// names of it.
func (i Image) Validate() error {
	switch {
	case !imageForm.MatchString(i.Name):
		return fmt.Errorf("image name %q is not one of up to 64 letters, digits and ._-: %w", i.Name, ErrInvalid)
	case !sumForm.MatchString(i.SHA256):
		return fmt.Errorf("SHA-256 %q of image %s is not 64 hexadecimal digits in lower case: %w", i.SHA256, i.Name, ErrInvalid)
	case i.Path == "":
		return fmt.Errorf("image %s has no file: %w", i.Name, ErrInvalid)
	}
	return nil
}
