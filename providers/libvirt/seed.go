package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kdomanski/iso9660"

	"github.com/musterhq/muster/providers"
)

// seedLabel is the volume label by which a host finds its seed
// (https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html).
const seedLabel = "cidata"

// seedImage is the NoCloud seed of a host, an ISO 9660 image. The same host and user-data make the same bytes, so that
// two processes that write it at the same time write the same.
func seedImage(id providers.Identity, userData []byte, address netip.Addr) (_ []byte, err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("cannot stage the seed: %w", err)
	}
	defer func() { err = errors.Join(err, w.Cleanup()) }()
	for name, data := range map[string][]byte{"user-data": userData, "meta-data": metaData(id, address)} {
		if err := w.AddFile(bytes.NewReader(data), name); err != nil {
			return nil, fmt.Errorf("cannot stage the seed's %s: %w", name, err)
		}
	}
	var image bytes.Buffer
	if err := w.WriteTo(&image, seedLabel); err != nil {
		return nil, fmt.Errorf("cannot write the seed: %w", err)
	}
	forgetTimes(image.Bytes())
	return image.Bytes(), nil
}

// metaData is NoCloud's meta-data in YAML. address is zero when the network chooses it.
func metaData(id providers.Identity, address netip.Addr) []byte {
	text := fmt.Sprintf("instance-id: %q\nlocal-hostname: %q\n", id.ID(), id.Host)
	if address.IsValid() {
		text += fmt.Sprintf("local-ipv4: %q\n", address)
	}
	return []byte(text)
}

// forgetTimes makes the times of the primary volume descriptor unspecified (ECMA-119, 8.4.26 to 8.4.29).
func forgetTimes(image []byte) {
	const descriptor, length, count = 16 * 2048, 17, 4
	unspecified := []byte(strings.Repeat("0", length-1) + "\x00")
	for i := range count {
		copy(image[descriptor+813+i*length:], unspecified)
	}
}
